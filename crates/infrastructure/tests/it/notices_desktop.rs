//! A desktop: a D-Bus of the test's own, and on it what shows notifications.

use std::collections::HashMap;
use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use everfresh_application::ports::{Delivered, Notifier};
use everfresh_infrastructure::notices::DesktopNotifier;
use tokio::sync::mpsc;
use zbus::object_server::SignalEmitter;
use zbus::zvariant::OwnedValue;

use crate::notices::message;

const LIMIT: Duration = Duration::from_secs(10);
const PATH: &str = "/org/freedesktop/Notifications";

/// A private bus; it ends with the test.
struct Bus {
    address: String,
    daemon: Child,
}

impl Bus {
    /// Nothing, loudly, where there is no `dbus-daemon` to test with.
    #[expect(clippy::print_stderr, reason = "what is skipped is said to whoever runs the tests")]
    fn start() -> Option<Self> {
        let started = Command::new("dbus-daemon")
            .args(["--session", "--nofork", "--print-address"])
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn();
        let Ok(mut daemon) = started else {
            eprintln!("SKIPPED: there is no dbus-daemon on this machine; install it to test notifications");
            return None;
        };
        let mut address = String::new();
        BufReader::new(daemon.stdout.take().unwrap()).read_line(&mut address).unwrap();
        Some(Self { address: address.trim().to_owned(), daemon })
    }
}

impl Drop for Bus {
    fn drop(&mut self) {
        drop(self.daemon.kill());
        drop(self.daemon.wait());
    }
}

/// What was shown: title, text, actions, urgency.
type Shown = (String, String, Vec<String>, Option<u8>);

/// What shows notifications, with markup and buttons.
#[derive(Default)]
struct Shell {
    shown: Arc<Mutex<Vec<Shown>>>,
}

#[zbus::interface(name = "org.freedesktop.Notifications")]
impl Shell {
    fn get_capabilities(&self) -> Vec<String> {
        ["body", "body-markup", "actions"].map(str::to_owned).into()
    }

    #[expect(clippy::too_many_arguments, reason = "the specification of desktop notifications has so many")]
    fn notify(
        &self,
        _app_name: &str,
        _replaces_id: u32,
        _app_icon: &str,
        summary: &str,
        body: &str,
        actions: Vec<String>,
        hints: HashMap<String, OwnedValue>,
        _expire_timeout: i32,
    ) -> u32 {
        let urgency = hints.get("urgency").and_then(|urgency| u8::try_from(urgency).ok());
        let mut shown = self.shown.lock().unwrap();
        shown.push((summary.to_owned(), body.to_owned(), actions, urgency));
        u32::try_from(shown.len()).unwrap()
    }

    #[zbus(signal)]
    async fn action_invoked(emitter: &SignalEmitter<'_>, id: u32, action_key: &str) -> zbus::Result<()>;
}

async fn serve(bus: &Bus, shell: Shell) -> zbus::Connection {
    let builder = zbus::connection::Builder::address(bus.address.as_str()).unwrap();
    let named = builder.name("org.freedesktop.Notifications").unwrap().serve_at(PATH, shell).unwrap();
    named.build().await.unwrap()
}

#[tokio::test]
async fn a_desktop_shows_a_notice_and_a_click_is_heard_once() {
    let Some(bus) = Bus::start() else { return };
    let shell = Shell::default();
    let shown = Arc::clone(&shell.shown);
    let desktop = serve(&bus, shell).await;
    let (clicked, mut clicks) = mpsc::unbounded_channel();
    let on_click = Arc::new(move || clicked.send(()).expect("the test listens"));
    let notifier = DesktopNotifier::at_bus(bus.address.clone(), on_click);
    let done = notifier.deliver(&message()).await.unwrap();
    assert_eq!(done, Delivered::Done("shown as notification 1".into()));
    let (title, text, actions, urgency) = shown.lock().unwrap()[0].clone();
    assert_eq!(title, "linear: login needed");
    assert_eq!(text, "Refresh token &lt;expired&gt; &amp; gone\neverfresh login linear");
    assert_eq!(actions, ["default", "Log in", "open", "Log in"]);
    assert_eq!(urgency, Some(2));
    let emitter = SignalEmitter::new(&desktop, PATH).unwrap();
    // Of others, and twice the same: one click of ours is left.
    for id in [99, 1, 1] {
        Shell::action_invoked(&emitter, id, "open").await.unwrap();
    }
    tokio::time::timeout(LIMIT, clicks.recv()).await.unwrap().unwrap();
    assert_eq!(notifier.deliver(&message()).await.unwrap(), Delivered::Done("shown as notification 2".into()));
    Shell::action_invoked(&emitter, 2, "default").await.unwrap();
    tokio::time::timeout(LIMIT, clicks.recv()).await.unwrap().unwrap();
    assert!(clicks.is_empty());
}

#[tokio::test]
async fn without_anybody_who_shows_notifications_nobody_is_told() {
    let Some(bus) = Bus::start() else { return };
    let notifier = DesktopNotifier::at_bus(bus.address.clone(), Arc::new(|| ()));
    let nobody = notifier.deliver(&message()).await.unwrap();
    assert!(matches!(&nobody, Delivered::Nobody(why) if why.contains("no notification service")), "{nobody:?}");
    let shell = serve(&bus, Shell::default()).await;
    assert!(matches!(notifier.deliver(&message()).await, Ok(Delivered::Done(_))), "it has come meanwhile");
    shell.close().await.unwrap();
    drop(bus);
    let gone = notifier.deliver(&message()).await.unwrap();
    assert!(matches!(gone, Delivered::Nobody(_)), "{gone:?}");
}
