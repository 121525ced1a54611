//! JSON Web Signatures (RFC 7515) and the keys behind them: assertions of a client's identity, and
//! proofs of possession.
//!
//! What is claimed, and when, is the caller's business.

use base64::Engine;
use base64::prelude::{BASE64_STANDARD, BASE64_URL_SAFE_NO_PAD};
use everfresh_domain::Secret;
use jsonwebtoken::jwk::{AlgorithmParameters, CommonParameters, EllipticCurve, EllipticCurveKeyParameters, Jwk};
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use ring::rand::SystemRandom;
use ring::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair};
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

/// A key pair on P-256 whose public half travels with each signature.
pub(crate) struct ProofKey {
    key: EncodingKey,
    public: Jwk,
}

impl ProofKey {
    /// A new private key, as PKCS #8 in base64: what [`ProofKey::open`] takes.
    pub(crate) fn generate() -> Result<Secret, JoseError> {
        let made = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &SystemRandom::new());
        made.map(|der| Secret::new(BASE64_STANDARD.encode(der))).map_err(|_| JoseError::NotSigned)
    }

    /// The key pair of a stored private key.
    pub(crate) fn open(stored: &Secret) -> Result<Self, JoseError> {
        let der = zeroize::Zeroizing::new(BASE64_STANDARD.decode(stored.expose()).map_err(|_| JoseError::UnusableKey)?);
        let pair = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &der, &SystemRandom::new());
        let pair = pair.map_err(|_| JoseError::UnusableKey)?;
        // An uncompressed point: 4, then both coordinates (SEC 1 section 2.3.3).
        let [4, point @ ..] = pair.public_key().as_ref() else { return Err(JoseError::UnusableKey) };
        let (x, y) = point.split_at(point.len() / 2);
        let public = EllipticCurveKeyParameters {
            curve: EllipticCurve::P256,
            x: BASE64_URL_SAFE_NO_PAD.encode(x),
            y: BASE64_URL_SAFE_NO_PAD.encode(y),
            ..EllipticCurveKeyParameters::default()
        };
        let public = Jwk { common: CommonParameters::default(), algorithm: AlgorithmParameters::EllipticCurve(public) };
        Ok(Self { key: EncodingKey::from_ec_der(&der), public })
    }

    /// `claims` of type `typ`, signed with ES256, in compact form, with the public key in the header.
    pub(crate) fn sign(&self, typ: &str, claims: &impl Serialize) -> Result<Secret, JoseError> {
        let header =
            Header { typ: Some(typ.to_owned()), jwk: Some(self.public.clone()), ..Header::new(Algorithm::ES256) };
        encoded(&header, claims, &self.key)
    }
}

fn encoded(header: &Header, claims: &impl Serialize, key: &EncodingKey) -> Result<Secret, JoseError> {
    jsonwebtoken::encode(header, claims, key).map(Secret::new).map_err(|_| JoseError::NotSigned)
}

#[cfg(test)]
mod tests {
    use jsonwebtoken::{DecodingKey, Validation, decode, decode_header};
    use serde_json::{Value, json};

    use super::*;

    fn unvalidated(algorithm: Algorithm) -> Validation {
        let mut validation = Validation::new(algorithm);
        validation.required_spec_claims.clear();
        validation.validate_aud = false;
        validation
    }

    #[test]
    fn a_proof_is_verified_by_the_key_in_its_own_header() {
        let key = ProofKey::open(&ProofKey::generate().unwrap()).unwrap();
        let proof = key.sign("dpop+jwt", &json!({ "jti": "1" })).unwrap();
        let header = decode_header(proof.expose()).unwrap();
        assert_eq!((header.typ.as_deref(), header.alg), (Some("dpop+jwt"), Algorithm::ES256));
        let public = serde_json::to_value(header.jwk.as_ref().unwrap()).unwrap();
        let names: Vec<&String> = public.as_object().unwrap().keys().collect();
        assert_eq!(names, ["crv", "kty", "x", "y"], "the public half, and nothing else");
        let verified = DecodingKey::from_jwk(&header.jwk.unwrap()).unwrap();
        let claims = decode::<Value>(proof.expose(), &verified, &unvalidated(Algorithm::ES256)).unwrap().claims;
        assert_eq!(claims, json!({ "jti": "1" }));
    }

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
        assert!(ProofKey::open(&Secret::new("canary")).is_err());
    }
}
