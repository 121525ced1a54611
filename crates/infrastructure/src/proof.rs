//! Proofs of possession (DPoP, RFC 9449): key pairs on P-256, and what is signed with them.
//!
//! For which requests, and with which nonce and time, is the caller's business.

use std::fmt;
use std::sync::Arc;

use base64::Engine;
use base64::prelude::{BASE64_STANDARD, BASE64_URL_SAFE_NO_PAD};
use everfresh_application::ports::{ProofError, ProofKeys, ProofRequest, ProofSigner};
use everfresh_domain::Secret;
use http::HeaderValue;
use ring::rand::{SecureRandom, SystemRandom};
use ring::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair};
use serde::Serialize;
use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

/// Random bytes in each `jti`: more than the 96 bits of RFC 9449 section 4.2.
const JTI_LENGTH: usize = 16;

/// The public half of a key, its members in the order of RFC 7638 section 3.2.
#[derive(Serialize)]
struct Jwk<'a> {
    crv: &'static str,
    kty: &'static str,
    x: &'a str,
    y: &'a str,
}

/// What stands before the claims (RFC 9449 section 4.2).
#[derive(Serialize)]
struct Header<'a> {
    typ: &'static str,
    alg: &'static str,
    jwk: Jwk<'a>,
}

/// What is claimed (RFC 9449 section 4.2).
#[derive(Serialize)]
struct Claims<'a> {
    jti: &'a str,
    htm: &'a str,
    htu: &'a str,
    iat: i64,
    #[serde(skip_serializing_if = "Option::is_none")]
    ath: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    nonce: Option<&'a str>,
}

/// A key pair that signs proofs. The header of its proofs is always the same, and made once.
pub(crate) struct ProofKey {
    pair: EcdsaKeyPair,
    random: SystemRandom,
    header: String,
    thumbprint: String,
}

impl fmt::Debug for ProofKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ProofKey({})", self.thumbprint)
    }
}

impl ProofKey {
    /// A new private key, as PKCS #8 in base64: what [`ProofKey::open`] takes.
    pub(crate) fn generate() -> Result<Secret, ProofError> {
        let made = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &SystemRandom::new());
        made.map(|der| Secret::new(BASE64_STANDARD.encode(der))).map_err(|_| ProofError::NotSigned)
    }

    /// The key pair of a stored private key.
    pub(crate) fn open(stored: &Secret) -> Result<Self, ProofError> {
        let random = SystemRandom::new();
        let der = BASE64_STANDARD.decode(stored.expose()).map_err(|_| ProofError::UnusableKey)?;
        let pair = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &Zeroizing::new(der), &random);
        let pair = pair.map_err(|_| ProofError::UnusableKey)?;
        // An uncompressed point: 4, then both coordinates (SEC 1 section 2.3.3).
        let [4, point @ ..] = pair.public_key().as_ref() else { return Err(ProofError::UnusableKey) };
        let (x, y) = point.split_at(point.len() / 2);
        let (x, y) = (BASE64_URL_SAFE_NO_PAD.encode(x), BASE64_URL_SAFE_NO_PAD.encode(y));
        let jwk = Jwk { crv: "P-256", kty: "EC", x: &x, y: &y };
        let thumbprint = BASE64_URL_SAFE_NO_PAD.encode(Sha256::digest(json(&jwk)?));
        let header = BASE64_URL_SAFE_NO_PAD.encode(json(&Header { typ: "dpop+jwt", alg: "ES256", jwk })?);
        Ok(Self { pair, random, header, thumbprint })
    }

    /// The thumbprint of the public half (RFC 7638).
    pub(crate) fn thumbprint(&self) -> &str {
        &self.thumbprint
    }

    /// The `DPoP` header of `request`; `ath` is the digest of the access token in it.
    pub(crate) fn prove(&self, request: &ProofRequest<'_>, ath: Option<&str>) -> Result<HeaderValue, ProofError> {
        let mut drawn = [0; JTI_LENGTH];
        self.random.fill(&mut drawn).map_err(|_| ProofError::NotSigned)?;
        let jti = BASE64_URL_SAFE_NO_PAD.encode(drawn);
        let ProofRequest { method, url, nonce, issued_at } = *request;
        let iat = issued_at.as_millis().div_euclid(1_000);
        let claims = json(&Claims { jti: &jti, htm: method, htu: url, iat, ath, nonce })?;
        let mut proof = format!("{}.{}", self.header, BASE64_URL_SAFE_NO_PAD.encode(claims));
        let signature = self.pair.sign(&self.random, proof.as_bytes()).map_err(|_| ProofError::NotSigned)?;
        proof.push('.');
        BASE64_URL_SAFE_NO_PAD.encode_string(signature, &mut proof);
        let mut header = HeaderValue::try_from(proof).map_err(|_| ProofError::NotSigned)?;
        header.set_sensitive(true);
        Ok(header)
    }
}

fn json(value: &impl Serialize) -> Result<Vec<u8>, ProofError> {
    serde_json::to_vec(value).map_err(|_| ProofError::NotSigned)
}

/// Keys and proofs with ES256.
#[derive(Clone, Copy, Debug, Default)]
pub struct Es256Proofs;

impl ProofKeys for Es256Proofs {
    fn generate(&self) -> Result<Secret, ProofError> {
        ProofKey::generate()
    }

    fn thumbprint(&self, key: &Secret) -> Result<String, ProofError> {
        Ok(ProofKey::open(key)?.thumbprint().to_owned())
    }

