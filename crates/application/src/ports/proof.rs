//! Proofs of possession (DPoP, RFC 9449): keys that tokens are bound to, and what is signed with them.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use everfresh_domain::{Secret, Timestamp};
use http::HeaderValue;

/// The header of a proof (RFC 9449 section 4.1).
pub const DPOP: &str = "dpop";

/// The header of the nonce that a server wants in proofs (RFC 9449 section 8.1).
pub const DPOP_NONCE: &str = "dpop-nonce";

/// The error code of a server that wants its nonce in the proof (RFC 9449 section 8).
pub const USE_DPOP_NONCE: &str = "use_dpop_nonce";

/// The error code of a server that does not accept a proof (RFC 9449 section 12.2).
pub const INVALID_DPOP_PROOF: &str = "invalid_dpop_proof";

/// Longer nonces are not taken: no honest server has them.
const NONCE_MAX: usize = 1024;

/// Clocks that differ by no more than this are in step: proofs live longer, and `Date` is in seconds.
const IN_STEP: Duration = Duration::from_secs(5);

/// Why a key or a proof could not be had. Shows nothing of the key.
#[derive(Clone, Debug, thiserror::Error)]
pub enum ProofError {
    /// What is stored is no key.
    #[error("the key that the tokens are bound to cannot be used; log in again")]
    UnusableKey,
    /// The system gave no random bytes.
    #[error("the proof of possession cannot be signed")]
    NotSigned,
}

/// What a proof is for (RFC 9449 section 4.2).
#[derive(Clone, Copy, Debug)]
pub struct ProofRequest<'a> {
    /// The request's method: `htm`.
    pub method: &'a str,
    /// The request's URL without query and fragment: `htu`.
    pub url: &'a str,
    /// The server's newest nonce.
    pub nonce: Option<&'a str>,
    /// The time by the server's clock: `iat`.
    pub issued_at: Timestamp,
}

/// Makes proofs for requests with one access token.
pub trait ProofSigner: fmt::Debug + Send + Sync {
    /// The `DPoP` header of one request, marked sensitive. No two are the same.
    fn prove(&self, request: &ProofRequest<'_>) -> Result<HeaderValue, ProofError>;
}

/// Makes the keys that tokens are bound to, and opens them again.
#[cfg_attr(feature = "mocks", mockall::automock)]
pub trait ProofKeys: Send + Sync {
    /// A new private key in the form in which [`everfresh_domain::grant::Binding::dpop_key`] keeps it.
    fn generate(&self) -> Result<Secret, ProofError>;

    /// The thumbprint of the public half of `key` (RFC 7638), as `dpop_jkt` tells it.
    fn thumbprint(&self, key: &Secret) -> Result<String, ProofError>;

    /// The signer of requests that carry `access_token`, which is bound to `key`.
    fn signer(&self, key: &Secret, access_token: &Secret) -> Result<Arc<dyn ProofSigner>, ProofError>;
}

/// The nonce that a server told, if it can be one (RFC 9449 section 8.1: `NQCHAR`).
pub fn nonce_of(value: &HeaderValue) -> Option<&str> {
    let is_nqchar = |byte: u8| matches!(byte, 0x21 | 0x23..=0x5b | 0x5d..=0x7e);
    let text = value.to_str().ok()?;
    (!text.is_empty() && text.len() <= NONCE_MAX && text.bytes().all(is_nqchar)).then_some(text)
}

/// The time at a server whose clock this one is ahead of by `ahead_s` seconds, as far as is known.
///
/// Servers refuse proofs from the future and old ones, so a proof is dated by the clock that judges it.
pub fn time_at_server(now: Timestamp, ahead_s: i64) -> Timestamp {
    let ahead = Duration::from_secs(ahead_s.unsigned_abs());
    if ahead <= IN_STEP {
        now
    } else if ahead_s > 0 {
        now.before(ahead)
    } else {
        now.after(ahead)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_nonce_is_short_and_has_no_quotes_spaces_or_controls() {
        let nonce = |text: &'static str| nonce_of(&HeaderValue::from_static(text)).map(str::to_owned);
        assert_eq!(nonce("eyJ7S_zG.eyJH0-Z"), Some("eyJ7S_zG.eyJH0-Z".to_owned()));
        for text in ["", "a b", "a\"b", "a\\b"] {
            assert_eq!(nonce(text), None, "{text:?}");
        }
        assert_eq!(nonce_of(&HeaderValue::try_from("n".repeat(NONCE_MAX + 1)).unwrap()), None);
        assert_eq!(nonce_of(&HeaderValue::from_bytes(&[0xff]).unwrap()), None);
    }

    #[test]
    fn a_proof_is_dated_by_the_servers_clock_once_that_is_far_from_ours() {
        let now = Timestamp::from_millis(1_000_000);
        for (ahead_s, expected) in [(0, 1_000_000), (5, 1_000_000), (-5, 1_000_000), (6, 994_000), (-300, 1_300_000)] {
            assert_eq!(time_at_server(now, ahead_s), Timestamp::from_millis(expected), "{ahead_s}");
        }
        time_at_server(now, i64::MIN);
        time_at_server(now, i64::MAX);
    }
}
