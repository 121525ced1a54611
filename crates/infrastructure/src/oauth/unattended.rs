//! Token requests of grants that need no person, as pure functions.

use everfresh_application::ports::IdentityExchange;
use everfresh_domain::grant::{Binding, ClientAuthMethod, GrantType};
use everfresh_domain::{Failure, FailureClass, Secret, TokenResponse};
use oauth2::HttpRequest;

use super::parse::{members, text};
use super::request::{Proof, form};
use super::wire::{Answer, Body};

/// The grant by an assertion (RFC 7523 section 2.1).
const JWT_BEARER: &str = "urn:ietf:params:oauth:grant-type:jwt-bearer";

/// The exchange of one token for another (RFC 8693 section 2.1).
const TOKEN_EXCHANGE: &str = "urn:ietf:params:oauth:grant-type:token-exchange";

/// What is exchanged (RFC 8693 section 3), and for what.
const ID_TOKEN: &str = "urn:ietf:params:oauth:token-type:id_token";
const IDENTITY_ASSERTION: &str = "urn:ietf:params:oauth:token-type:id-jag";

/// A request by the client's own right (RFC 6749 section 4.4.2), or by `assertion`.
pub(super) fn request(
    binding: &Binding,
    proof: Option<&Secret>,
    assertion: Option<&Secret>,
) -> Result<HttpRequest, Failure> {
    let scopes = binding.requested_scopes.join(" ");
    let grant = match binding.grant_type {
        GrantType::ClientCredentials => "client_credentials",
        GrantType::JwtBearer | GrantType::EnterpriseManaged => JWT_BEARER,
        GrantType::AuthorizationCode => {
            return Err(Failure::without_answer(FailureClass::Configuration, "this grant needs a person"));
        }
    };
    let mut parameters = vec![("grant_type", grant)];
    parameters.extend(assertion.map(|assertion| ("assertion", assertion.expose())));
    if !scopes.is_empty() {
        parameters.push(("scope", &scopes));
    }
    if let (true, Some(resource)) = (binding.shape.resource, &binding.resource) {
        parameters.push(("resource", resource));
    }
    parameters.extend(binding.extra_params.iter().map(|(name, value)| (name.as_str(), value.as_str())));
    form(&binding.token_endpoint, &parameters, &binding.client.client_id, &Proof::of(binding, proof))
}

/// A request to an identity provider (RFC 8693 section 2.1).
pub(super) fn exchange(exchange: &IdentityExchange) -> Result<HttpRequest, Failure> {
    let scopes = exchange.scopes.join(" ");
    let mut parameters = vec![
        ("grant_type", TOKEN_EXCHANGE),
        ("requested_token_type", IDENTITY_ASSERTION),
        ("subject_token", exchange.id_token.expose()),
        ("subject_token_type", ID_TOKEN),
        ("audience", &exchange.audience),
    ];
    parameters.extend(exchange.resource.as_deref().map(|resource| ("resource", resource)));
    if !scopes.is_empty() {
        parameters.push(("scope", &scopes));
    }
    let method =
        if exchange.client_secret.is_some() { ClientAuthMethod::ClientSecretBasic } else { ClientAuthMethod::None };
    let proof = Proof { method, secret: exchange.client_secret.as_ref(), assertion: None };
    form(&exchange.token_endpoint, &parameters, exchange.client_id.as_deref().unwrap_or_default(), &proof)
}

/// The assertion in an identity provider's answer, which must be one (RFC 8693 section 2.2.1).
pub(super) fn identity_assertion(issued: TokenResponse, answer: &Answer) -> Result<Secret, Failure> {
    let told = match &answer.body {
        Body::Whole(body) => members(body).unwrap_or_default(),
        Body::TooLong | Body::Broken => serde_json::Map::new(),
    };
    if text(&told, "issued_token_type") == Some(IDENTITY_ASSERTION) {
        return Ok(issued.access_token);
    }
    let message = "the identity provider issued another kind of token than was asked for";
    Err(Failure {
        http_status: Some(answer.status.as_u16()),
        ..Failure::without_answer(FailureClass::Provider, message)
    })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use everfresh_domain::grant::ClientRegistration;
    use http::header::AUTHORIZATION;
    use url::form_urlencoded;

    use super::*;
    use crate::oauth::request::tests::binding;

    fn sent(request: &HttpRequest) -> BTreeMap<String, String> {
        form_urlencoded::parse(request.body()).into_owned().collect()
    }

    fn pairs<const N: usize>(pairs: [(&str, &str); N]) -> BTreeMap<String, String> {
        pairs.map(|(name, value)| (name.to_owned(), value.to_owned())).into()
    }

    #[test]
    fn a_client_asks_by_its_own_right() {
        let binding = Binding {
            grant_type: GrantType::ClientCredentials,
            requested_scopes: vec!["read".into(), "write".into()],
            extra_params: BTreeMap::from([("audience".into(), "api".into())]),
            ..binding(ClientAuthMethod::ClientSecretBasic, Some("s"))
        };
        let request = request(&binding, None, None).unwrap();
        let expected = pairs([
            ("grant_type", "client_credentials"),
            ("scope", "read write"),
            ("resource", "https://mcp.example"),
            ("audience", "api"),
        ]);
        assert_eq!(sent(&request), expected);
        assert!(request.headers()[AUTHORIZATION].to_str().unwrap().starts_with("Basic "));
    }

    #[test]
    fn a_workload_without_a_client_shows_its_assertion_only() {
        let nobody = binding(ClientAuthMethod::None, None);
        let client = ClientRegistration { client_id: String::new(), ..nobody.client.clone() };
        let binding = Binding { grant_type: GrantType::JwtBearer, resource: None, client, ..nobody };
        let request = request(&binding, None, Some(&Secret::new("jwt"))).unwrap();
        assert_eq!(sent(&request), pairs([("grant_type", JWT_BEARER), ("assertion", "jwt")]));
        assert!(!request.headers().contains_key(AUTHORIZATION));
    }

    #[test]
    fn a_private_key_signs_besides_the_grants_own_assertion() {
        let binding = Binding {
            grant_type: GrantType::JwtBearer,
            resource: None,
            ..binding(ClientAuthMethod::PrivateKeyJwt, None)
        };
        let request = request(&binding, Some(&Secret::new("signed")), Some(&Secret::new("jwt"))).unwrap();
        let expected = pairs([
            ("grant_type", JWT_BEARER),
            ("assertion", "jwt"),
            ("client_id", "cli:ent"),
            ("client_assertion", "signed"),
            ("client_assertion_type", crate::oauth::assertion::CLIENT_ASSERTION_TYPE),
        ]);
        assert_eq!(sent(&request), expected);
    }

    #[test]
    fn an_id_token_is_exchanged_for_one_authorization_server_and_one_resource() {
        let request = exchange(&IdentityExchange {
            token_endpoint: "https://idp.example/token".into(),
            client_id: Some("idp-client".into()),
            client_secret: None,
            id_token: Secret::new("id"),
            audience: "https://as.example".into(),
            resource: Some("https://mcp.example".into()),
            scopes: vec![],
        });
        let expected = pairs([
            ("grant_type", TOKEN_EXCHANGE),
            ("requested_token_type", "urn:ietf:params:oauth:token-type:id-jag"),
            ("subject_token", "id"),
            ("subject_token_type", "urn:ietf:params:oauth:token-type:id_token"),
            ("audience", "https://as.example"),
            ("resource", "https://mcp.example"),
            ("client_id", "idp-client"),
        ]);
        assert_eq!(sent(&request.unwrap()), expected);
    }
}
