//! What is broken on purpose of the page, and of the logins that it shows.

use super::Mutation;

/// Every mutation of these.
pub(super) const MUTATIONS: &[Mutation] = &[
    Mutation {
        what: "take a cookie of the page whoever signed it",
        file: "crates/presentation/src/cookie.rs",
        text: r"        is_ours && until",
        instead: r"        (is_ours || !tag.is_empty()) && until",
        noticed_by: &["everfresh-presentation"],
    },
    Mutation {
        what: "let a cookie of the page last for ever",
        file: "crates/presentation/src/cookie.rs",
        text: r"now < until && until <= now.after(LIFETIME)",
        instead: r"now < until || until <= now.after(LIFETIME)",
        noticed_by: &["everfresh-presentation"],
    },
    Mutation {
        what: "sign the page's cookies with no key",
        file: "crates/presentation/src/cookie.rs",
        text: r#"mac(local_key, KEY, "")"#,
        instead: r#"mac(&local_key[..0], KEY, "")"#,
        noticed_by: &["everfresh-presentation"],
    },
    Mutation {
        what: "let the page's cookie open the API without its proof",
        file: "crates/presentation/src/guard.rs",
        text: r"if self.cookies().is_proven(now, headers) &&",
        instead: r"if self.has_cookie(now, headers) &&",
        noticed_by: &["everfresh-presentation"],
    },
    Mutation {
        what: "take any proof beside a good cookie",
        file: "crates/presentation/src/cookie.rs",
        text: r"verify_slice(&proof).is_ok())",
        instead: r"verify_slice(&proof).is_ok() || !proof.is_empty())",
        noticed_by: &["everfresh-presentation"],
    },
    Mutation {
        what: "let the page name files that the daemon reads",
        file: "crates/presentation/src/api/servers.rs",
        text: r"if new.names_files() && matches!(caller, Caller::Page) {",
        instead: r"if new.names_files() && new.name.is_empty() {",
        noticed_by: &["everfresh-presentation"],
    },
    Mutation {
        what: "let a look at a link use it up",
        file: "crates/presentation/src/page/mod.rs",
        text: r"if method == Method::HEAD {",
        instead: r"if method == Method::OPTIONS {",
        noticed_by: &["everfresh-presentation"],
    },
    Mutation {
        what: "take back a login whose answer is there",
        file: "crates/application/src/login/mod.rs",
        text: r"grant.filter(|grant| pending.logins.is_awaited(grant, flow))",
        instead: r"grant.filter(|grant| pending.logins.is_awaited(grant, flow) || flow.0 != 0)",
        noticed_by: &["everfresh-application"],
    },
    Mutation {
        what: "tell nobody that a login has begun or ended",
        file: "crates/application/src/login/mod.rs",
        text: r"        self.parts.events.publish(self.parts.clock.now(), grant.clone(), PublicEventKind::ServersChanged);",
        instead: r"        let _ = (&self.parts.events, grant, PublicEventKind::ServersChanged);",
        noticed_by: &["everfresh-application"],
    },
];
