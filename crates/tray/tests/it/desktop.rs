//! A desktop as far as a tray sees it: a bus, a watcher of items, a person who looks and clicks, and
//! a browser.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::Write;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use futures_util::StreamExt;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, BufReader, Lines};
use tokio::net::unix::pipe;
use tokio::process::{Child, Command};
use tokio::sync::mpsc;
use tokio::time::timeout;
use zbus::zvariant::{DynamicType, ObjectPath, OwnedObjectPath, OwnedValue, Value};
use zbus::{Connection, MatchRule, Message, MessageStream, connection, message};

/// How long anything may take before the test fails.
const PATIENCE: Duration = Duration::from_secs(30);

/// `(width, height, pixels)`, several sizes.
type Pixmaps = Vec<(i32, i32, Vec<u8>)>;

/// `(id, properties, children)` of `com.canonical.dbusmenu`.
type Layout = (i32, HashMap<String, OwnedValue>, Vec<OwnedValue>);

/// A session bus with a watcher of items, and nothing else.
pub(crate) struct Desktop {
    _bus: Child,
    address: String,
    connection: Connection,
    items: mpsc::UnboundedReceiver<String>,
}

/// What registers items.
struct Watcher(mpsc::UnboundedSender<String>);

#[zbus::interface(name = "org.kde.StatusNotifierWatcher")]
impl Watcher {
    fn register_status_notifier_item(&self, service: &str) {
        self.0.send(service.to_owned()).expect("the test goes on");
    }

    #[zbus(property)]
    fn is_status_notifier_host_registered(&self) -> bool {
        true
    }
}

impl Desktop {
    /// None, and loudly, where there is no `dbus-daemon`.
    pub(crate) async fn start() -> Option<Self> {
        let mut bus = Command::new("dbus-daemon");
        bus.args(["--session", "--nofork", "--print-address"]).stdout(Stdio::piped()).kill_on_drop(true);
        let Ok(mut bus) = bus.spawn() else {
            let words = b"SKIPPED: no dbus-daemon here (Debian: dbus), so the tray was not shown to any desktop\n";
            drop(std::io::stdout().write_all(words));
            return None;
        };
        let mut lines = BufReader::new(bus.stdout.take().expect("it is piped")).lines();
        let address = timeout(PATIENCE, lines.next_line()).await.expect("the bus starts");
        let address = address.ok().flatten().expect("the bus says where it is");
        let (registered, items) = mpsc::unbounded_channel();
        let connection = watcher(&address, Watcher(registered)).await.expect("the watcher joins the bus");
        Some(Self { _bus: bus, address, connection, items })
    }

    /// Starts the tray on an empty data folder, and waits until its item is registered.
    pub(crate) async fn tray(mut self) -> Tray {
        let folder = tempfile::tempdir().expect("a folder can be made");
        let browser = folder.path().join("browser");
        std::fs::write(&browser, "#!/bin/sh\nprintf '%s\\n' \"$1\" > \"$0.opened\"\n").expect("the browser is written");
        std::fs::set_permissions(&browser, std::os::unix::fs::PermissionsExt::from_mode(0o700)).expect("it can be run");
        let opened = folder.path().join("browser.opened");
        assert!(Command::new("mkfifo").arg(&opened).status().await.is_ok_and(|status| status.success()));
        let opened = pipe::OpenOptions::new().read_write(true).open_receiver(&opened).expect("the pipe opens");
        let child = Command::new(env!("CARGO_BIN_EXE_everfresh-tray"))
            .arg("--data-dir")
            .arg(folder.path())
            .arg("--browser-cmd")
            .arg(&browser)
            .env("DBUS_SESSION_BUS_ADDRESS", &self.address)
            .env_remove("EVERFRESH_KEY")
            .env_remove("EVERFRESH_LISTEN")
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .expect("the tray starts");
        let item =
            timeout(PATIENCE, self.items.recv()).await.expect("the item is registered").expect("the watcher lives");
        Tray { child, folder, item, opened: BufReader::new(opened).lines(), desktop: self }
    }
}

/// The running tray.
pub(crate) struct Tray {
    child: Child,
    folder: tempfile::TempDir,
    item: String,
    opened: Lines<BufReader<pipe::Receiver>>,
    desktop: Desktop,
}

/// An item of the menu, whichever level it is on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct MenuItem {
    id: i32,
    pub(crate) label: String,
    pub(crate) enabled: bool,
}

/// What a person sees.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Seen {
    pub(crate) status: String,
    pub(crate) summary: String,
    pub(crate) details: String,
    /// A digest of its pixels.
    pub(crate) icon: u64,
    pub(crate) attention_icon: u64,
    pub(crate) menu: Vec<MenuItem>,
}

impl Tray {
    /// The data folder of its daemon.
    pub(crate) fn data(&self) -> &Path {
        self.folder.path()
    }

    /// What a person sees who looks twice: its properties are asked for one by one, and one of them
    /// may change in between.
    async fn see(&self) -> Seen {
        let mut before = self.glance().await;
        loop {
            let after = self.glance().await;
            if after == before {
                return after;
            }
            before = after;
        }
    }

