//! From a configuration to a running application: the one place where the layers meet.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::time::Duration;

use everfresh_application::ports::{Clock, Entropy, TokenStore};
use everfresh_application::{Application, KeyRing, LoginSettings, NoticeDesk, NoticeParts, Parts as ApplicationParts};
use everfresh_infrastructure::custody::{CustodyError, KeyOrigin, KeySource, Keychain, master_key};
use everfresh_infrastructure::dialer::NetDialer;
use everfresh_infrastructure::http::HttpFactory;
use everfresh_infrastructure::keys::KeyFolder;
use everfresh_infrastructure::metrics::PrometheusMetrics;
use everfresh_infrastructure::oauth::HttpOAuth;
use everfresh_infrastructure::proof::Es256Proofs;
use everfresh_infrastructure::secrets::SystemSecrets;
use everfresh_infrastructure::store::{OpenError, SledStore, has_records};
use everfresh_infrastructure::system::{SystemClock, SystemEntropy};
use everfresh_presentation::{Guard, KeyRule, Parts as SurfaceParts};
use zeroize::Zeroizing;

use crate::config::{Config, LocalKeyRule, MasterKeySource};
use crate::exit::{Exit, Failure};
use crate::local_key;
use crate::notices::Ways;
use crate::paths::Paths;

/// How often samples of metrics are folded together.
const UPKEEP: Duration = Duration::from_secs(5);

/// The machine's clock. In builds for tests, `EVERFRESH_TEST_CLOCK` names a file that sets it.
fn clock() -> Arc<dyn Clock> {
    #[cfg(debug_assertions)]
    if let Some(file) = std::env::var_os("EVERFRESH_TEST_CLOCK") {
        return Arc::new(everfresh_infrastructure::system::ShiftedClock::new(file));
    }
    Arc::new(SystemClock::default())
}

/// An open store and what was learned on the way.
pub(crate) struct OpenStore {
    store: SledStore,
    pub(crate) key_origin: KeyOrigin,
}

impl OpenStore {
    /// What is noteworthy about it.
    pub(crate) fn warnings(&self) -> Vec<String> {
        self.store.warnings()
    }

    /// The store, for what works on it without an application.
    pub(crate) fn store(&self) -> &SledStore {
        &self.store
    }
}

