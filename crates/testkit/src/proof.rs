//! Proofs of possession (DPoP, RFC 9449) as servers check them (section 4.3), and a client's side
//! that is simple: how real proofs are made is tested against this.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine;
use base64::prelude::{BASE64_STANDARD, BASE64_URL_SAFE_NO_PAD};
use everfresh_application::ports::{ProofError, ProofKeys, ProofRequest, ProofSigner};
use everfresh_domain::{Secret, Timestamp};
use http::HeaderValue;
use ring::rand::{SecureRandom, SystemRandom};
use ring::signature::{
    ECDSA_P256_SHA256_FIXED, ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair, UnparsedPublicKey,
};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

/// How old a proof may be.
const AGE_MAX: Duration = Duration::from_secs(60);

/// How far ahead of the server's clock a proof may be dated.
const AHEAD_MAX: Duration = Duration::from_secs(2);

/// A proof as it came, and what it has to be for.
#[derive(Clone, Copy, Debug)]
pub struct Shown<'a> {
    /// The `DPoP` header.
    pub proof: &'a str,
    /// The request's method.
    pub method: &'a str,
    /// The request's URL without query.
    pub url: &'a str,
    /// The access token that came with it.
    pub access_token: Option<&'a str>,
}

/// Why a proof is not accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Objection {
    /// It carries no nonce, or an old one.
    Nonce,
    /// This is wrong with it.
    Invalid(&'static str),
}

/// One server's memory of proofs.
#[derive(Clone, Debug, Default)]
pub(crate) struct ProofDesk {
    seen: BTreeSet<String>,
    nonce: u64,
    accepted: u32,
}

impl ProofDesk {
    /// The nonce that proofs have to carry; the one before is good as well.
    pub(crate) fn nonce(&self) -> String {
        format!("nonce-{}", self.nonce)
    }

    /// The thumbprint of the key that `shown` proves. `rotates` says after how many accepted proofs
    /// there is another nonce; `None` where none is wanted.
    pub(crate) fn check(
        &mut self,
        now: Timestamp,
        shown: &Shown<'_>,
        rotates: Option<u32>,
    ) -> Result<String, Objection> {
        let (claims, thumbprint) = verified(shown.proof).map_err(Objection::Invalid)?;
        self.check_claims(now, shown, &claims).map_err(Objection::Invalid)?;
        let Some(every) = rotates else { return Ok(thumbprint) };
        let good = [self.nonce(), format!("nonce-{}", self.nonce.wrapping_sub(1))];
        if !claims["nonce"].as_str().is_some_and(|nonce| good.iter().any(|good| good == nonce)) {
            return Err(Objection::Nonce);
        }
        self.accepted += 1;
        if every > 0 && self.accepted.is_multiple_of(every) {
            self.nonce += 1;
        }
        Ok(thumbprint)
    }

    fn check_claims(&mut self, now: Timestamp, shown: &Shown<'_>, claims: &Value) -> Result<(), &'static str> {
        let issued_at = claims["iat"].as_i64().ok_or("there is no iat")?;
        let issued_at = Timestamp::from_millis(issued_at.saturating_mul(1_000));
        let digest = shown.access_token.map(|token| BASE64_URL_SAFE_NO_PAD.encode(Sha256::digest(token)));
        if claims["htm"] != shown.method {
            return Err("htm is another method");
        }
        if claims["htu"] != shown.url {
            return Err("htu is another URL");
        }
        if now.after(AHEAD_MAX) < issued_at {
            return Err("iat is in the future");
        }
        if now.since(issued_at) > AGE_MAX {
            return Err("iat is too long ago");
        }
        if claims["ath"].as_str() != digest.as_deref() {
            return Err("ath is not the token's");
        }
        let jti = claims["jti"].as_str().filter(|jti| jti.len() >= 16).ok_or("there is no jti")?;
        if self.seen.insert(jti.to_owned()) { Ok(()) } else { Err("jti was seen before") }
    }
}

/// The claims of a proof that the key in its header signed, and that key's thumbprint (RFC 7638).
fn verified(proof: &str) -> Result<(Value, String), &'static str> {
    let parts: Vec<&str> = proof.split('.').collect();
    let [header, claims, signature] = parts[..] else { return Err("it is no JWS") };
    let decoded = |part: &str| BASE64_URL_SAFE_NO_PAD.decode(part).map_err(|_| "it is not base64url");
    let parsed = |part: &str| serde_json::from_slice::<Value>(&decoded(part)?).map_err(|_| "it is not JSON");
    let (head, told) = (parsed(header)?, parsed(claims)?);
    if head["typ"] != "dpop+jwt" || head["alg"] != "ES256" {
        return Err("typ or alg is wrong");
    }
    let jwk = head["jwk"].as_object().ok_or("there is no jwk")?;
    if jwk.contains_key("d") || jwk.get("kty") != Some(&json!("EC")) || jwk.get("crv") != Some(&json!("P-256")) {
        return Err("jwk is no public key on P-256");
    }
    let coordinate = |name: &str| jwk.get(name).and_then(Value::as_str).ok_or("jwk lacks a coordinate");
    let (x, y) = (coordinate("x")?, coordinate("y")?);
    let point = [vec![4], decoded(x)?, decoded(y)?].concat();
    let signed = format!("{header}.{claims}");
    UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, point)
        .verify(signed.as_bytes(), &decoded(signature)?)
        .map_err(|_| "the signature is not that of the key")?;
    let canonical = format!(r#"{{"crv":"P-256","kty":"EC","x":"{x}","y":"{y}"}}"#);
    Ok((told, BASE64_URL_SAFE_NO_PAD.encode(Sha256::digest(canonical))))
}

