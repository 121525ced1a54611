//! The contract of [`TokenStore`]: one async function for each promise.
//!
//! `reopen` closes the store and opens it again where an implementation outlives its process.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use everfresh_application::ports::{
    JournalEntry, JournalOutcome, LoadedGrant, RegistrationKey, StoreError, TokenStore,
};
use everfresh_application::{ResourceSetting, SecretSource, ServerSettings};
use everfresh_domain::grant::{AttemptMark, Binding, ClientAuthMethod, ClientRegistration, GrantType, RequestShape};
use everfresh_domain::timeline::Runs;
use everfresh_domain::{
    AttemptId, Budget, Failure, FailureClass, Generation, GrantId, GrantRecord, Secret, Timestamp, TokenSet,
};

/// A store under test, and how to open it again.
pub trait Subject: Send {
    /// The open store.
    fn store(&self) -> Arc<dyn TokenStore>;

    /// Closes it, and opens it again from what is durable.
    fn reopen(self) -> impl Future<Output = Self> + Send;
}

/// A whole record called `name` of `generation`; its tokens are made of both.
pub fn record(name: &str, generation: u64) -> GrantRecord {
    let id: GrantId = name.parse().expect("a valid name");
    let issued_at = Timestamp::from_millis(1_795_000_000_000);
    let tokens = TokenSet {
        access_token: Secret::new(format!("access-{name}-{generation}")),
        token_type: "Bearer".into(),
        issued_at,
        lifetime: Some(Duration::from_secs(3600)),
        refresh_in: None,
        refresh_token: Some(Secret::new(format!("refresh-{name}-{generation}"))),
        refresh_token_issued_at: Some(issued_at),
        refresh_token_lifetime: None,
        scopes: vec!["read".into()],
    };
    GrantRecord::logged_in(id, Generation(generation), binding(), tokens)
}

/// A binding as a login leaves it.
pub fn binding() -> Binding {
    Binding {
        upstream: "https://mcp.example/mcp".into(),
        token_endpoint: "https://as.example/token".into(),
        revocation_endpoint: None,
        grant_type: GrantType::AuthorizationCode,
        client: client("https://as.example"),
        resource: Some("https://mcp.example/mcp".into()),
        requested_scopes: vec!["read".into()],
        dpop_key: None,
        extra_params: Default::default(),
        shape: RequestShape::default(),
    }
}

fn client(issuer: &str) -> ClientRegistration {
    ClientRegistration {
        issuer: issuer.into(),
        client_id: "client".into(),
        client_secret: Some(Secret::new("client-secret")),
        private_key: None,
        auth_method: ClientAuthMethod::ClientSecretBasic,
        secret_expires_at: None,
        redirect_uris: vec!["http://127.0.0.1:7411/oauth/callback".into()],
    }
}

fn entry(number: u64) -> JournalEntry {
    let refresh_token = Secret::new("r").fingerprint();
    JournalEntry {
        attempt: AttemptId { run: 1, number },
        started_at: Timestamp::EPOCH,
        duration: Duration::from_millis(5),
        trigger: "schedule".into(),
        generation: Generation(number),
        refresh_token: Some(refresh_token),
        credential: None,
        outcome: JournalOutcome::Failed {
            failure: Failure::without_answer(FailureClass::Network, "no route"),
            ended: None,
        },
    }
}

/// Runs the whole contract; each promise gets a store of its own.
pub async fn all<S: Subject, F: Future<Output = S>>(fresh: impl Fn() -> F) {
    what_is_stored_is_read_again_also_after_opening_anew(fresh().await).await;
    a_write_that_expects_another_generation_changes_nothing(fresh().await).await;
    a_mark_of_the_same_generation_is_stored(fresh().await).await;
    of_many_writers_of_one_generation_one_wins(fresh().await).await;
    what_is_erased_stays_erased(fresh().await).await;
    all_grants_are_loaded(fresh().await).await;
    servers_and_registrations_are_kept(fresh().await).await;
    a_journal_is_newest_first_and_goes_with_its_grant(fresh().await).await;
    when_the_daemon_ran_is_known_after_opening_anew(fresh().await).await;
}

/// A record that was stored is read back, whole, also after opening the store anew.
pub async fn what_is_stored_is_read_again_also_after_opening_anew(subject: impl Subject) {
    let stored = record("linear", 1);
    assert_eq!(subject.store().read(&stored.id).await.expect("readable"), None);
    subject.store().replace(None, &stored).await.expect("stored");
    assert_eq!(subject.store().read(&stored.id).await.expect("readable").as_ref(), Some(&stored));
    let subject = subject.reopen().await;
    assert_eq!(subject.store().read(&stored.id).await.expect("readable"), Some(stored));
    assert!(subject.store().warnings().is_empty(), "{:?}", subject.store().warnings());
}

/// Compare-and-swap: the conflict names what is stored.
pub async fn a_write_that_expects_another_generation_changes_nothing(subject: impl Subject) {
    let store = subject.store();
    let stored = record("linear", 3);
    store.replace(None, &stored).await.expect("stored");
    for expected in [None, Some(Generation(2)), Some(Generation(4))] {
        let conflict = store.replace(expected, &record("linear", 9)).await;
        let known = Some(Generation(3));
        assert!(matches!(conflict, Err(StoreError::Conflict { stored, .. }) if stored == known), "{conflict:?}");
    }
    let nothing = store.replace(Some(Generation(1)), &record("other", 2)).await;
    assert!(matches!(nothing, Err(StoreError::Conflict { stored: None, .. })), "{nothing:?}");
    drop(store);
    assert_eq!(subject.reopen().await.store().read(&stored.id).await.expect("readable"), Some(stored));
}

