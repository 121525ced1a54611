//! What is broken on purpose of the tray.

use super::Mutation;

/// Every mutation of these. Those of the surface are noticed where there is a `dbus-daemon`.
pub(super) const MUTATIONS: &[Mutation] = &[
    Mutation {
        what: "the tray asks for nobody while requests still work",
        file: "crates/tray/src/model.rs",
        text: r"        self.health.action == HealthAction::Login",
        instead: r"        self.health.action == HealthAction::Login && self.health.level == Level::Unhealthy",
        noticed_by: &["everfresh-tray"],
    },
    Mutation {
        what: "the tray takes a daemon that hangs for a quiet one",
        file: "crates/tray/src/daemon.rs",
        text: r"                Err(_) if self.lives(place).await => {}",
        instead: r"                Err(_) if self.lives(place).await || place.key.is_some() => {}",
        noticed_by: &["everfresh-tray"],
    },
    Mutation {
        what: "the tray shows a name with its underscore as an access key",
        file: "crates/tray/src/surface/status_notifier.rs",
        text: r#"    text.replace('_', "__")"#,
        instead: r#"    text.replace('_', "_")"#,
        noticed_by: &["everfresh-tray"],
    },
    Mutation {
        what: "the tray knows no key",
        file: "crates/tray/src/place.rs",
        text: r#"match fs::read_to_string(self.data.join(LOCAL_KEY)) {"#,
        instead: r#"match fs::read_to_string(self.data.join("local-keys")) {"#,
        noticed_by: &["everfresh-tray"],
    },
    Mutation {
        what: "the tray shows markup of others as markup",
        file: "crates/tray/src/surface/status_notifier.rs",
        text: r#".replace('<', "&lt;")"#,
        instead: r#".replace('<', "<")"#,
        noticed_by: &["everfresh-tray"],
    },
];
