//! What a server's TLS is made of: the authorities that are trusted, and the certificate that is
//! shown where one is demanded.

#![expect(
    clippy::wildcard_enum_match_arm,
    reason = "of a foreign enum few variants mean something here, and all others are shown alike"
)]

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use everfresh_application::{ClientCertificate, ServerSettings};
use rustls::crypto::ring;
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::{AlertDescription, ClientConfig, RootCertStore};
use rustls_pki_types::pem::{self, PemObject};
use rustls_pki_types::{CertificateDer, PrivateKeyDer};

/// How a connection is secured. Plain HTTP is on loopback and needs no roots.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Trust {
    Plain,
    Tls { ca_file: Option<PathBuf>, client_certificate: Option<ClientCertificate> },
}

/// A file as it is on the disk: another stamp means another content.
pub(super) type Stamp = Option<(u64, SystemTime)>;

impl Trust {
    /// The way to `https` places on behalf of `server`.
    pub(super) fn of(server: &ServerSettings) -> Self {
        Self::Tls { ca_file: server.ca_file.clone(), client_certificate: server.client_certificate.clone() }
    }

    /// The files as they are now.
    pub(super) fn stamps(&self) -> [Stamp; 3] {
        let Self::Tls { ca_file, client_certificate } = self else { return [None; 3] };
        let certificate = client_certificate.as_ref().map(|certificate| certificate.cert_file.as_path());
        let key = client_certificate.as_ref().and_then(|certificate| certificate.key_file.as_deref());
        [ca_file.as_deref(), certificate, key].map(|path| {
            let metadata = std::fs::metadata(path?).ok()?;
            Some((metadata.len(), metadata.modified().ok()?))
        })
    }

    /// The settings, from the files as they are now. The certificate of the other side is always
    /// verified.
    pub(super) fn config(&self) -> io::Result<ClientConfig> {
        let builder = ClientConfig::builder();
        let Self::Tls { ca_file, client_certificate } = self else {
            return Ok(builder.with_root_certificates(RootCertStore::empty()).with_no_client_auth());
        };
        let builder = builder.with_root_certificates(roots(ca_file.as_deref())?);
        Ok(match client_certificate {
            None => builder.with_no_client_auth(),
            Some(files) => builder.with_client_cert_resolver(Arc::new(SingleCertAndKey::from(certified_key(files)?))),
        })
    }
}

/// Whether the authorities of `ca_file` can be used; the error names the file.
pub fn check_authorities(ca_file: &Path) -> io::Result<()> {
    add_authorities(&mut RootCertStore::empty(), ca_file)
}

/// Whether a client can show `certificate`: both parts are there, and belong to each other. The
/// error names the file.
pub fn check_certificate(certificate: &ClientCertificate) -> io::Result<()> {
    certified_key(certificate).map(drop)
}

/// The system's authorities and those of `extra`.
fn roots(extra: Option<&Path>) -> io::Result<RootCertStore> {
    let mut roots = RootCertStore::empty();
    let native = rustls_native_certs::load_native_certs();
    roots.add_parsable_certificates(native.certs);
    if let Some(path) = extra {
        add_authorities(&mut roots, path)?;
    }
    if roots.is_empty() {
        let cause = native.errors.first().map_or_else(|| "none is installed".to_owned(), ToString::to_string);
        return Err(io::Error::other(format!("this system has no usable certificate authorities: {cause}")));
    }
    Ok(roots)
}

fn add_authorities(roots: &mut RootCertStore, path: &Path) -> io::Result<()> {
    let unusable = |cause: String| unusable("authority file", path, &cause);
    for certificate in certificates(path).map_err(unusable)? {
        roots.add(certificate).map_err(|error| unusable(error.to_string()))?;
    }
    Ok(())
}

fn certified_key(files: &ClientCertificate) -> io::Result<CertifiedKey> {
    let cert_file = &files.cert_file;
    let chain = certificates(cert_file).map_err(|cause| unusable("client certificate", cert_file, &cause))?;
    let key_file = files.key_file.as_ref().unwrap_or(cert_file);
    let no_key = |cause: String| unusable("client certificate's key", key_file, &cause);
    let key = PrivateKeyDer::from_pem_file(key_file).map_err(|error| {
        no_key(match error {
            pem::Error::NoItemsFound => "it holds no private key that is not encrypted".to_owned(),
            error => in_words(&error),
        })
    })?;
    CertifiedKey::from_der(chain, key, &ring::default_provider()).map_err(|error| {
        no_key(match error {
            rustls::Error::InconsistentKeys(_) => format!("it does not belong to {}", cert_file.display()),
            error => error.to_string(),
        })
    })
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, String> {
    let read: Result<Vec<_>, _> = CertificateDer::pem_file_iter(path).and_then(Iterator::collect);
    match read.map_err(|error| in_words(&error))? {
        none if none.is_empty() => Err("it holds no certificate".to_owned()),
        certificates => Ok(certificates),
    }
}

fn in_words(error: &pem::Error) -> String {
    match error {
        pem::Error::Io(error) if error.kind() == io::ErrorKind::NotFound => "there is no such file".to_owned(),
        pem::Error::Io(error) => error.to_string(),
        error => error.to_string(),
    }
}

fn unusable(what: &str, path: &Path, cause: &str) -> io::Error {
    io::Error::other(format!("the {what} {} cannot be used: {cause}", path.display()))
}

/// Whether the other side ended the handshake over the certificate of this client: it has read
/// nothing of what was sent. In TLS 1.3 that comes to light only with the first answer.
pub(crate) fn refuses_this_client(error: &io::Error) -> bool {
    use AlertDescription::{
        AccessDenied, BadCertificate, CertificateExpired, CertificateRequired, CertificateRevoked, CertificateUnknown,
        DecryptError, UnknownCA, UnsupportedCertificate,
    };

    let refusals = [
        AccessDenied,
        BadCertificate,
        CertificateExpired,
        CertificateRequired,
        CertificateRevoked,
        CertificateUnknown,
        DecryptError,
        UnknownCA,
        UnsupportedCertificate,
    ];
    matches!(tls_error(error), Some(rustls::Error::AlertReceived(alert)) if refusals.contains(alert))
}

/// What an error of TLS means and what can be done about it, where that is known.
pub(crate) fn explanation(error: &io::Error) -> Option<String> {
    match tls_error(error)? {
        rustls::Error::InvalidCertificate(_) => Some(format!("{error}; proxy or captive portal?")),
        rustls::Error::AlertReceived(AlertDescription::CertificateRequired) => {
            Some("it demands a client certificate; set client_cert_file and client_key_file".to_owned())
        }
        rustls::Error::AlertReceived(alert) if refuses_this_client(error) => {
            Some(format!("it does not accept the client certificate ({alert:?}); check client_cert_file"))
        }
        _ => None,
    }
}

/// What TLS itself says. I/O errors hide what they wrap from `source()`, and wrap each other.
fn tls_error(error: &io::Error) -> Option<&rustls::Error> {
    let wrapped = error.get_ref()?;
    match wrapped.downcast_ref::<io::Error>() {
        Some(error) => tls_error(error),
        None => wrapped.downcast_ref(),
    }
}