/// Keys and proofs for applications under test.
#[derive(Clone, Copy, Debug, Default)]
pub struct TestProofs;

impl TestProofs {
    /// A proof of `key` for a request without an access token.
    pub(crate) fn prove(key: &Secret, request: &ProofRequest<'_>) -> Result<HeaderValue, ProofError> {
        Signer { pair: pair(key)?, ath: None }.prove(request)
    }
}

impl ProofKeys for TestProofs {
    fn generate(&self) -> Result<Secret, ProofError> {
        let made = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &SystemRandom::new());
        made.map(|der| Secret::new(BASE64_STANDARD.encode(der))).map_err(|_| ProofError::NotSigned)
    }

    fn thumbprint(&self, key: &Secret) -> Result<String, ProofError> {
        let request = ProofRequest { method: "", url: "", nonce: None, issued_at: Timestamp::EPOCH };
        let proof = Self::prove(key, &request)?;
        let verified = verified(proof.to_str().unwrap_or_default());
        verified.map(|(_, thumbprint)| thumbprint).map_err(|_| ProofError::UnusableKey)
    }

    fn signer(&self, key: &Secret, access_token: &Secret) -> Result<Arc<dyn ProofSigner>, ProofError> {
        let ath = BASE64_URL_SAFE_NO_PAD.encode(Sha256::digest(access_token.expose()));
        Ok(Arc::new(Signer { pair: pair(key)?, ath: Some(ath) }))
    }
}

fn pair(key: &Secret) -> Result<EcdsaKeyPair, ProofError> {
    let der = BASE64_STANDARD.decode(key.expose()).map_err(|_| ProofError::UnusableKey)?;
    EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &der, &SystemRandom::new())
        .map_err(|_| ProofError::UnusableKey)
}

#[derive(Debug)]
struct Signer {
    pair: EcdsaKeyPair,
    ath: Option<String>,
}

