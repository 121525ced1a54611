//! The desktop's own notifications. Where there is no desktop, there is nobody to be told, which is
//! no failure.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use everfresh_application::ports::{Delivered, NotDelivered, NoticeMessage, Notifier};

/// How long a desktop may take to show a notification: its service may have to be started.
const LIMIT: Duration = Duration::from_secs(10);

/// What is done when a person clicks.
pub type OnClick = Arc<dyn Fn() + Send + Sync>;

/// Shows each notice on the desktop.
pub struct DesktopNotifier {
    desktop: platform::Desktop,
}

impl DesktopNotifier {
    /// Shows notices; `on_click` is called when a person clicks one, where the desktop tells of that.
    pub fn new(on_click: OnClick) -> Self {
        Self { desktop: platform::Desktop::new(on_click) }
    }

    /// The same on the D-Bus at `address`, which need not be the session's.
    #[cfg(target_os = "linux")]
    pub fn at_bus(address: String, on_click: OnClick) -> Self {
        Self { desktop: platform::Desktop::at_bus(address, on_click) }
    }
}

#[async_trait]
impl Notifier for DesktopNotifier {
    fn name(&self) -> &'static str {
        "desktop"
    }

    fn time_limit(&self) -> Duration {
        LIMIT
    }

    async fn deliver(&self, message: &NoticeMessage) -> Result<Delivered, NotDelivered> {
        self.desktop.show(&message.notice).await
    }
}

#[cfg(target_os = "linux")]
mod platform {
    //! org.freedesktop.Notifications, on the session bus.

    use std::collections::{BTreeSet, HashMap};
    use std::path::Path;
    use std::sync::{Arc, Mutex, PoisonError};

    use everfresh_application::ports::{Delivered, NotDelivered};
    use everfresh_domain::{Notice, NoticeKind};
    use futures_util::StreamExt;
    use tokio::task::AbortHandle;
    use zbus::zvariant::Value;

    use super::super::later;
    use super::OnClick;

    /// Notifications whose clicks are waited for; older ones have been seen or never will be.
    const CLICKABLE: usize = 64;

    /// Urgency of what keeps requests from working: it stays until it is seen.
    const CRITICAL: u8 = 2;
    const NORMAL: u8 = 1;

    /// Shown for as long as the desktop thinks right.
    const AS_USUAL: i32 = -1;

