//! A client that shows who it is by what it signs (RFC 7523 section 2.2, OpenID Connect's
//! `private_key_jwt`). The time and what makes each assertion unique are arguments.

use std::time::Duration;

use everfresh_application::SigningAlgorithm;
use everfresh_domain::grant::{ClientAuthMethod, ClientRegistration};
use everfresh_domain::{Failure, FailureClass, Secret, Timestamp};
use jsonwebtoken::Algorithm;
use serde::Serialize;

use crate::jose::SigningKey;

/// The type of a client's assertion (RFC 7523 section 8.2).
pub(super) const CLIENT_ASSERTION_TYPE: &str = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";

/// How long an assertion is good: for one request, and for clocks that differ.
const LIFETIME: Duration = Duration::from_secs(300);

/// What is claimed (RFC 7523 section 3).
#[derive(Serialize)]
struct Claims<'a> {
    iss: &'a str,
    sub: &'a str,
    aud: &'a str,
    jti: &'a str,
    iat: i64,
    exp: i64,
}

/// The assertion of `client` at `now`, where it has a private key. `jti` must never come again.
pub(super) fn of_client(
    client: &ClientRegistration,
    algorithm: Option<SigningAlgorithm>,
    now: Timestamp,
    jti: &str,
) -> Result<Option<Secret>, Failure> {
    let (ClientAuthMethod::PrivateKeyJwt, Some(pem)) = (client.auth_method, &client.private_key) else {
        return Ok(None);
    };
    let seconds = |at: Timestamp| at.as_millis() / 1_000;
    let claims = Claims {
        iss: &client.client_id,
        sub: &client.client_id,
        aud: &client.issuer,
        jti,
        iat: seconds(now),
        exp: seconds(now.after(LIFETIME)),
    };
    let signed = SigningKey::from_pem(pem, algorithm.map(algorithm_of)).and_then(|key| key.sign(&claims));
    let unusable =
        |error: crate::jose::JoseError| Failure::without_answer(FailureClass::Configuration, error.to_string());
    signed.map(Some).map_err(unusable)
}

fn algorithm_of(chosen: SigningAlgorithm) -> Algorithm {
    match chosen {
        SigningAlgorithm::Es256 => Algorithm::ES256,
        SigningAlgorithm::Es384 => Algorithm::ES384,
        SigningAlgorithm::EdDsa => Algorithm::EdDSA,
        SigningAlgorithm::Rs256 => Algorithm::RS256,
        SigningAlgorithm::Rs384 => Algorithm::RS384,
        SigningAlgorithm::Rs512 => Algorithm::RS512,
        SigningAlgorithm::Ps256 => Algorithm::PS256,
        SigningAlgorithm::Ps384 => Algorithm::PS384,
        SigningAlgorithm::Ps512 => Algorithm::PS512,
    }
}

#[cfg(test)]
mod tests {
    use jsonwebtoken::{DecodingKey, Validation, decode};
    use serde_json::{Value, json};

    use super::*;

    fn client(private_key: &str) -> ClientRegistration {
        ClientRegistration {
            issuer: "https://as.example/tenant".into(),
            client_id: "client".into(),
            client_secret: None,
            private_key: Some(Secret::new(private_key)),
            auth_method: ClientAuthMethod::PrivateKeyJwt,
            secret_expires_at: None,
            redirect_uris: vec![],
        }
    }

    #[test]
    fn an_assertion_says_who_is_asking_whom_and_for_how_long() {
        let key = rcgen::KeyPair::generate().unwrap();
        let now = Timestamp::from_millis(1_795_000_000_500);
        let signed = of_client(&client(&key.serialize_pem()), None, now, "once").unwrap().unwrap();
        let mut validation = Validation::new(Algorithm::ES256);
        validation.validate_exp = false;
        validation.set_audience(&["https://as.example/tenant"]);
        let public = DecodingKey::from_ec_pem(key.public_key_pem().as_bytes()).unwrap();
        let claims = decode::<Value>(signed.expose(), &public, &validation).unwrap().claims;
        let expected = json!({
            "iss": "client", "sub": "client", "aud": "https://as.example/tenant", "jti": "once",
            "iat": 1_795_000_000, "exp": 1_795_000_300,
        });
        assert_eq!(claims, expected);
    }

    #[test]
    fn a_key_that_is_none_is_the_configurations_fault_and_is_not_shown() {
        let failure = of_client(&client("canary"), None, Timestamp::EPOCH, "1").unwrap_err();
        assert_eq!(failure.class, FailureClass::Configuration);
        assert!(!format!("{failure:?}").contains("canary"));
        let key = rcgen::KeyPair::generate().unwrap().serialize_pem();
        let wrong = of_client(&client(&key), Some(SigningAlgorithm::Ps256), Timestamp::EPOCH, "1").unwrap_err();
        assert!(wrong.message.contains("PS256"), "{wrong:?}");
    }

    #[test]
    fn a_client_without_a_key_signs_nothing() {
        let public = ClientRegistration { auth_method: ClientAuthMethod::None, private_key: None, ..client("") };
        assert!(of_client(&public, None, Timestamp::EPOCH, "1").unwrap().is_none());
    }
}
