//! JSON Web Signatures (RFC 7515) and the keys behind them: assertions of a client's identity.
//!
//! What is claimed, and when, is the caller's business.

use everfresh_domain::Secret;
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use serde::Serialize;

/// Why a key or a signature could not be had. Shows nothing of the key.
#[derive(Debug, thiserror::Error)]
pub(crate) enum JoseError {
    /// The text is no private key that signatures can be made with.
    #[error("the private key cannot be used: it must be PKCS #8 in PEM, elliptic (P-256, P-384), RSA or Ed25519")]
    UnusableKey,
    /// The key does not fit the algorithm.
    #[error("the private key cannot sign with {0:?}")]
    WrongAlgorithm(Algorithm),
    /// The claims are no JSON, or the system gave no random bytes.
    #[error("nothing could be signed")]
    NotSigned,
}

/// A private key and the algorithm it signs with.
pub(crate) struct SigningKey {
    key: EncodingKey,
    algorithm: Algorithm,
}

impl SigningKey {
    /// The key in `pem`. It signs with `algorithm`, or with the usual one of its kind.
    pub(crate) fn from_pem(pem: &Secret, algorithm: Option<Algorithm>) -> Result<Self, JoseError> {
        let bytes = pem.expose().as_bytes();
        let (key, usual): (_, &[Algorithm]) = if let Ok(key) = EncodingKey::from_ec_pem(bytes) {
            (key, &[Algorithm::ES256, Algorithm::ES384])
        } else if let Ok(key) = EncodingKey::from_ed_pem(bytes) {
            (key, &[Algorithm::EdDSA])
        } else if let Ok(key) = EncodingKey::from_rsa_pem(bytes) {
            (key, &[Algorithm::RS256])
        } else {
            return Err(JoseError::UnusableKey);
        };
        let wanted = algorithm.as_ref().map_or(usual, std::slice::from_ref);
        // Which curve a key is on shows when it signs.
        let fits = |algorithm: &&Algorithm| jsonwebtoken::crypto::sign(b"", &key, **algorithm).is_ok();
        match (wanted.iter().find(fits).copied(), algorithm) {
            (Some(algorithm), _) => Ok(Self { key, algorithm }),
            (None, Some(algorithm)) => Err(JoseError::WrongAlgorithm(algorithm)),
            (None, None) => Err(JoseError::UnusableKey),
        }
    }

    /// `claims`, signed, in compact form.
    pub(crate) fn sign(&self, claims: &impl Serialize) -> Result<Secret, JoseError> {
        encoded(&Header::new(self.algorithm), claims, &self.key)
    }
}

fn encoded(header: &Header, claims: &impl Serialize, key: &EncodingKey) -> Result<Secret, JoseError> {
    jsonwebtoken::encode(header, claims, key).map(Secret::new).map_err(|_| JoseError::NotSigned)
}

#[cfg(test)]
mod tests {
    use jsonwebtoken::decode_header;
    use serde_json::json;

    use super::*;

    #[test]
    fn each_kind_of_key_signs_with_its_usual_algorithm() {
        for (kind, algorithm) in [
            (&rcgen::PKCS_ECDSA_P256_SHA256, Algorithm::ES256),
            (&rcgen::PKCS_ECDSA_P384_SHA384, Algorithm::ES384),
            (&rcgen::PKCS_ED25519, Algorithm::EdDSA),
        ] {
            let pem = Secret::new(rcgen::KeyPair::generate_for(kind).unwrap().serialize_pem());
            let signed = SigningKey::from_pem(&pem, None).unwrap().sign(&json!({})).unwrap();
            assert_eq!(decode_header(signed.expose()).unwrap().alg, algorithm);
        }
    }

    #[test]
    fn what_is_no_key_or_another_kind_of_key_is_refused_without_showing_it() {
        let pem = Secret::new(rcgen::KeyPair::generate().unwrap().serialize_pem());
        let wrong = SigningKey::from_pem(&pem, Some(Algorithm::RS256)).err().unwrap();
        let none = SigningKey::from_pem(&Secret::new("canary"), None).err().unwrap();
        assert!(matches!(wrong, JoseError::WrongAlgorithm(Algorithm::RS256)), "{wrong}");
        assert!(!format!("{none} {none:?}").contains("canary"));
    }
}