    fn signer(&self, key: &Secret, access_token: &Secret) -> Result<Arc<dyn ProofSigner>, ProofError> {
        let ath = BASE64_URL_SAFE_NO_PAD.encode(Sha256::digest(access_token.expose()));
        Ok(Arc::new(TokenProofs { key: ProofKey::open(key)?, ath }))
    }
}

/// Proofs for requests with one access token.
#[derive(Debug)]
struct TokenProofs {
    key: ProofKey,
    ath: String,
}

impl ProofSigner for TokenProofs {
    fn prove(&self, request: &ProofRequest<'_>) -> Result<HeaderValue, ProofError> {
        self.key.prove(request, Some(&self.ath))
    }
}

#[cfg(test)]
mod tests {
    use everfresh_domain::Timestamp;
    use jsonwebtoken::jwk::Jwk;
    use jsonwebtoken::{Algorithm, DecodingKey, Validation, decode, decode_header};
    use serde_json::{Value, json};

    use super::*;

    const REQUEST: ProofRequest<'_> = ProofRequest {
        method: "POST",
        url: "https://as.example/token",
        nonce: None,
        issued_at: Timestamp::from_millis(1_795_000_000_999),
    };

    fn claims(proof: &HeaderValue) -> Value {
        let proof = proof.to_str().unwrap();
        let key = DecodingKey::from_jwk(&decode_header(proof).unwrap().jwk.unwrap()).unwrap();
        let mut validation = Validation::new(Algorithm::ES256);
        validation.required_spec_claims.clear();
        decode(proof, &key, &validation).unwrap().claims
    }

    #[test]
    fn a_proof_is_verified_by_the_key_in_its_own_header_and_shows_its_public_half_alone() {
        let key = ProofKey::open(&ProofKey::generate().unwrap()).unwrap();
        let proof = key.prove(&REQUEST, None).unwrap();
        assert!(proof.is_sensitive());
        let header = decode_header(proof.to_str().unwrap()).unwrap();
        assert_eq!((header.typ.as_deref(), header.alg), (Some("dpop+jwt"), Algorithm::ES256));
        let public = serde_json::to_value(header.jwk.unwrap()).unwrap();
        let names: Vec<&String> = public.as_object().unwrap().keys().collect();
        assert_eq!(names, ["crv", "kty", "x", "y"]);
        let mut told = claims(&proof);
        let jti = told.as_object_mut().unwrap().remove("jti").unwrap();
        assert_eq!(jti.as_str().unwrap().len(), 22);
        assert_eq!(told, json!({ "htm": "POST", "htu": "https://as.example/token", "iat": 1_795_000_000 }));
    }

    /// The token and its digest are those of RFC 9449 section 7.1.
    #[test]
    fn a_proof_for_a_token_carries_its_digest_and_the_nonce_and_no_two_are_the_same() {
        let token = Secret::new("Kz~8mXK1EalYznwH-LC-1fBAo.4Ljp~zsPE_NeO.gxU");
        let signer = Es256Proofs.signer(&Es256Proofs.generate().unwrap(), &token).unwrap();
        let request = ProofRequest { nonce: Some("n1"), ..REQUEST };
        let (one, other) = (claims(&signer.prove(&request).unwrap()), claims(&signer.prove(&request).unwrap()));
        assert_eq!((&one["ath"], &one["nonce"]), (&json!("fUHyO2r2Z3DZ53EsNrWBb0xWXoaNy59IiKCAqksmQEo"), &json!("n1")));
        assert_ne!(one["jti"], other["jti"]);
    }

    #[test]
    fn the_thumbprint_is_that_of_the_public_key_and_lasts() {
        let stored = ProofKey::generate().unwrap();
        let (first, again) = (Es256Proofs.thumbprint(&stored).unwrap(), Es256Proofs.thumbprint(&stored).unwrap());
        assert_eq!((first.len(), &first), (43, &again));
        assert_ne!(first, Es256Proofs.thumbprint(&ProofKey::generate().unwrap()).unwrap());
    }

    /// The key and its thumbprint are those of RFC 9449 sections 4.1 and 6.1.
    #[test]
    fn the_members_of_a_key_are_hashed_in_their_order() {
        let (x, y) = ("l8tFrhx-34tV3hRICRDY9zCkDlpBhF42UQUfWVAWBFs", "9VE4jf_Ok_o64zbTTlcuNJajHmt6v9TDVrU0CdvGRDA");
        let jwk = super::Jwk { crv: "P-256", kty: "EC", x, y };
        let digest = BASE64_URL_SAFE_NO_PAD.encode(Sha256::digest(json(&jwk).unwrap()));
        assert_eq!(digest, "0ZcOCORZNYy-DWpqq30jZyJGHTN0d2HglBV3uiguA4I");
        let public: Jwk = serde_json::from_slice(&json(&jwk).unwrap()).unwrap();
        assert!(DecodingKey::from_jwk(&public).is_ok());
    }

    #[test]
    fn what_is_no_key_is_refused_and_no_key_is_shown() {
        let error = ProofKey::open(&Secret::new("canary")).unwrap_err();
        assert!(!format!("{error} {error:?}").contains("canary"));
        let stored = ProofKey::generate().unwrap();
        let signer = Es256Proofs.signer(&stored, &Secret::new("token")).unwrap();
        assert!(!format!("{signer:?}").contains(&stored.expose()[60..]));
    }
}
