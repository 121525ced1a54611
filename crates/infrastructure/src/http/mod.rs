//! The one factory of outbound connections: roots of trust, proxies, limits, and where calls may go.
//!
//! Every call of everfresh, to token endpoints, metadata and upstreams alike, gets its TLS from
//! here. Nothing is loaded before the first call needs it.

mod guard;

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;

pub(crate) use guard::{Reach, check_url};

/// How long a connection may take to be made.
pub(crate) const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// What everfresh calls itself.
const USER_AGENT: &str = concat!("everfresh/", env!("CARGO_PKG_VERSION"));

/// How a connection is secured. Plain HTTP is on loopback and needs no roots.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Trust {
    Plain,
    Roots { extra: Option<PathBuf> },
}

/// Makes HTTP clients and TLS settings, once for each kind.
#[derive(Default)]
pub struct HttpFactory {
    tls: Mutex<BTreeMap<Trust, Arc<ClientConfig>>>,
    clients: Mutex<BTreeMap<(Trust, Reach), reqwest::Client>>,
}

impl HttpFactory {
    /// A factory that has made nothing yet.
    pub fn new() -> Arc<Self> {
        Arc::default()
    }

    /// The TLS settings towards `https` places, with the authorities of `ca_file` besides the
    /// system's. The certificate of the other side is always verified.
    pub(crate) fn tls(&self, ca_file: Option<&Path>) -> io::Result<Arc<ClientConfig>> {
        self.config(&Trust::Roots { extra: ca_file.map(Path::to_owned) })
    }

    fn config(&self, trust: &Trust) -> io::Result<Arc<ClientConfig>> {
        let mut made = self.tls.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(config) = made.get(trust) {
            return Ok(Arc::clone(config));
        }
        let roots = match trust {
            Trust::Plain => RootCertStore::empty(),
            Trust::Roots { extra } => roots(extra.as_deref())?,
        };
        let config = Arc::new(ClientConfig::builder().with_root_certificates(roots).with_no_client_auth());
        made.insert(trust.clone(), Arc::clone(&config));
        Ok(config)
    }

    /// The client for a request to `url`: system proxies, no redirects, and a connection of its
    /// own for each request. An idle connection that the other side closes just then would leave
    /// open whether a refresh token was spent.
    pub(crate) fn client(&self, url: &str, ca_file: Option<&Path>, reach: Reach) -> io::Result<reqwest::Client> {
        let trust =
            if url.starts_with("http://") { Trust::Plain } else { Trust::Roots { extra: ca_file.map(Path::to_owned) } };
        let kind = (trust, reach);
        let made = self.clients.lock().unwrap_or_else(PoisonError::into_inner).get(&kind).cloned();
        if let Some(client) = made {
            return Ok(client);
        }
        let config = self.config(&kind.0)?;
        let builder = reqwest::Client::builder()
            .tls_backend_preconfigured((*config).clone())
            .user_agent(USER_AGENT)
            .redirect(reqwest::redirect::Policy::none())
            .http1_only()
            .pool_max_idle_per_host(0)
            .connect_timeout(CONNECT_TIMEOUT);
        let builder = match reach {
            Reach::Anywhere => builder,
            Reach::Public => builder.dns_resolver(Arc::new(guard::PublicResolver::from_system())),
        };
        let client = builder.build().map_err(io::Error::other)?;
        self.clients.lock().unwrap_or_else(PoisonError::into_inner).insert(kind, client.clone());
        Ok(client)
    }
}

/// The system's authorities and those of `extra`.
fn roots(extra: Option<&Path>) -> io::Result<RootCertStore> {
    let mut roots = RootCertStore::empty();
    let native = rustls_native_certs::load_native_certs();
    roots.add_parsable_certificates(native.certs);
    if let Some(path) = extra {
        let unusable =
            |cause: String| io::Error::other(format!("the authority file {} cannot be used: {cause}", path.display()));
        let certificates = CertificateDer::pem_file_iter(path).map_err(|error| unusable(error.to_string()))?;
        let before = roots.len();
        for certificate in certificates {
            let certificate = certificate.map_err(|error| unusable(error.to_string()))?;
            roots.add(certificate).map_err(|error| unusable(error.to_string()))?;
        }
        if roots.len() == before {
            return Err(unusable("it holds no certificate".to_owned()));
        }
    }
    if roots.is_empty() {
        let cause = native.errors.first().map_or_else(|| "none is installed".to_owned(), ToString::to_string);
        return Err(io::Error::other(format!("this system has no usable certificate authorities: {cause}")));
    }
    Ok(roots)
}
