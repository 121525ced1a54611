//! The parsers of foreign bytes, as fuzzing reaches them. Not for use.

use bytes::Bytes;
use everfresh_application::ports::Entropy;
use everfresh_domain::{Failure, Generation, Timestamp, TokenResponse};
use http::header::RETRY_AFTER;
use http::{HeaderMap, HeaderValue, StatusCode};

use crate::import::fuzzing as import;
use crate::oauth::fuzzing as oauth;
use crate::store::fuzzing as store;

/// What an answer of a token endpoint means.
pub fn token_endpoint(status: u16, retry_after: &[u8], body: &[u8], now: Timestamp) -> Result<TokenResponse, Failure> {
    let status = StatusCode::from_u16(status).unwrap_or(StatusCode::OK);
    let mut headers = HeaderMap::new();
    if let (false, Ok(value)) = (retry_after.is_empty(), HeaderValue::from_bytes(retry_after)) {
        headers.insert(RETRY_AFTER, value);
    }
    oauth::classify(status, headers, Bytes::copy_from_slice(body), now)
}

/// Metadata documents and answers to registrations.
pub fn documents(body: &[u8]) {
    oauth::documents(body);
}

/// Sealed bytes: foreign ones do not open, and what was sealed does.
pub fn sealed(bytes: &[u8]) {
    store::sealed(bytes, &NoEntropy, Generation(7));
}

/// A key of a journal.
pub fn journal_key(bytes: &[u8]) {
    store::journal_key(bytes);
}

/// Another program's database.
pub fn bolt(bytes: &[u8]) {
    import::bolt(bytes);
}

/// A document of logins, or a client's configuration.
pub fn import_document(bytes: &[u8]) {
    import::document(bytes);
}

struct NoEntropy;

impl Entropy for NoEntropy {
    fn bytes(&self) -> [u8; 32] {
        [7; 32]
    }
}
