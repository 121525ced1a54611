//! What is broken on purpose of local keys and of what hands out tokens.

use super::Mutation;

/// Every mutation of these.
pub(super) const MUTATIONS: &[Mutation] = &[
    Mutation {
        what: "a limited key opens every server",
        file: "crates/domain/src/key.rs",
        text: r"(self.servers.is_empty() || self.servers.contains(&served)).then_some(served)",
        instead: r"Some(served)",
        noticed_by: &["everfresh-domain"],
    },
    Mutation {
        what: "a key of an account opens the others",
        file: "crates/domain/src/key.rs",
        text: r"    let is_bare = grant.account == AccountName::default();",
        instead: r"    let is_bare = grant.account.as_str().len() > 1;",
        noticed_by: &["everfresh-domain"],
    },
    Mutation {
        what: "a limited key may change everything",
        file: "crates/presentation/src/guard/caller.rs",
        text: r"            Purpose::Owner => false,",
        instead: r"            Purpose::Owner => true,",
        noticed_by: &["everfresh-presentation"],
    },
    Mutation {
        what: "a key for requests is handed tokens",
        file: "crates/presentation/src/guard/caller.rs",
        text: r"let hands_out = held.key.scope.right() == KeyRight::Tokens;",
        instead: r"let hands_out = held.key.scope.right() >= KeyRight::DataPlane;",
        noticed_by: &["everfresh-presentation"],
    },
    Mutation {
        what: "a limited key is told of every server",
        file: "crates/presentation/src/guard/caller.rs",
        text: r"            Self::Limited(held) => held.key.scope.opens(grant),",
        instead: r"            Self::Limited(held) => held.key.scope.opens(grant) || grant.to_string().len() > 1,",
        noticed_by: &["everfresh-presentation"],
    },
    Mutation {
        what: "the widest key counts",
        file: "crates/presentation/src/guard.rs",
        text: r"                Shown::Limited(held) => return Ok(Some(Caller::Limited(held))),",
        instead: r"                Shown::Limited(held) => known = known.or(Some(Caller::Limited(held))),",
        noticed_by: &["everfresh-presentation"],
    },
    Mutation {
        what: "a link to the page outlives its key",
        file: "crates/presentation/src/guard.rs",
        text: r"        if sessions.opened_under != key {",
        instead: r"        if sessions.opened_under != key && sessions.links.len() > 9 {",
        noticed_by: &["everfresh-presentation"],
    },
    Mutation {
        what: "events outlive their key",
        file: "crates/presentation/src/api/events.rs",
        text: r"        if shared.guard.keys().local() != opened_under {",
        instead: r"        if shared.guard.keys().local() != opened_under && shared.run.is_empty() {",
        noticed_by: &["everfresh-presentation"],
    },
    Mutation {
        what: "a key that is over opens",
        file: "crates/application/src/keys.rs",
        text: r"        if held.key.is_over(now) {",
        instead: r"        if held.key.is_over(now) && table.limited.is_empty() {",
        noticed_by: &["everfresh-application"],
    },
    Mutation {
        what: "a removed key opens until a restart",
        file: "crates/application/src/keys.rs",
        text: r"        self.table.store(Arc::new(Table { local, limited }));",
        instead: r"        drop((local, limited));",
        noticed_by: &["everfresh-application"],
    },
    Mutation {
        what: "keys in force that are not kept",
        file: "crates/application/src/keys.rs",
        text: r"        self.files.save(&kept).await?;",
        instead: r"        drop(self.files.save(&kept).await);",
        noticed_by: &["everfresh-application"],
    },
    Mutation {
        what: "unreadable keys written over",
        file: "crates/application/src/keys.rs",
        text: r"        if let Some(unreadable) = &editing.unreadable {",
        instead: r"        if let Some(unreadable) = editing.unreadable.as_ref().filter(|_| limited.is_empty()) {",
        noticed_by: &["everfresh-application"],
    },
    Mutation {
        what: "a local key in force that is not kept",
        file: "crates/application/src/keys.rs",
        text: r"        self.files.save_local_key(&secret).await?;",
        instead: r"        drop(self.files.save_local_key(&secret).await);",
        noticed_by: &["everfresh-application"],
    },
    Mutation {
        what: "short tokens handed out as lasting",
        file: "crates/application/src/app.rs",
        text: r"        if !is_short() {",
        instead: r"        if !is_short() || !token.token_type.is_empty() {",
        noticed_by: &["everfresh-application"],
    },
    Mutation {
        what: "git's token for any host",
        file: "crates/everfresh/src/token/git.rs",
        text: r"known.origin() == asked.origin())",
        instead: r"known.origin() == asked.origin() || known.has_host())",
        noticed_by: &["everfresh"],
    },
    Mutation {
        what: "git's token in clear to other machines",
        file: "crates/everfresh/src/token/git.rs",
        text: r#"Some(Host::Domain(name)) => name == "localhost","#,
        instead: r"Some(Host::Domain(name)) => !name.is_empty(),",
        noticed_by: &["everfresh"],
    },
];
