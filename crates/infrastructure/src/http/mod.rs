//! The one factory of outbound connections: roots of trust, client certificates, proxies, limits,
//! and where calls may go.
//!
//! Every call of everfresh, to token endpoints, metadata and upstreams alike, gets its TLS and its
//! proxy from here. Nothing is loaded before the first call needs it, and what is loaded from files
//! is loaded again when they change.

mod guard;
mod proxy;
mod tls;

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use everfresh_application::ServerSettings;
use http::Uri;
use hyper_util::client::proxy::matcher::Matcher;
use rustls::ClientConfig;
use tokio::time::Instant;

pub(crate) use guard::{Reach, check_url};
pub(crate) use proxy::Via;
pub use tls::{check_authorities, check_certificate};
pub(crate) use tls::{explanation, refuses_this_client};

use proxy::Proxies;
use tls::{Stamp, Trust};

/// How long a connection may take to be made.
pub(crate) const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// After this the system's authorities are read again: it tells nobody when they change.
const ROOTS_AGE_MAX: Duration = Duration::from_secs(3_600);

/// What everfresh calls itself.
const USER_AGENT: &str = concat!("everfresh/", env!("CARGO_PKG_VERSION"));

/// What was made for one kind of trust, and from which files.
struct Made {
    stamps: [Stamp; 3],
    since: Instant,
    tls: Arc<ClientConfig>,
    clients: BTreeMap<(Option<String>, Reach), reqwest::Client>,
}

impl Made {
    fn new(stamps: [Stamp; 3], tls: ClientConfig) -> Self {
        Self { stamps, since: Instant::now(), tls: Arc::new(tls), clients: BTreeMap::new() }
    }

    /// Goes on as it is, over files that cannot be used, until they are others again.
    fn outlive(&mut self, stamps: [Stamp; 3], error: &io::Error) {
        tracing::warn!(%error, "changed TLS files cannot be used; those before stay in force");
        (self.stamps, self.since) = (stamps, Instant::now());
    }

    fn is_current(&self, stamps: [Stamp; 3]) -> bool {
        self.stamps == stamps && self.since.elapsed() < ROOTS_AGE_MAX
    }
}

/// Makes HTTP clients and TLS settings, once for each kind.
pub struct HttpFactory {
    proxies: Proxies,
    made: Mutex<BTreeMap<Trust, Made>>,
}

impl HttpFactory {
    /// A factory that has made nothing yet, with the proxies of the system.
    pub fn new() -> Arc<Self> {
        Arc::new(Self { proxies: Proxies::from_system(), made: Mutex::default() })
    }

    /// The same with the proxies of `matcher` and no others.
    pub fn with_proxies(matcher: Matcher) -> Arc<Self> {
        Arc::new(Self { proxies: Proxies::of(matcher), made: Mutex::default() })
    }

    /// The proxy for calls to `uri`; the error says why the one that is set cannot be used.
    pub(crate) fn via(&self, uri: &Uri) -> io::Result<Option<Via>> {
        self.proxies.via(uri)
    }

    /// The name of the proxy that calls to `url` go through, for people.
    pub fn proxy_towards(&self, url: &str) -> io::Result<Option<String>> {
        let uri: Uri = url.parse().map_err(|error| io::Error::other(format!("{url}: {error}")))?;
        Ok(self.via(&uri)?.map(|via| via.host().to_owned()))
    }

    /// The TLS settings towards `https` places on behalf of `server`.
    pub(crate) fn tls(&self, server: &ServerSettings) -> io::Result<Arc<ClientConfig>> {
        self.with(&Trust::of(server), |made| Ok(Arc::clone(&made.tls)))
    }

    /// The client for a request to `uri` on behalf of `server`: its proxy, no redirects, and a
    /// connection of its own for each request. An idle connection that the other side closes just
    /// then would leave open whether a refresh token was spent.
    pub(crate) fn client(&self, uri: &Uri, server: &ServerSettings, reach: &Reach) -> io::Result<reqwest::Client> {
        let trust = if uri.scheme_str() == Some("http") { Trust::Plain } else { Trust::of(server) };
        let via = self.via(uri)?;
        let key = (via.as_ref().map(|via| via.uri.to_string()), reach.clone());
        self.with(&trust, |made| match made.clients.get(&key) {
            Some(client) => Ok(client.clone()),
            None => {
                let client = client(&made.tls, via, reach)?;
                made.clients.insert(key, client.clone());
                Ok(client)
            }
        })
    }

    /// Looks at what is made for `trust`, made anew where its files are others than they were. New
    /// files that cannot be used, as one that is written just then, change nothing yet.
    fn with<T>(&self, trust: &Trust, look: impl FnOnce(&mut Made) -> io::Result<T>) -> io::Result<T> {
        let stamps = trust.stamps();
        let mut all = self.lock();
        match all.entry(trust.clone()) {
            Entry::Vacant(place) => look(place.insert(Made::new(stamps, trust.config()?))),
            Entry::Occupied(place) => {
                let made = place.into_mut();
                if !made.is_current(stamps) {
                    match trust.config() {
                        Ok(tls) => *made = Made::new(stamps, tls),
                        Err(error) => made.outlive(stamps, &error),
                    }
                }
                look(made)
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<Trust, Made>> {
        self.made.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn client(tls: &ClientConfig, via: Option<Via>, reach: &Reach) -> io::Result<reqwest::Client> {
    let builder = reqwest::Client::builder()
        .tls_backend_preconfigured(tls.clone())
        .user_agent(USER_AGENT)
        .redirect(reqwest::redirect::Policy::none())
        .http1_only()
        .pool_max_idle_per_host(0)
        .connect_timeout(CONNECT_TIMEOUT);
    let builder = match via {
        // A proxy is the user's choice and mostly in this network; behind it, names are its own.
        Some(via) => {
            let proxy = reqwest::Proxy::all(via.uri.to_string()).map_err(io::Error::other)?;
            builder.proxy(match via.authorization {
                Some(authorization) => proxy.custom_http_auth(authorization),
                None => proxy,
            })
        }
        None => match reach.resolver() {
            Some(resolver) => builder.no_proxy().dns_resolver(resolver),
            None => builder.no_proxy(),
        },
    };
    builder.build().map_err(io::Error::other)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_client_connects_to_no_address_that_is_not_allowed() {
        drop(rustls::crypto::ring::default_provider().install_default());
        let factory = HttpFactory::with_proxies(Matcher::builder().build());
        let server = ServerSettings::new("s".parse().unwrap(), "https://mcp.example");
        let place = Uri::from_static("https://localhost:9/");
        for (reach, refused) in
            [(Reach::Public, true), (Reach::Network("10.0.0.1".into()), false), (Reach::Machine, false)]
        {
            let client = factory.client(&place, &server, &reach).unwrap();
            let error = client.get(place.to_string()).send().await.unwrap_err();
            assert_eq!(format!("{error:?}").contains("leads into this machine"), refused, "{reach:?}: {error:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn the_authorities_of_the_system_are_read_again_after_a_while() {
        drop(rustls::crypto::ring::default_provider().install_default());
        let factory = HttpFactory::with_proxies(Matcher::builder().build());
        let server = ServerSettings::new("s".parse().unwrap(), "https://mcp.example");
        let first = factory.tls(&server).unwrap();
        assert!(Arc::ptr_eq(&first, &factory.tls(&server).unwrap()));
        tokio::time::advance(ROOTS_AGE_MAX).await;
        assert!(!Arc::ptr_eq(&first, &factory.tls(&server).unwrap()));
    }
}
