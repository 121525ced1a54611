//! Where a test lives: everfresh's surfaces on a free port, with a provider and a protected server.

use std::collections::BTreeMap;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::atomic::{AtomicI64, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use async_trait::async_trait;
use everfresh_application::ports::{Clock, Dialer, Secrets, UpstreamIo};
use everfresh_application::{
    Application, CallbackQuery, KeyRing, LocalKey, LoginSettings, NoticeDesk, NoticeParts, NoticeSettings,
    SecretSource, ServerSettings,
};
use everfresh_domain::login::LoginOutcome;
use everfresh_domain::{NoticeKind, NoticePolicy, Policy, Secret, Timestamp};
use everfresh_presentation::{Guard, KeyRule, Parts, Server};
use everfresh_testkit::canary;
use everfresh_testkit::clock::SeededEntropy;
use everfresh_testkit::mcp::McpServer;
use everfresh_testkit::memory::{MemoryKeys, MemoryStore};
use everfresh_testkit::metrics::CountingMetrics;
use everfresh_testkit::proof::TestProofs;
use everfresh_testkit::provider::{Behaviour, Counters, Model, ModelClient, ProviderServer};
use http::Uri;
use tokio::net::TcpStream;

/// The local key.
pub(crate) const KEY: &str = "0123456789abcdef";

/// How long anything in a test may take.
pub(crate) const LIMIT: Duration = Duration::from_secs(20);

/// Waits for `future`, and ends the test where that takes too long.
pub(crate) async fn within<T>(what: &str, future: impl Future<Output = T>) -> T {
    match tokio::time::timeout(LIMIT, future).await {
        Ok(value) => value,
        Err(_) => panic!("{what}: not within {LIMIT:?}"),
    }
}

/// Looks until something is so.
pub(crate) async fn until<T>(what: &str, look: impl Fn() -> Option<T>) -> T {
    let looking = async {
        loop {
            if let Some(found) = look() {
                return found;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    within(what, looking).await
}

/// The real time, and jumps.
#[derive(Debug)]
pub(crate) struct Wall {
    began: Instant,
    ahead_ms: AtomicI64,
}

impl Default for Wall {
    fn default() -> Self {
        Self { began: Instant::now(), ahead_ms: AtomicI64::new(0) }
    }
}

impl Wall {
    /// The machine sleeps for so long: the wall clock goes on, nothing else does.
    pub(crate) fn sleep(&self, duration: Duration) {
        self.ahead_ms.fetch_add(i64::try_from(duration.as_millis()).unwrap(), Ordering::SeqCst);
    }
}

impl Clock for Wall {
    fn now(&self) -> Timestamp {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
        let ms = i64::try_from(since.as_millis()).unwrap();
        Timestamp::from_millis(ms + self.ahead_ms.load(Ordering::SeqCst))
    }

    fn monotonic(&self) -> Duration {
        self.began.elapsed()
    }
}

/// Plain TCP, counted. Connections may be wrapped.
#[derive(Default)]
pub(crate) struct TcpDialer {
    dials: AtomicUsize,
    pub(crate) wrap: Mutex<Option<Wrap>>,
}

/// Makes something else of a connection.
pub(crate) type Wrap = fn(TcpStream) -> Box<dyn UpstreamIo>;

impl TcpDialer {
    /// How many connections were made.
    pub(crate) fn dials(&self) -> usize {
        self.dials.load(Ordering::SeqCst)
    }
}

#[async_trait]
impl Dialer for TcpDialer {
    async fn dial(&self, server: &ServerSettings) -> io::Result<Box<dyn UpstreamIo>> {
        let uri: Uri = server.url.parse().map_err(io::Error::other)?;
        let stream = TcpStream::connect(uri.authority().unwrap().as_str()).await?;
        stream.set_nodelay(true)?;
        self.dials.fetch_add(1, Ordering::SeqCst);
        let wrap = *self.wrap.lock().unwrap();
        Ok(match wrap {
            Some(wrap) => wrap(stream),
            None => Box::new(stream),
        })
    }
}

struct NoSecrets;

#[async_trait]
impl Secrets for NoSecrets {
    async fn resolve(&self, _source: &SecretSource) -> Result<Secret, String> {
        Err("there are none here".to_owned())
    }

    async fn resolve_whole(&self, source: &SecretSource) -> Result<Secret, String> {
        self.resolve(source).await
    }
}

/// An application over a model of a provider.
pub(crate) async fn application(model: Arc<Mutex<Model>>, clock: Arc<dyn Clock>, policy: Policy) -> Application {
    let client = Arc::new(ModelClient::new(model, Arc::clone(&clock)));
    let parts = everfresh_application::Parts {
        store: Arc::new(MemoryStore::default()),
        oauth: Arc::clone(&client) as _,
        discovery: client,
        secrets: Arc::new(NoSecrets),
        clock,
        proofs: Arc::new(TestProofs),
        entropy: Arc::new(SeededEntropy::new(7)),
        metrics: Arc::new(CountingMetrics::default()),
        policy,
        login: LoginSettings {
            client_id_metadata_url: None,
            redirect_uri: "http://127.0.0.1:7411/oauth/callback".to_owned(),
        },
        servers: Vec::new(),
    };
    Application::start(parts).await.unwrap()
}

/// The time as an application has it.
struct ApplicationClock(Application);

impl Clock for ApplicationClock {
    fn now(&self) -> Timestamp {
        self.0.now()
    }

    fn monotonic(&self) -> Duration {
        self.0.now().since(Timestamp::EPOCH)
    }
}

/// The ring with `key` as the full local key. `clock` says when a limited one is over.
async fn ring(key: &str, clock: Arc<dyn Clock>) -> Arc<KeyRing> {
    let (local, entropy) = (LocalKey::Kept(Secret::new(key)), Arc::new(SeededEntropy::new(next_seed())));
    Arc::new(KeyRing::open(&local, Arc::new(MemoryKeys::default()), clock, entropy).await)
}

/// The surfaces of an application.
pub(crate) async fn surfaces(
    application: &Application,
    key: Option<&str>,
    dialer: Arc<TcpDialer>,
    base_url: &str,
) -> Parts {
    let rule = if key.is_some() { KeyRule::Required } else { KeyRule::Off };
    let ring = ring(key.unwrap_or(KEY), Arc::new(ApplicationClock(application.clone()))).await;
    Parts {
        application: application.clone(),
        guard: Arc::new(Guard::new(ring, rule, vec!["proxy.test".to_owned()])),
        dialer,
        notices: notices(application),
        metrics: Arc::new(|| "everfresh_up 1\n".to_owned()),
        entropy: Arc::new(SeededEntropy::new(next_seed())),
        base_url: base_url.to_owned(),
        version: "0.0.0",
    }
}

/// A desk without any way out.
fn notices(application: &Application) -> NoticeDesk {
    let parts = NoticeParts {
        store: Arc::new(MemoryStore::default()),
        entropy: Arc::new(SeededEntropy::new(3)),
        metrics: Arc::new(CountingMetrics::default()),
    };
    let (kinds, policy) = (NoticeKind::ALL.into(), NoticePolicy::default());
    NoticeDesk::new(
        application.clone(),
        parts,
        NoticeSettings { kinds, policy, page: String::new(), sinks: Vec::new() },
    )
}

/// Another one for each life of the surfaces.
fn next_seed() -> u64 {
    static LAST: AtomicU64 = AtomicU64::new(8);
    LAST.fetch_add(1, Ordering::SeqCst)
}

/// Numbers that let a test be quick.
pub(crate) fn quick() -> Policy {
    Policy { min_spacing: Duration::from_millis(100), backoff_base: Duration::from_millis(100), ..Policy::default() }
}

/// The surfaces on a free port, and everything around them.
pub(crate) struct Home {
    pub(crate) provider: ProviderServer,
    pub(crate) upstream: McpServer,
    pub(crate) application: Application,
    pub(crate) clock: Arc<Wall>,
    pub(crate) dialer: Arc<TcpDialer>,
    pub(crate) address: SocketAddr,
    pub(crate) server: Server,
    pub(crate) guard: Arc<Guard>,
}

impl Home {
    /// With the local key, and a provider that works as most do.
    pub(crate) async fn start() -> Self {
        Self::of(Behaviour::default(), Some(KEY), quick()).await
    }

    /// The same, with `demo` added and logged in.
    pub(crate) async fn logged_in() -> Self {
        let home = Self::start().await;
        home.add("demo", &home.upstream.url()).await;
        home
    }

    pub(crate) async fn of(behaviour: Behaviour, key: Option<&str>, policy: Policy) -> Self {
        canary::watch_logs();
        key.into_iter().for_each(canary::keep);
        let provider = ProviderServer::start(Model::new(behaviour)).await.unwrap();
        let upstream = McpServer::start(&provider).await.unwrap();
        let clock = Arc::new(Wall::default());
        let dialer = Arc::new(TcpDialer::default());
        let application = application(provider.model(), Arc::clone(&clock) as _, policy).await;
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let parts = surfaces(&application, key, Arc::clone(&dialer), &format!("http://{address}")).await;
        let guard = Arc::clone(&parts.guard);
        let server = Server::start(&[listener], parts, 2).unwrap();
        Self { provider, upstream, application, clock, dialer, address, server, guard }
    }

    /// Adds a server and logs in to it.
    pub(crate) async fn add(&self, name: &str, url: &str) {
        self.add_only(name, url).await;
        self.log_in(name).await;
    }

    /// Adds a server.
    pub(crate) async fn add_only(&self, name: &str, url: &str) {
        self.application.add_server(ServerSettings::new(name.parse().unwrap(), url)).await.unwrap();
    }

    pub(crate) async fn log_in(&self, name: &str) {
        assert_eq!(self.try_log_in(name).await, LoginOutcome::Succeeded);
    }

    /// Logs in to a server, and tells how that ended.
    pub(crate) async fn try_log_in(&self, name: &str) -> LoginOutcome {
        let started = self.application.start_login(&name.parse().unwrap(), None).await.unwrap();
        let given = query_of(&self.approve(&started.authorization_url));
        let answer = CallbackQuery {
            code: given.get("code").map(|code| Secret::new(code.as_str())),
            state: given.get("state").map(|state| Secret::new(state.as_str())),
            iss: given.get("iss").cloned(),
            ..CallbackQuery::default()
        };
        self.application.finish_login(answer).await.unwrap().outcome
    }

    /// A person says yes at the provider; where that leads.
    pub(crate) fn approve(&self, authorization_url: &str) -> String {
        let query = query_of(authorization_url);
        query.get("state").into_iter().for_each(|state| canary::keep(state));
        let reply = self.provider.with(|model| model.authorize(&query));
        reply.headers.iter().find(|(name, _)| name == "location").unwrap().1.clone()
    }

    /// What the provider has seen.
    pub(crate) fn counters(&self) -> Counters {
        self.provider.with(|model| model.counters)
    }
}

/// The parameters in a URL's query.
pub(crate) fn query_of(url: &str) -> BTreeMap<String, String> {
    let query = url.split_once('?').map_or("", |(_, query)| query);
    url::form_urlencoded::parse(query.as_bytes()).into_owned().collect()
}
