//! Linux and the other free desktops: a StatusNotifierItem with its menu, over D-Bus
//! (freedesktop.org, "StatusNotifierItem"; canonical's `com.canonical.dbusmenu`).

use ksni::menu::{StandardItem, SubMenu};
use ksni::{Category, Handle, Icon, MenuItem, OfflineReason, Status, ToolTip, Tray, TrayMethods};
use tokio::sync::mpsc;

use super::{CLICKS_BOUND, ID, runtime};
use crate::icon::Picture;
use crate::model::{Command, Entry, Sign, View, World};

/// Sides of the icons that are offered: panels of usual height, at one and two times the pixels.
const SIZES: [u32; 3] = [22, 32, 48];

/// Shows views.
pub(crate) struct Surface {
    handle: Handle<Item>,
}

/// What the desktop asks about.
struct Item {
    view: View,
    clicks: mpsc::Sender<Command>,
}

/// Registers the item, and runs `app` until it ends. A desktop whose tray is not there yet, or is
/// restarted, gets the item when it comes.
pub(crate) fn run<App, Running>(app: App) -> Result<(), String>
where
    App: FnOnce(Surface, mpsc::Receiver<Command>) -> Running,
    Running: Future<Output = ()>,
{
    let runtime = runtime().map_err(|error| error.to_string())?;
    runtime.block_on(async {
        let (clicks, commands) = mpsc::channel(CLICKS_BOUND);
        let item = Item { view: World::default().view(), clicks };
        let handle = item.assume_sni_available(true).spawn().await.map_err(|error| error.to_string())?;
        app(Surface { handle: handle.clone() }, commands).await;
        handle.shutdown().await;
        Ok(())
    })
}

impl Surface {
    /// Shows `view` from now on.
    pub(crate) async fn show(&self, view: View) {
        // None where the item has ended, and with it its clicks: the loop ends as well.
        let _ = self.handle.update(|item| item.view = view).await;
    }
}

impl Tray for Item {
    /// There is no window to open: a click is for the menu.
    const MENU_ON_ACTIVATE: bool = true;

    fn id(&self) -> String {
        ID.to_owned()
    }

    fn category(&self) -> Category {
        Category::SystemServices
    }

    fn title(&self) -> String {
        "everfresh".to_owned()
    }

    fn status(&self) -> Status {
        if self.view.wants_attention { Status::NeedsAttention } else { Status::Active }
    }

    fn icon_pixmap(&self) -> Vec<Icon> {
        SIZES.map(|size| pixmap(self.view.sign, size)).into()
    }

    fn attention_icon_pixmap(&self) -> Vec<Icon> {
        self.icon_pixmap()
    }

    fn tool_tip(&self) -> ToolTip {
        let description = self.view.details.iter().map(|line| as_markup(line)).collect::<Vec<_>>().join("<br/>");
        ToolTip { title: self.view.summary.clone(), description, ..ToolTip::default() }
    }

    fn menu(&self) -> Vec<MenuItem<Self>> {
        self.view.menu.iter().map(item).collect()
    }

    fn watcher_offline(&self, reason: OfflineReason) -> bool {
        let cause = if let OfflineReason::Error(error) = reason { error.to_string() } else { String::new() };
        tracing::warn!(
            cause,
            "no tray shows the icon at present; it comes when there is one (GNOME needs the extension AppIndicator)"
        );
        true
    }
}

fn item(entry: &Entry) -> MenuItem<Item> {
    match entry {
        Entry::Words(words) => {
            StandardItem { label: as_label(words), enabled: false, ..StandardItem::default() }.into()
        }
        Entry::Act(label, command) => {
            let command = command.clone();
            let click = move |item: &mut Item| {
                // A full queue drops the click: those before it are not even begun.
                let _ = item.clicks.try_send(command.clone());
            };
            StandardItem { label: as_label(label), activate: Box::new(click), ..StandardItem::default() }.into()
        }
        Entry::Menu(label, entries) => {
            let submenu = entries.iter().map(item).collect();
            SubMenu { label: as_label(label), submenu, ..SubMenu::default() }.into()
        }
        Entry::Line => MenuItem::Separator,
    }
}

/// A lone underscore would mark the access key.
fn as_label(text: &str) -> String {
    text.replace('_', "__")
}

/// The description of a tooltip is markup, its title is not.
fn as_markup(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

/// Opacity first, in network byte order.
fn pixmap(sign: Sign, size: u32) -> Icon {
    let Picture { size, mut rgba } = Picture::of(sign, size);
    rgba.chunks_exact_mut(4).for_each(|pixel| pixel.rotate_right(1));
    let side = i32::try_from(size).unwrap_or_default();
    Icon { width: side, height: side, data: rgba }
}