impl ProofSigner for Signer {
    fn prove(&self, request: &ProofRequest<'_>) -> Result<HeaderValue, ProofError> {
        let random = SystemRandom::new();
        let mut drawn = [0; 16];
        random.fill(&mut drawn).map_err(|_| ProofError::NotSigned)?;
        let point = self.pair.public_key().as_ref();
        let (x, y) = (BASE64_URL_SAFE_NO_PAD.encode(&point[1..33]), BASE64_URL_SAFE_NO_PAD.encode(&point[33..]));
        let jwk = json!({ "kty": "EC", "crv": "P-256", "x": x, "y": y });
        let header = json!({ "typ": "dpop+jwt", "alg": "ES256", "jwk": jwk });
        let mut claims = json!({
            "jti": BASE64_URL_SAFE_NO_PAD.encode(drawn),
            "htm": request.method,
            "htu": request.url,
            "iat": request.issued_at.as_millis() / 1_000,
        });
        for (name, value) in [("ath", self.ath.as_deref()), ("nonce", request.nonce)] {
            if let Some(value) = value {
                claims[name] = json!(value);
            }
        }
        let encoded = |part: &Value| BASE64_URL_SAFE_NO_PAD.encode(part.to_string());
        let signed = format!("{}.{}", encoded(&header), encoded(&claims));
        let signature = self.pair.sign(&random, signed.as_bytes()).map_err(|_| ProofError::NotSigned)?;
        let proof = format!("{signed}.{}", BASE64_URL_SAFE_NO_PAD.encode(signature));
        HeaderValue::try_from(proof).map_err(|_| ProofError::NotSigned)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp::from_millis(1_795_000_000_000);
    const REQUEST: ProofRequest<'_> =
        ProofRequest { method: "POST", url: "https://as.example/token", nonce: None, issued_at: NOW };

    fn checked(desk: &mut ProofDesk, proof: &HeaderValue, token: Option<&str>) -> Result<String, Objection> {
        let proof = proof.to_str().unwrap();
        let shown = Shown { proof, method: "POST", url: "https://as.example/token", access_token: token };
        desk.check(NOW, &shown, None)
    }

    #[test]
    fn a_proof_counts_once_and_for_its_own_request_time_and_token() {
        let key = TestProofs.generate().unwrap();
        let mut desk = ProofDesk::default();
        let good = TestProofs::prove(&key, &REQUEST).unwrap();
        assert_eq!(checked(&mut desk, &good, None), Ok(TestProofs.thumbprint(&key).unwrap()));
        assert_eq!(checked(&mut desk, &good, None), Err(Objection::Invalid("jti was seen before")));
        let cases = [
            (ProofRequest { method: "GET", ..REQUEST }, "htm is another method"),
            (ProofRequest { url: "https://as.example/token?x=1", ..REQUEST }, "htu is another URL"),
            (ProofRequest { issued_at: NOW.after(Duration::from_secs(3)), ..REQUEST }, "iat is in the future"),
            (ProofRequest { issued_at: NOW.before(Duration::from_secs(61)), ..REQUEST }, "iat is too long ago"),
        ];
        for (request, wrong) in cases {
            let proof = TestProofs::prove(&key, &request).unwrap();
            assert_eq!(checked(&mut desk, &proof, None), Err(Objection::Invalid(wrong)));
        }
        let bound = TestProofs.signer(&key, &Secret::new("a1")).unwrap();
        assert!(checked(&mut desk, &bound.prove(&REQUEST).unwrap(), Some("a1")).is_ok());
        for (proof, token) in [(bound.prove(&REQUEST).unwrap(), None), (bound.prove(&REQUEST).unwrap(), Some("a2"))] {
            assert_eq!(checked(&mut desk, &proof, token), Err(Objection::Invalid("ath is not the token's")));
        }
    }

    #[test]
    fn a_proof_that_somebody_changed_is_noticed() {
        let proof = TestProofs::prove(&TestProofs.generate().unwrap(), &REQUEST).unwrap();
        let [header, _, signature] = proof.to_str().unwrap().split('.').collect::<Vec<_>>()[..] else { panic!() };
        let claims = json!({ "jti": "0123456789abcdef", "htm": "POST", "htu": REQUEST.url, "iat": 1_795_000_000 });
        let claims = BASE64_URL_SAFE_NO_PAD.encode(claims.to_string());
        let forged = HeaderValue::try_from(format!("{header}.{claims}.{signature}")).unwrap();
        let wrong = Objection::Invalid("the signature is not that of the key");
        assert_eq!(checked(&mut ProofDesk::default(), &forged, None), Err(wrong));
    }

    #[test]
    fn a_nonce_is_good_until_the_second_one_after_it() {
        let (key, mut desk) = (TestProofs.generate().unwrap(), ProofDesk::default());
        let mut with = |nonce: Option<&str>| {
            let proof = TestProofs::prove(&key, &ProofRequest { nonce, ..REQUEST }).unwrap();
            let shown = Shown { proof: proof.to_str().unwrap(), method: "POST", url: REQUEST.url, access_token: None };
            desk.check(NOW, &shown, Some(1)).map(drop)
        };
        assert_eq!(with(None), Err(Objection::Nonce));
        assert_eq!((with(Some("nonce-0")), with(Some("nonce-0"))), (Ok(()), Ok(())));
        assert_eq!((with(Some("nonce-0")), with(Some("nonce-2"))), (Err(Objection::Nonce), Ok(())));
    }
}