/// The mark before an attempt changes no generation and must be as durable as tokens.
pub async fn a_mark_of_the_same_generation_is_stored(subject: impl Subject) {
    let stored = record("linear", 3);
    subject.store().replace(None, &stored).await.expect("stored");
    let mark = AttemptMark {
        attempt: AttemptId { run: 1, number: 1 },
        refresh_token: stored.sendable().expect("a refresh token"),
        started_at: Timestamp::from_millis(5),
    };
    let marked = stored.attempting(mark, Budget::default());
    subject.store().replace(Some(Generation(3)), &marked).await.expect("stored");
    assert_eq!(subject.reopen().await.store().read(&stored.id).await.expect("readable"), Some(marked));
}

/// Of writers that all expect the same generation, exactly one is told that it was first.
pub async fn of_many_writers_of_one_generation_one_wins(subject: impl Subject) {
    let store = subject.store();
    store.replace(None, &record("linear", 1)).await.expect("stored");
    let mut tasks = tokio::task::JoinSet::new();
    for generation in 2..40 {
        let store = Arc::clone(&store);
        tasks.spawn(async move { store.replace(Some(Generation(1)), &record("linear", generation)).await });
    }
    let results = tasks.join_all().await;
    assert_eq!(results.iter().filter(|result| result.is_ok()).count(), 1, "{results:?}");
}

/// An erased grant does not come back; erasing what is not there is fine.
pub async fn what_is_erased_stays_erased(subject: impl Subject) {
    let stored = record("linear", 1);
    subject.store().replace(None, &stored).await.expect("stored");
    subject.store().replace(None, &record("kept", 1)).await.expect("stored");
    subject.store().erase(&stored.id).await.expect("erased");
    subject.store().erase(&stored.id).await.expect("erased again");
    let subject = subject.reopen().await;
    assert_eq!(subject.store().read(&stored.id).await.expect("readable"), None);
    assert_eq!(subject.store().load().await.expect("loadable").len(), 1);
    subject.store().replace(None, &stored).await.expect("stored anew");
}

/// Everything is found at start, accounts as grants of their own.
pub async fn all_grants_are_loaded(subject: impl Subject) {
    for name in ["a", "b", "b@work", "b.c"] {
        subject.store().replace(None, &record(name, 1)).await.expect("stored");
    }
    let loaded = subject.reopen().await.store().load().await.expect("loadable");
    let mut names: Vec<String> = loaded
        .iter()
        .map(|grant| match grant {
            LoadedGrant::Record(record) => record.id.to_string(),
            LoadedGrant::Unreadable { grant, cause } => panic!("{grant}: {cause}"),
        })
        .collect();
    names.sort();
    assert_eq!(names, ["a", "b", "b.c", "b@work"]);
}

/// Servers and registrations are as durable as grants, and keyed as they should be.
pub async fn servers_and_registrations_are_kept(subject: impl Subject) {
    let mut server = ServerSettings::new("linear".parse().expect("a valid name"), "https://mcp.example/mcp");
    server.headers.insert("x-tenant".into(), "acme".into());
    server.oauth.client_secret = Some(SecretSource::Env("SECRET".into()));
    server.oauth.resource = ResourceSetting::Uri("https://mcp.example".into());
    let key = |issuer: &str| RegistrationKey {
        issuer: issuer.into(),
        redirect_uris: client(issuer).redirect_uris,
        dpop_bound: false,
    };
    let store = subject.store();
    store.put_server(&server).await.expect("stored");
    store.put_registration(&key("https://a"), &client("https://a")).await.expect("stored");
    drop(store);
    let subject = subject.reopen().await;
    let store = subject.store();
    assert_eq!(store.servers().await.expect("readable"), [server.clone()]);
    assert_eq!(store.registration(&key("https://a")).await.expect("readable"), Some(client("https://a")));
    assert_eq!(store.registration(&key("https://a/")).await.expect("readable"), None);
    store.erase_registration(&key("https://a")).await.expect("erased");
    store.erase_server(&server.name).await.expect("erased");
    drop(store);
    let store = subject.reopen().await.store();
    assert!(store.servers().await.expect("readable").is_empty());
    assert_eq!(store.registration(&key("https://a")).await.expect("readable"), None);
}

/// Journals are newest first, of one grant only, and end with it.
pub async fn a_journal_is_newest_first_and_goes_with_its_grant(subject: impl Subject) {
    let (linear, other): (GrantId, GrantId) = ("linear".parse().expect("valid"), "linear2".parse().expect("valid"));
    let store = subject.store();
    for number in 1..=3 {
        store.append_journal(&linear, &entry(number)).await.expect("appended");
    }
    store.append_journal(&other, &entry(9)).await.expect("appended");
    assert_eq!(store.journal(&linear, 2).await.expect("readable"), [entry(3), entry(2)]);
    store.erase(&linear).await.expect("erased");
    assert_eq!(store.journal(&linear, 2).await.expect("readable"), []);
    assert_eq!(store.journal(&other, 2).await.expect("readable"), [entry(9)]);
}

/// When the daemon ran is read back as it was last noted.
pub async fn when_the_daemon_ran_is_known_after_opening_anew(subject: impl Subject) {
    let mut runs = Runs::default();
    let store = subject.store();
    assert_eq!(store.runs().await.expect("readable"), runs);
    for second in [10, 20] {
        runs.see(Timestamp::from_millis(second * 1000));
        runs.switch(Timestamp::from_millis(second * 1000), ["linear".parse().expect("a name")].into());
        store.put_runs(&runs).await.expect("noted");
    }
    drop(store);
    assert_eq!(subject.reopen().await.store().runs().await.expect("readable"), runs);
}