    /// Looks at every change until it is what `wanted` says.
    pub(crate) async fn wait_for(&self, what: &str, wanted: impl Fn(&Seen) -> bool) -> Seen {
        let rule = MatchRule::builder().msg_type(message::Type::Signal).sender(self.item.as_str());
        let rule = rule.expect("the item has a name of the bus").build();
        let signals = MessageStream::for_match_rule(rule, &self.desktop.connection, Some(64)).await;
        let mut signals = signals.expect("the bus takes the rule");
        let look = async {
            loop {
                let seen = self.see().await;
                if wanted(&seen) {
                    return seen;
                }
                signals.next().await.expect("the bus lives").expect("a signal is whole");
            }
        };
        match timeout(PATIENCE, look).await {
            Ok(seen) => seen,
            Err(_) => panic!("not seen: {what}; but {:?}", self.see().await.summary),
        }
    }

    /// Clicks on the first enabled item with this label.
    pub(crate) async fn click(&self, label: &str) {
        let menu = self.menu().await;
        let item = menu.iter().find(|item| item.label == label && item.enabled).expect("the item is there");
        let body = (item.id, "clicked", Value::from(0), 0_u32);
        let path: OwnedObjectPath = self.property("Menu").await;
        self.call(&path, "com.canonical.dbusmenu", "Event", &body).await;
    }

    /// The next URL that the browser was opened with.
    pub(crate) async fn opened(&mut self) -> String {
        timeout(PATIENCE, self.opened.next_line())
            .await
            .expect("the browser is opened")
            .ok()
            .flatten()
            .expect("it says with what")
    }

    /// Ends it by a click, and returns what it said.
    pub(crate) async fn quit(mut self) -> String {
        self.click("Quit").await;
        let mut words = String::new();
        let mut stderr = self.child.stderr.take().expect("it is piped");
        let (ended, read) =
            timeout(PATIENCE, async { tokio::join!(self.child.wait(), stderr.read_to_string(&mut words)) })
                .await
                .expect("it ends");
        read.expect("its words are text");
        assert!(ended.is_ok_and(|status| status.success()), "{words}");
        words
    }

    async fn glance(&self) -> Seen {
        let (_, _, summary, details): (String, Pixmaps, String, String) = self.property("ToolTip").await;
        Seen {
            status: self.property("Status").await,
            summary,
            details,
            icon: digest(&self.property("IconPixmap").await),
            attention_icon: digest(&self.property("AttentionIconPixmap").await),
            menu: self.menu().await,
        }
    }

    async fn property<T>(&self, name: &str) -> T
    where
        T: TryFrom<OwnedValue, Error: std::fmt::Debug>,
    {
        let body = ("org.kde.StatusNotifierItem", name);
        let path = ObjectPath::from_static_str_unchecked("/StatusNotifierItem");
        let answer = self.call(&path, "org.freedesktop.DBus.Properties", "Get", &body).await;
        let value: OwnedValue = answer.body().deserialize().expect("a property has a value");
        value.try_into().expect("the value has its type")
    }

    async fn menu(&self) -> Vec<MenuItem> {
        let path: OwnedObjectPath = self.property("Menu").await;
        let body = (0, -1, Vec::<String>::new());
        let answer = self.call(&path, "com.canonical.dbusmenu", "GetLayout", &body).await;
        let layout: (u32, Layout) = answer.body().deserialize().expect("it is a layout");
        let mut items = Vec::new();
        for child in &layout.1.2 {
            collect(child, &mut items);
        }
        items
    }

    async fn call<B>(&self, path: &ObjectPath<'_>, interface: &str, method: &str, body: &B) -> Message
    where
        B: serde::Serialize + DynamicType + Sync,
    {
        let called = self.desktop.connection.call_method(Some(self.item.as_str()), path, Some(interface), method, body);
        called.await.unwrap_or_else(|error| panic!("{interface}.{method}: {error}"))
    }
}

async fn watcher(address: &str, watcher: Watcher) -> zbus::Result<Connection> {
    let connection = connection::Builder::address(address)?.serve_at("/StatusNotifierWatcher", watcher)?;
    connection.name("org.kde.StatusNotifierWatcher")?.build().await
}

/// An item and those below it, without the lines between.
fn collect(value: &Value<'_>, items: &mut Vec<MenuItem>) {
    let Value::Structure(node) = value else { panic!("no item: {value:?}") };
    let [Value::I32(id), Value::Dict(properties), Value::Array(children)] = node.fields() else {
        panic!("no item: {node:?}")
    };
    let label = properties.get::<_, String>(&"label").ok().flatten().unwrap_or_default();
    // What is left out has its default.
    let enabled = properties.get::<_, bool>(&"enabled").ok().flatten().unwrap_or(true);
    if !label.is_empty() {
        items.push(MenuItem { id: *id, label, enabled });
    }
    for child in children.iter() {
        let Value::Value(child) = child else { panic!("no item: {child:?}") };
        collect(child, items);
    }
}

/// Of a picture that is there.
fn digest(pixmaps: &Pixmaps) -> u64 {
    assert!(pixmaps.iter().all(|(width, height, pixels)| pixels.len() == (width * height * 4) as usize));
    assert_eq!(pixmaps.len(), 3);
    let mut hasher = DefaultHasher::new();
    pixmaps.hash(&mut hasher);
    hasher.finish()
}