/// Why there is no open store. As a failure, its exit code is 7.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NotOpened {
    /// The key is not to be had.
    #[error(transparent)]
    Key(#[from] CustodyError),
    /// The store itself.
    #[error(transparent)]
    Store(#[from] OpenError),
}

impl NotOpened {
    /// Whether another process has it: this one, where that is known.
    pub(crate) fn holder(&self) -> Option<Option<&str>> {
        match self {
            Self::Store(OpenError::Locked { pid, .. }) => Some(pid.as_deref()),
            Self::Key(_) | Self::Store(_) => None,
        }
    }
}

impl From<NotOpened> for Failure {
    fn from(error: NotOpened) -> Self {
        Self::new(Exit::Store, error.to_string())
    }
}

/// Opens the store of the data folder.
pub(crate) fn open_store(paths: &Paths, config: &Config) -> Result<OpenStore, NotOpened> {
    let entropy: Arc<dyn Entropy> = Arc::new(SystemEntropy);
    let (key, key_origin) = master_key(&key_source(config), &paths.data, has_records(&paths.data), &*entropy)?;
    let store = SledStore::open(&paths.data, &key, clock(), entropy)?;
    Ok(OpenStore { store, key_origin })
}

fn key_source(config: &Config) -> KeySource {
    if let Some(text) = std::env::var("EVERFRESH_MASTER_KEY").ok().filter(|text| !text.is_empty()) {
        return KeySource::Given(Zeroizing::new(text));
    }
    match &config.master_key {
        MasterKeySource::Auto => KeySource::Auto(Keychain::Asked),
        MasterKeySource::DataFolder => KeySource::Auto(Keychain::Ignored),
        MasterKeySource::File(path) => KeySource::File(path.clone()),
        MasterKeySource::Command(command) => KeySource::Command(command.clone()),
    }
}

/// The listeners that a service manager passed, else those that the configuration wants.
pub(crate) fn listeners(config: &Config, passed: Vec<TcpListener>) -> Result<Vec<TcpListener>, Failure> {
    if passed.is_empty() {
        return bind(config);
    }
    for listener in &passed {
        let address = listener.local_addr().map_err(|error| {
            Failure::new(Exit::Failed, format!("a socket that the service manager passed cannot be used: {error}"))
        })?;
        // `listen` is checked when it is read: what it names is allowed.
        if !address.ip().is_loopback() && !config.listen.contains(&address) {
            let text = format!(
                "the service manager passed a socket at {address}, which is open to the network: everfresh hands out \
                 tokens; let ListenStream= say 127.0.0.1:{}, or set listen and allow_remote = true in the configuration",
                address.port()
            );
            return Err(Failure::new(Exit::Usage, text));
        }
    }
    tracing::info!(sockets = passed.len(), "listening on what the service manager passed");
    Ok(passed)
}

/// Binds where the configuration says. The first address is the one that is told.
pub(crate) fn bind(config: &Config) -> Result<Vec<TcpListener>, Failure> {
    let mut bound = Vec::new();
    for address in &config.listen {
        match TcpListener::bind(address) {
            Ok(listener) => bound.push(listener),
            // A machine without IPv6 has no second default address.
            Err(_) if !config.listen_is_chosen && !bound.is_empty() => {}
            Err(error) => return Err(not_bound(*address, &error)),
        }
    }
    Ok(bound)
}

fn not_bound(address: SocketAddr, error: &io::Error) -> Failure {
    let text = if error.kind() == io::ErrorKind::AddrInUse {
        format!("the address {address} is in use by another program; stop that one, or choose another with --listen")
    } else if error.kind() == io::ErrorKind::PermissionDenied {
        format!("the address {address} is not allowed to this user; choose a port above 1023 with --listen")
    } else {
        format!("the address {address} cannot be listened on: {error}; choose another with --listen")
    };
    Failure::new(Exit::Failed, text)
}

/// A running application and the parts of its surfaces.
pub(crate) struct Running {
    pub(crate) application: Application,
    pub(crate) surfaces: SurfaceParts,
    /// What notices leave by, to be made anew with the configuration.
    pub(crate) ways: Ways,
    /// The key that clients show, for those in this process.
    pub(crate) key: String,
}

fn redirect_uri(config: &Config, address: SocketAddr) -> String {
    match &config.redirect_host {
        Some(host) => format!("http://{host}:{}/oauth/callback", address.port()),
        None => format!("http://{address}/oauth/callback"),
    }
}

/// Starts the application. `address` is where answers to logins come back to.
pub(crate) async fn start(
    paths: &Paths,
    config: &Config,
    store: OpenStore,
    address: SocketAddr,
) -> Result<Running, Failure> {
    // A second start in one process keeps the first provider.
    drop(rustls::crypto::ring::default_provider().install_default());
    let failed = |error: &dyn std::fmt::Display| Failure::new(Exit::Failed, error.to_string());
    let metrics = Arc::new(PrometheusMetrics::install().map_err(|error| failed(&error))?);
    let clock = clock();
    let entropy: Arc<dyn Entropy> = Arc::new(SystemEntropy);
    let factory = HttpFactory::new();
    let oauth = Arc::new(HttpOAuth::new(Arc::clone(&factory), Arc::clone(&clock), Arc::clone(&entropy)));
    let base_url = format!("http://{address}");
    let store = Arc::new(store.store);
    let secrets = Arc::new(SystemSecrets);
    let parts = ApplicationParts {
        store: Arc::clone(&store) as _,
        oauth: Arc::clone(&oauth) as _,
        discovery: oauth,
        secrets: Arc::clone(&secrets) as _,
        clock: Arc::clone(&clock),
        proofs: Arc::new(Es256Proofs),
        entropy: Arc::clone(&entropy),
        metrics: Arc::clone(&metrics) as _,
        policy: config.policy.clone(),
        login: LoginSettings {
            client_id_metadata_url: config.client_id_metadata_url.clone(),
            redirect_uri: redirect_uri(config, address),
        },
        servers: config.servers.clone(),
    };
    let key = local_key::find_or_make(paths)?;
    let application = Application::start(parts).await.map_err(|error| Failure::new(Exit::Store, error.to_string()))?;
    let ring =
        KeyRing::open(&key, Arc::new(KeyFolder::new(&paths.data)), Arc::clone(&clock), Arc::clone(&entropy)).await;
    let rule = match config.local_key {
        LocalKeyRule::Required => KeyRule::Required,
        LocalKeyRule::Off => KeyRule::Off,
    };
    let kept = Arc::clone(&metrics);
    tokio::spawn(async move {
        loop {
            tokio::time::sleep(UPKEEP).await;
            kept.upkeep();
        }
    });
    let guard = Arc::new(Guard::new(Arc::new(ring), rule, config.allowed_hosts.clone()));
    let ways = Ways {
        factory: Arc::clone(&factory),
        secrets,
        clock,
        application: application.clone(),
        guard: Arc::clone(&guard),
        base_url: base_url.clone(),
    };
    let parts = NoticeParts { store, entropy: Arc::clone(&entropy), metrics: Arc::clone(&metrics) as _ };
    let surfaces = SurfaceParts {
        application: application.clone(),
        guard,
        dialer: Arc::new(NetDialer::new(factory)),
        notices: NoticeDesk::new(application.clone(), parts, ways.settings(config)),
        metrics: Arc::new(move || metrics.render()),
        entropy,
        base_url,
        version: env!("CARGO_PKG_VERSION"),
    };
    let key = local_key::text(&key).to_owned();
    Ok(Running { application, surfaces, ways, key })
}
