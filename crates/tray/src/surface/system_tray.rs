//! macOS and Windows: an icon of the menu bar or the notification area, by `tray-icon`.
//!
//! Both want it on the main thread, in an event loop that runs (`tray-icon`'s notes on platforms).
//! The loop of `app` has a thread of its own, and the two wake each other.

use std::collections::HashMap;
use std::thread;

use tokio::sync::mpsc;
use tray_icon::menu::{IsMenuItem, Menu, MenuEvent, MenuId, MenuItem, PredefinedMenuItem, Submenu};
use tray_icon::{Icon, TrayIcon, TrayIconBuilder};
use winit::application::ApplicationHandler;
use winit::error::EventLoopError;
use winit::event::{StartCause, WindowEvent};
use winit::event_loop::{ActiveEventLoop, EventLoop, EventLoopProxy};
use winit::window::WindowId;

use super::{CLICKS_BOUND, ID, runtime};
use crate::icon::Picture;
use crate::model::{Command, Entry, Sign, View, World};

/// The side of the icon, which both systems scale.
const SIZE: u32 = 44;

/// Windows shows 127 characters of a tooltip.
const TOOLTIP_MAX: usize = 127;

/// Shows views.
pub(crate) struct Surface {
    desktop: EventLoopProxy<Wake>,
}

/// What the main thread wakes for.
enum Wake {
    Show(View),
    Clicked(MenuId),
    Ended,
}

/// The main thread's side.
struct Desktop {
    icon: Option<TrayIcon>,
    view: View,
    /// What the entries of the menu that is shown stand for.
    commands: HashMap<MenuId, Command>,
    clicks: mpsc::Sender<Command>,
    failure: Option<tray_icon::Error>,
}

/// Shows the icon, and runs `app` until it ends.
pub(crate) fn run<App, Running>(app: App) -> Result<(), String>
where
    App: FnOnce(Surface, mpsc::Receiver<Command>) -> Running + Send + 'static,
    Running: Future<Output = ()>,
{
    let text = |error: &dyn std::error::Error| error.to_string();
    let events = event_loop().map_err(|error| text(&error))?;
    let (clicks, commands) = mpsc::channel(CLICKS_BOUND);
    // Where the main thread has ended, there is nobody to wake: `send_event` fails, and may.
    let desktop = events.create_proxy();
    MenuEvent::set_event_handler(Some(move |event: MenuEvent| drop(desktop.send_event(Wake::Clicked(event.id)))));
    let desktop = events.create_proxy();
    let runtime = runtime().map_err(|error| text(&error))?;
    let looped = move || {
        runtime.block_on(app(Surface { desktop: desktop.clone() }, commands));
        drop(desktop.send_event(Wake::Ended));
    };
    thread::Builder::new().name("app".to_owned()).spawn(looped).map_err(|error| text(&error))?;
    let view = World::default().view();
    let mut desktop = Desktop { icon: None, view, commands: HashMap::new(), clicks, failure: None };
    events.run_app(&mut desktop).map_err(|error| text(&error))?;
    desktop.failure.map_or(Ok(()), |error| Err(text(&error)))
}

/// In the menu bar alone: neither in the Dock nor among the windows.
#[cfg(target_os = "macos")]
fn event_loop() -> Result<EventLoop<Wake>, EventLoopError> {
    use winit::platform::macos::{ActivationPolicy, EventLoopBuilderExtMacOS};
    EventLoop::with_user_event().with_activation_policy(ActivationPolicy::Accessory).build()
}

#[cfg(not(target_os = "macos"))]
fn event_loop() -> Result<EventLoop<Wake>, EventLoopError> {
    EventLoop::with_user_event().build()
}

impl Surface {
    /// Shows `view` from now on.
    pub(crate) async fn show(&self, view: View) {
        drop(self.desktop.send_event(Wake::Show(view)));
    }
}

impl ApplicationHandler<Wake> for Desktop {
    fn new_events(&mut self, events: &ActiveEventLoop, cause: StartCause) {
        if cause == StartCause::Init {
            let built = TrayIconBuilder::new().with_id(ID).build().and_then(|icon| {
                self.icon = Some(icon);
                self.draw()
            });
            self.keep(events, built);
        }
    }

    fn resumed(&mut self, _events: &ActiveEventLoop) {}

    fn window_event(&mut self, _events: &ActiveEventLoop, _window: WindowId, _event: WindowEvent) {}

    fn user_event(&mut self, events: &ActiveEventLoop, wake: Wake) {
        match wake {
            Wake::Show(view) => {
                self.view = view;
                let drawn = self.draw();
                self.keep(events, drawn);
            }
            Wake::Clicked(id) => {
                if let Some(command) = self.commands.get(&id) {
                    // A full queue drops the click: those before it are not even begun.
                    drop(self.clicks.try_send(command.clone()));
                }
            }
            Wake::Ended => events.exit(),
        }
    }
}

impl Desktop {
    fn draw(&mut self) -> tray_icon::Result<()> {
        let Some(icon) = &self.icon else { return Ok(()) };
        let mut commands = HashMap::new();
        let menu = Menu::new();
        for item in self.view.menu.iter().filter_map(|entry| item(entry, &mut commands)) {
            // An entry that the system refuses is left out; the rest is of use without it.
            drop(menu.append(&*item));
        }
        self.commands = commands;
        icon.set_menu(Some(Box::new(menu)));
        icon.set_tooltip(Some(tooltip(&self.view)))?;
        icon.set_icon(picture(self.view.sign))
    }

    /// An icon that cannot be shown ends the tray.
    fn keep(&mut self, events: &ActiveEventLoop, done: tray_icon::Result<()>) {
        if let Err(error) = done {
            self.failure = Some(error);
            events.exit();
        }
    }
}

fn item(entry: &Entry, commands: &mut HashMap<MenuId, Command>) -> Option<Box<dyn IsMenuItem>> {
    Some(match entry {
        Entry::Words(words) => Box::new(MenuItem::new(as_label(words), false, None)),
        Entry::Act(label, command) => {
            let item = MenuItem::new(as_label(label), true, None);
            commands.insert(item.id().clone(), command.clone());
            Box::new(item)
        }
        Entry::Menu(label, entries) => {
            let submenu = Submenu::new(as_label(label), true);
            for item in entries.iter().filter_map(|entry| item(entry, commands)) {
                submenu.append(&*item).ok()?;
            }
            Box::new(submenu)
        }
        Entry::Line => Box::new(PredefinedMenuItem::separator()),
    })
}

/// A lone ampersand would mark the access key.
fn as_label(text: &str) -> String {
    text.replace('&', "&&")
}

fn tooltip(view: &View) -> String {
    let lines = std::iter::once(&view.summary).chain(&view.details).map(String::as_str);
    lines.collect::<Vec<_>>().join("\n").chars().take(TOOLTIP_MAX).collect()
}

fn picture(sign: Sign) -> Option<Icon> {
    let Picture { size, rgba } = Picture::of(sign, SIZE);
    Icon::from_rgba(rgba, size, size).ok()
}