    #[zbus::proxy(
        interface = "org.freedesktop.Notifications",
        default_service = "org.freedesktop.Notifications",
        default_path = "/org/freedesktop/Notifications",
        gen_blocking = false
    )]
    trait Notifications {
        fn get_capabilities(&self) -> zbus::Result<Vec<String>>;

        #[expect(clippy::too_many_arguments, reason = "the specification of desktop notifications has so many")]
        fn notify(
            &self,
            app_name: &str,
            replaces_id: u32,
            app_icon: &str,
            summary: &str,
            body: &str,
            actions: &[&str],
            hints: HashMap<&str, Value<'_>>,
            expire_timeout: i32,
        ) -> zbus::Result<u32>;

        #[zbus(signal)]
        fn action_invoked(&self, id: u32, action_key: &str) -> zbus::Result<()>;
    }

    /// A connection that listens for clicks, and the notifications that they may be at.
    struct Session {
        proxy: NotificationsProxy<'static>,
        shown: Arc<Mutex<BTreeSet<u32>>>,
        listener: AbortHandle,
    }

    impl Drop for Session {
        fn drop(&mut self) {
            self.listener.abort();
        }
    }

    pub(super) struct Desktop {
        /// A bus other than the session's.
        address: Option<String>,
        on_click: OnClick,
        session: tokio::sync::Mutex<Option<Session>>,
    }

    impl Desktop {
        pub(super) fn new(on_click: OnClick) -> Self {
            Self { address: None, on_click, session: tokio::sync::Mutex::default() }
        }

        pub(super) fn at_bus(address: String, on_click: OnClick) -> Self {
            Self { address: Some(address), ..Self::new(on_click) }
        }

        pub(super) async fn show(&self, notice: &Notice) -> Result<Delivered, NotDelivered> {
            if self.address.is_none() && !has_session_bus() {
                return Ok(Delivered::Nobody("there is no desktop session here".to_owned()));
            }
            let mut session = self.session.lock().await;
            // One that was kept may be of a desktop that is gone: the second try has a new one.
            for kept in [true, false] {
                if !kept || session.is_none() {
                    *session = match self.connect().await {
                        Ok(connected) => Some(connected),
                        Err(error) => return Ok(Delivered::Nobody(format!("no notification service: {error}"))),
                    };
                }
                let Some(connected) = session.as_ref() else { continue };
                match connected.show(notice).await {
                    Ok(id) => return Ok(Delivered::Done(format!("shown as notification {id}"))),
                    Err(zbus::Error::MethodError(name, text, _)) if is_absent(&name) => {
                        let why = text.unwrap_or_else(|| name.to_string());
                        *session = None;
                        return Ok(Delivered::Nobody(format!("no notification service: {why}")));
                    }
                    Err(error) if !kept => return Err(later(error.to_string())),
                    Err(_) => {}
                }
            }
            Err(later("the desktop does not answer"))
        }

        async fn connect(&self) -> zbus::Result<Session> {
            let connection = match &self.address {
                Some(address) => zbus::connection::Builder::address(address.as_str())?.build().await?,
                None => zbus::Connection::session().await?,
            };
            let proxy = NotificationsProxy::new(&connection).await?;
            let mut clicks = proxy.receive_action_invoked().await?;
            let shown: Arc<Mutex<BTreeSet<u32>>> = Arc::default();
            let (ours, on_click) = (Arc::clone(&shown), Arc::clone(&self.on_click));
            let listening = async move {
                while let Some(click) = clicks.next().await {
                    let id = click.args().map(|click| click.id);
                    if id.is_ok_and(|id| ours.lock().unwrap_or_else(PoisonError::into_inner).remove(&id)) {
                        on_click();
                    }
                }
            };
            Ok(Session { proxy, shown, listener: tokio::spawn(listening).abort_handle() })
        }
    }

    impl Session {
        async fn show(&self, notice: &Notice) -> zbus::Result<u32> {
            let can = self.proxy.get_capabilities().await?;
            let has = |capability: &str| can.iter().any(|can| can == capability);
            let text = if has("body-markup") { escaped(&notice.text()) } else { notice.text() };
            let label = if notice.kind == NoticeKind::LoginNeeded { "Log in" } else { "Show" };
            let buttons = ["default", label, "open", label];
            let actions = if has("actions") { buttons.as_slice() } else { &[] };
            let urgency = if notice.kind == NoticeKind::LoginNeeded { CRITICAL } else { NORMAL };
            let hints = HashMap::from([("urgency", Value::from(urgency)), ("category", Value::from("network.error"))]);
            let title = notice.title();
            let shown = self.proxy.notify("everfresh", 0, "dialog-password", &title, &text, actions, hints, AS_USUAL);
            let id = shown.await?;
            let mut clickable = self.shown.lock().unwrap_or_else(PoisonError::into_inner);
            clickable.insert(id);
            while clickable.len() > CLICKABLE {
                clickable.pop_first();
            }
            Ok(id)
        }
    }

    /// Whether there may be a session bus: asked before connecting, so that a machine without a
    /// desktop is not bothered.
    fn has_session_bus() -> bool {
        let socket = |folder: std::ffi::OsString| Path::new(&folder).join("bus").exists();
        std::env::var_os("DBUS_SESSION_BUS_ADDRESS").is_some()
            || std::env::var_os("XDG_RUNTIME_DIR").is_some_and(socket)
    }

    /// Whether a bus says that nobody there shows notifications.
    fn is_absent(name: &str) -> bool {
        let absent = ["ServiceUnknown", "NameHasNoOwner", "Spawn.ServiceNotFound"];
        name.strip_prefix("org.freedesktop.DBus.Error.").is_some_and(|name| absent.contains(&name))
    }

    /// Text where markup is read: providers' words must not become some.
    fn escaped(text: &str) -> String {
        text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
    }
}

#[cfg(any(target_os = "macos", windows))]
mod platform {
    //! The system's notification centre. It tells of no click that could be waited for in bounded time.

    use everfresh_application::ports::{Delivered, NotDelivered};
    use everfresh_domain::Notice;

    use super::super::later;
    use super::OnClick;

    pub(super) struct Desktop;

    impl Desktop {
        pub(super) fn new(_on_click: OnClick) -> Self {
            Self
        }

        pub(super) async fn show(&self, notice: &Notice) -> Result<Delivered, NotDelivered> {
            let (title, text) = (notice.title(), notice.text());
            let show = move || {
                let mut notification = notify_rust::Notification::new();
                notification.appname("everfresh").summary(&title).body(&text).show().map(drop)
            };
            match tokio::task::spawn_blocking(show).await {
                Ok(Ok(())) => Ok(Delivered::Done("shown".to_owned())),
                Ok(Err(error)) => Err(later(error.to_string())),
                Err(_) => Err(later("showing it broke off by a defect")),
            }
        }
    }
}

#[cfg(not(any(target_os = "linux", target_os = "macos", windows)))]
mod platform {
    //! No notifications are known here.

    use everfresh_application::ports::{Delivered, NotDelivered};
    use everfresh_domain::Notice;

    use super::OnClick;

    pub(super) struct Desktop;

    impl Desktop {
        pub(super) fn new(_on_click: OnClick) -> Self {
            Self
        }

        pub(super) async fn show(&self, _notice: &Notice) -> Result<Delivered, NotDelivered> {
            Ok(Delivered::Nobody("notifications of this system are not known".to_owned()))
        }
    }
}
