//! An application over fakes: a store that survives crashes, a provider without sockets, and time
//! that only passes when nothing else is to be done.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use everfresh_application::access::Pass;
use everfresh_application::{Application, CallbackQuery, LoginFinished, LoginSettings, Parts, Route, ServerSettings};
use everfresh_domain::{GrantId, GrantStatus, Policy, Secret};
use everfresh_testkit::clock::{SeededEntropy, VirtualClock};
use everfresh_testkit::memory::MemoryStore;
use everfresh_testkit::metrics::CountingMetrics;
use everfresh_testkit::proof::TestProofs;
use everfresh_testkit::provider::{Behaviour, Counters, Model, ModelClient};
use everfresh_testkit::secrets::Variables;

pub(crate) const HOUR: Duration = Duration::from_secs(3_600);

pub(crate) struct World {
    pub(crate) store: MemoryStore,
    pub(crate) model: Arc<Mutex<Model>>,
    pub(crate) clock: Arc<VirtualClock>,
    pub(crate) metrics: Arc<CountingMetrics>,
    pub(crate) variables: Variables,
    pub(crate) app: Application,
}

pub(crate) fn grant() -> GrantId {
    "linear".parse().unwrap()
}

pub(crate) fn server() -> ServerSettings {
    ServerSettings::new(grant().server, "https://mcp.example/mcp")
}

impl World {
    /// A world in which nobody is logged in yet.
    pub(crate) async fn new(behaviour: Behaviour) -> Self {
        let world = Self::empty(behaviour).await;
        world.app.add_server(server()).await.unwrap();
        world
    }

    /// A world without any server.
    pub(crate) async fn empty(behaviour: Behaviour) -> Self {
        let mut model = Model::new(behaviour);
        model.issuer = "https://as.example".into();
        let store = MemoryStore::default();
        let (model, clock) = (Arc::new(Mutex::new(model)), Arc::new(VirtualClock::default()));
        let metrics = Arc::new(CountingMetrics::default());
        let variables = Variables::default();
        let app = start(&store, &model, &clock, &metrics, &variables).await;
        Self { store, model, clock, metrics, variables, app }
    }

    /// A world in which somebody has just logged in.
    pub(crate) async fn logged_in(behaviour: Behaviour) -> Self {
        let world = Self::new(behaviour).await;
        let finished = world.log_in().await;
        assert_eq!(finished.outcome, everfresh_domain::login::LoginOutcome::Succeeded);
        world
    }

    /// The process dies, and another one starts over the same store.
    pub(crate) async fn restart(self) -> Self {
        let Self { store, model, clock, metrics, variables, app } = self;
        drop(app);
        let app = start(&store, &model, &clock, &metrics, &variables).await;
        Self { store, model, clock, metrics, variables, app }
    }

    pub(crate) async fn log_in(&self) -> LoginFinished {
        self.log_in_as(&grant()).await
    }

    pub(crate) async fn log_in_as(&self, grant: &GrantId) -> LoginFinished {
        let started = self.app.start_login(grant, None).await.unwrap();
        let answer = self.answer_of_provider(&started.authorization_url);
        self.app.finish_login(answer).await.unwrap()
    }

    /// What the provider sends the person back with.
    pub(crate) fn answer_of_provider(&self, url: &str) -> CallbackQuery {
        let pairs = |query: &str| url::form_urlencoded::parse(query.as_bytes()).into_owned().collect();
        let reply = self.with(|model| model.authorize(&pairs(url.split_once('?').unwrap().1)));
        let location = &reply.headers.iter().find(|(name, _)| name == "location").unwrap().1;
        let query: std::collections::BTreeMap<String, String> = pairs(location.split_once('?').unwrap().1);
        CallbackQuery {
            code: query.get("code").map(Secret::new),
            state: query.get("state").map(Secret::new),
            iss: query.get("iss").cloned(),
            ..CallbackQuery::default()
        }
    }

    pub(crate) fn with<T>(&self, look: impl FnOnce(&mut Model) -> T) -> T {
        look(&mut self.model.lock().unwrap())
    }

    pub(crate) fn counters(&self) -> Counters {
        self.with(|model| model.counters)
    }

    pub(crate) fn route(&self) -> Arc<Route> {
        self.app.access().route("linear").unwrap()
    }

    pub(crate) fn status(&self) -> GrantStatus {
        self.app.server(&grant()).unwrap().status
    }

    pub(crate) fn reason(&self) -> &'static str {
        self.app.server(&grant()).unwrap().health.reason.as_str()
    }

    /// The generation of the token that a request would carry, after parking if need be.
    pub(crate) async fn generation_of_pass(&self) -> Option<u64> {
        match self.app.access().pass(&self.route()).await {
            Ok(Pass::Bearer(bearer)) => Some(bearer.generation.0),
            Ok(Pass::Anonymous) | Err(_) => None,
        }
    }
}

async fn start(
    store: &MemoryStore,
    model: &Arc<Mutex<Model>>,
    clock: &Arc<VirtualClock>,
    metrics: &Arc<CountingMetrics>,
    variables: &Variables,
) -> Application {
    let client = Arc::new(ModelClient::new(Arc::clone(model), Arc::clone(clock) as _));
    Application::start(Parts {
        store: Arc::new(store.clone()),
        oauth: Arc::clone(&client) as _,
        discovery: client,
        secrets: Arc::new(variables.clone()),
        clock: Arc::clone(clock) as _,
        proofs: Arc::new(TestProofs),
        entropy: Arc::new(SeededEntropy::new(11)),
        metrics: Arc::clone(metrics) as _,
        policy: Policy::default(),
        login: LoginSettings {
            client_id_metadata_url: None,
            redirect_uri: "http://127.0.0.1:7411/oauth/callback".into(),
        },
        servers: Vec::new(),
    })
    .await
    .unwrap()
}

/// Lets virtual time pass.
pub(crate) async fn pass(time: Duration) {
    tokio::time::sleep(time).await;
}
