//! Requests to OAuth endpoints, built from the `oauth2` crate's types.
//!
//! The crate writes the form and the client authentication (RFC 6749 section 2.3.1: identifier and
//! secret are form-encoded before Basic). What it would send is taken from it and sent by [`super::wire`].

use std::cell::RefCell;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use everfresh_application::ports::{AuthorizationRequest, DiscoveryError, TokenKind};
use everfresh_domain::grant::{Binding, ClientAuthMethod};
use everfresh_domain::{Failure, FailureClass, Secret};
use http::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE};
use oauth2::basic::BasicClient;
use oauth2::{
    AuthType, AuthUrl, AuthorizationCode, ClientId, ClientSecret, CsrfToken, EndpointNotSet, EndpointSet, HttpRequest,
    HttpResponse, PkceCodeChallenge, PkceCodeVerifier, RedirectUrl, RefreshToken, Scope, SyncHttpClient, TokenUrl,
};
use url::form_urlencoded;

use super::assertion;

/// The grant type of a device code (RFC 8628 section 3.4).
pub(super) const DEVICE_CODE_GRANT: &str = "urn:ietf:params:oauth:grant-type:device_code";

type TokenClient = BasicClient<EndpointNotSet, EndpointNotSet, EndpointNotSet, EndpointNotSet, EndpointSet>;

/// A refresh (RFC 6749 section 6) in the shape that the binding prescribes.
///
/// `assertion` is what a client with a private key shows of itself.
pub(super) fn refresh(
    binding: &Binding,
    assertion: Option<&Secret>,
    refresh_token: &Secret,
    scopes: &[String],
) -> Result<HttpRequest, Failure> {
    let client = client(binding)?;
    let token = RefreshToken::new(refresh_token.expose().to_owned());
    let mut request = client.exchange_refresh_token(&token);
    if binding.shape.scope {
        request = request.add_scopes(scopes.iter().cloned().map(Scope::new));
    }
    if let (true, Some(resource)) = (binding.shape.resource, &binding.resource) {
        request = request.add_extra_param("resource", resource.as_str());
    }
    for (name, value) in assertion_params(assertion) {
        request = request.add_extra_param(name, value);
    }
    let slot = Slot::default();
    drop(request.request(&slot));
    slot.taken()
}

/// The exchange of a code (RFC 6749 section 4.1.3, RFC 7636 section 4.5).
pub(super) fn exchange(
    binding: &Binding,
    assertion: Option<&Secret>,
    code: &Secret,
    verifier: &Secret,
    redirect_uri: &str,
) -> Result<HttpRequest, Failure> {
    let redirect = RedirectUrl::new(redirect_uri.to_owned()).map_err(|error| unusable("redirect URI", &error))?;
    let client = client(binding)?.set_redirect_uri(redirect);
    let mut request = client
        .exchange_code(AuthorizationCode::new(code.expose().to_owned()))
        .set_pkce_verifier(PkceCodeVerifier::new(verifier.expose().to_owned()));
    if let Some(resource) = &binding.resource {
        request = request.add_extra_param("resource", resource.as_str());
    }
    for (name, value) in assertion_params(assertion) {
        request = request.add_extra_param(name, value);
    }
    let slot = Slot::default();
    drop(request.request(&slot));
    slot.taken()
}

/// The parameters of a client's assertion (RFC 7523 section 2.2).
fn assertion_params(assertion: Option<&Secret>) -> impl Iterator<Item = (&'static str, &str)> {
    assertion.into_iter().flat_map(|assertion| {
        [("client_assertion_type", assertion::CLIENT_ASSERTION_TYPE), ("client_assertion", assertion.expose())]
    })
}

fn client(binding: &Binding) -> Result<TokenClient, Failure> {
    let endpoint = TokenUrl::new(binding.token_endpoint.clone()).map_err(|error| unusable("token endpoint", &error))?;
    let registration = &binding.client;
    let client = BasicClient::new(ClientId::new(registration.client_id.clone())).set_token_uri(endpoint);
    let secret = registration.client_secret.as_ref().map(|secret| ClientSecret::new(secret.expose().to_owned()));
    Ok(match (registration.auth_method, secret) {
        (ClientAuthMethod::ClientSecretBasic, Some(secret)) => {
            client.set_auth_type(AuthType::BasicAuth).set_client_secret(secret)
        }
        (ClientAuthMethod::ClientSecretPost, Some(secret)) => {
            client.set_auth_type(AuthType::RequestBody).set_client_secret(secret)
        }
        // A public client names itself in the body, and never sends an empty secret.
        (ClientAuthMethod::None | ClientAuthMethod::PrivateKeyJwt, _) | (_, None) => {
            client.set_auth_type(AuthType::RequestBody)
        }
    })
}

/// The crate's HTTP client that sends nothing: it keeps the request that it is handed.
#[derive(Default)]
struct Slot(RefCell<Option<HttpRequest>>);

impl SyncHttpClient for Slot {
    type Error = Taken;

    fn call(&self, request: HttpRequest) -> Result<HttpResponse, Taken> {
        self.0.replace(Some(request));
        Err(Taken)
    }
}

impl Slot {
    fn taken(self) -> Result<HttpRequest, Failure> {
        let nothing = || Failure::without_answer(FailureClass::Network, "the request cannot be built");
        self.0.into_inner().ok_or_else(nothing)
    }
}

/// Why the crate got no answer: its request was taken.
#[derive(Debug, thiserror::Error)]
#[error("the request was taken")]
struct Taken;

fn unusable(what: &str, error: &url::ParseError) -> Failure {
    Failure::without_answer(FailureClass::Network, format!("the {what} cannot be used: {error}"))
}

/// A revocation (RFC 7009 section 2.1), where the provider has an endpoint for it. The crate's own
/// would refuse plain HTTP on loopback.
pub(super) fn revocation(
    binding: &Binding,
    assertion: Option<&Secret>,
    token: &Secret,
    kind: TokenKind,
) -> Result<Option<HttpRequest>, Failure> {
    let Some(endpoint) = &binding.revocation_endpoint else { return Ok(None) };
    let hint = match kind {
        TokenKind::AccessToken => "access_token",
        TokenKind::RefreshToken => "refresh_token",
    };
    let parameters = [("token", token.expose()), ("token_type_hint", hint)];
    form(endpoint, &parameters, &binding.client.client_id, &Proof::of(binding, assertion)).map(Some)
}

/// The question for a device code (RFC 8628 section 3.1).
pub(super) fn device_authorization(
    binding: &Binding,
    assertion: Option<&Secret>,
    endpoint: &str,
) -> Result<HttpRequest, Failure> {
    let scopes = binding.requested_scopes.join(" ");
    let mut parameters = Vec::new();
    if !scopes.is_empty() {
        parameters.push(("scope", scopes.as_str()));
    }
    parameters.extend(binding.resource.as_deref().map(|resource| ("resource", resource)));
    parameters.extend(binding.extra_params.iter().map(|(name, value)| (name.as_str(), value.as_str())));
    form(endpoint, &parameters, &binding.client.client_id, &Proof::of(binding, assertion))
}

/// The question whether a device code is approved (RFC 8628 section 3.4). The crate asks only in a
/// loop of its own.
pub(super) fn device_token(
    binding: &Binding,
    assertion: Option<&Secret>,
    device_code: &Secret,
) -> Result<HttpRequest, Failure> {
    let mut parameters = vec![("grant_type", DEVICE_CODE_GRANT), ("device_code", device_code.expose())];
    parameters.extend(binding.resource.as_deref().map(|resource| ("resource", resource)));
    form(&binding.token_endpoint, &parameters, &binding.client.client_id, &Proof::of(binding, assertion))
}

/// How a client shows who it is in one request.
pub(super) struct Proof<'a> {
    pub(super) method: ClientAuthMethod,
    pub(super) secret: Option<&'a Secret>,
    /// What it has signed, where it has a private key.
    pub(super) assertion: Option<&'a Secret>,
}

impl<'a> Proof<'a> {
    /// How the client of `binding` does.
    pub(super) fn of(binding: &'a Binding, assertion: Option<&'a Secret>) -> Self {
        let client = &binding.client;
        Self { method: client.auth_method, secret: client.client_secret.as_ref(), assertion }
    }
}

/// A form for `endpoint` with `parameters`, and the client's authentication as everywhere. A client
/// without a name is not named.
pub(super) fn form(
    endpoint: &str,
    parameters: &[(&str, &str)],
    client_id: &str,
    proof: &Proof<'_>,
) -> Result<HttpRequest, Failure> {
    let mut form = form_urlencoded::Serializer::new(String::new());
    form.extend_pairs(parameters);
    let mut request = http::Request::post(endpoint)
        .header(ACCEPT, "application/json")
        .header(CONTENT_TYPE, "application/x-www-form-urlencoded");
    match (proof.method, proof.secret) {
        (ClientAuthMethod::ClientSecretBasic, Some(secret)) => {
            let encoded = |text: &str| form_urlencoded::byte_serialize(text.as_bytes()).collect::<String>();
            let credentials = format!("{}:{}", encoded(client_id), encoded(secret.expose()));
            request = request.header(AUTHORIZATION, format!("Basic {}", BASE64_STANDARD.encode(credentials)));
        }
        (ClientAuthMethod::ClientSecretPost, Some(secret)) => {
            form.append_pair("client_id", client_id).append_pair("client_secret", secret.expose());
        }
        (ClientAuthMethod::None | ClientAuthMethod::PrivateKeyJwt, _) | (_, None) => {
            if !client_id.is_empty() {
                form.append_pair("client_id", client_id);
            }
        }
    }
    form.extend_pairs(assertion_params(proof.assertion));
    let cannot = |error: http::Error| {
        Failure::without_answer(FailureClass::Network, format!("the endpoint {endpoint} cannot be used: {error}"))
    };
    request.body(form.finish().into_bytes()).map_err(cannot)
}

/// The URL that a person opens (RFC 6749 section 4.1.1, RFC 7636 section 4.3, RFC 8707 section 2).
pub(super) fn authorization_url(request: &AuthorizationRequest) -> Result<String, DiscoveryError> {
    let refused = |cause: String| DiscoveryError::Refused { url: request.authorization_endpoint.clone(), cause };
    let endpoint = AuthUrl::new(request.authorization_endpoint.clone()).map_err(|error| refused(error.to_string()))?;
    let redirect = RedirectUrl::new(request.redirect_uri.clone()).map_err(|error| refused(error.to_string()))?;
    let verifier = PkceCodeVerifier::new(request.verifier.expose().to_owned());
    let client =
        BasicClient::new(ClientId::new(request.client_id.clone())).set_auth_uri(endpoint).set_redirect_uri(redirect);
    let mut url = client
        .authorize_url(|| CsrfToken::new(request.state.expose().to_owned()))
        .add_scopes(request.scopes.iter().cloned().map(Scope::new))
        .set_pkce_challenge(PkceCodeChallenge::from_code_verifier_sha256(&verifier));
    if let Some(resource) = &request.resource {
        url = url.add_extra_param("resource", resource.as_str());
    }
    if let Some(thumbprint) = &request.dpop_jkt {
        url = url.add_extra_param("dpop_jkt", thumbprint.as_str());
    }
    for (name, value) in &request.extra_params {
        url = url.add_extra_param(name.as_str(), value.as_str());
    }
    Ok(url.url().0.into())
}

#[cfg(test)]
pub(super) mod tests {
    use std::collections::BTreeMap;

    use everfresh_domain::grant::{ClientRegistration, GrantType, RequestShape};

    use super::*;

    pub(crate) fn binding(auth_method: ClientAuthMethod, secret: Option<&str>) -> Binding {
        Binding {
            upstream: "https://mcp.example/mcp".into(),
            token_endpoint: "https://as.example/token".into(),
            revocation_endpoint: Some("https://as.example/revoke".into()),
            grant_type: GrantType::AuthorizationCode,
            client: ClientRegistration {
                issuer: "https://as.example".into(),
                client_id: "cli:ent".into(),
                client_secret: secret.map(Secret::new),
                private_key: None,
                auth_method,
                secret_expires_at: None,
                redirect_uris: vec![],
            },
            resource: Some("https://mcp.example".into()),
            requested_scopes: vec![],
            dpop_key: None,
            extra_params: BTreeMap::new(),
            shape: RequestShape { resource: true, scope: true },
        }
    }

    fn parameters(request: &HttpRequest) -> BTreeMap<String, String> {
        form_urlencoded::parse(request.body()).into_owned().collect()
    }

    #[test]
    fn a_public_client_names_itself_and_sends_no_secret() {
        let request =
            refresh(&binding(ClientAuthMethod::None, None), None, &Secret::new("r"), &["a".into(), "b".into()]);
        let request = request.unwrap();
        assert!(request.headers().get(AUTHORIZATION).is_none());
        let expected = [
            ("client_id", "cli:ent"),
            ("grant_type", "refresh_token"),
            ("refresh_token", "r"),
            ("resource", "https://mcp.example"),
            ("scope", "a b"),
        ];
        let expected: BTreeMap<_, _> = expected.map(|(name, value)| (name.to_owned(), value.to_owned())).into();
        assert_eq!(parameters(&request), expected);
    }

    #[test]
    fn basic_credentials_are_form_encoded_first() {
        let binding = binding(ClientAuthMethod::ClientSecretBasic, Some("s e+c"));
        let expected = format!("Basic {}", BASE64_STANDARD.encode("cli%3Aent:s+e%2Bc"));
        let sent = refresh(&binding, None, &Secret::new("r"), &[]).unwrap();
        assert_eq!(sent.headers()[AUTHORIZATION], expected);
        assert!(!parameters(&sent).contains_key("client_secret"));
        let sent = revocation(&binding, None, &Secret::new("r"), TokenKind::RefreshToken).unwrap().unwrap();
        assert_eq!(sent.headers()[AUTHORIZATION], expected);
    }

    #[test]
    fn a_posted_secret_is_in_the_body_only() {
        let sent =
            refresh(&binding(ClientAuthMethod::ClientSecretPost, Some("s")), None, &Secret::new("r"), &[]).unwrap();
        assert_eq!(parameters(&sent)["client_secret"], "s");
        assert!(sent.headers().get(AUTHORIZATION).is_none());
    }

    #[test]
    fn the_shape_decides_on_resource_and_scope() {
        let mut binding = binding(ClientAuthMethod::None, None);
        binding.shape = RequestShape { resource: false, scope: false };
        let sent = parameters(&refresh(&binding, None, &Secret::new("r"), &["a".into()]).unwrap());
        assert!(!sent.contains_key("resource") && !sent.contains_key("scope"));
    }

    #[test]
    fn the_authorization_url_carries_state_challenge_and_the_resource_byte_for_byte() {
        let url = authorization_url(&AuthorizationRequest {
            authorization_endpoint: "https://as.example/authorize?tenant=1".into(),
            client_id: "client".into(),
            redirect_uri: "http://127.0.0.1:7411/oauth/callback".into(),
            scopes: vec!["read".into(), "write".into()],
            resource: Some("http://localhost:3000".into()),
            state: Secret::new("the-state"),
            verifier: Secret::new("0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"),
            dpop_jkt: Some("thumbprint".into()),
            extra_params: BTreeMap::from([("audience".into(), "api".into())]),
        });
        let url = url::Url::parse(&url.unwrap()).unwrap();
        let query: BTreeMap<String, String> = url.query_pairs().into_owned().collect();
        assert_eq!((query["resource"].as_str(), query["dpop_jkt"].as_str()), ("http://localhost:3000", "thumbprint"));
        assert_eq!(query["redirect_uri"], "http://127.0.0.1:7411/oauth/callback");
        assert_eq!((query["tenant"].as_str(), query["audience"].as_str()), ("1", "api"));
        assert_eq!((query["state"].as_str(), query["scope"].as_str()), ("the-state", "read write"));
        assert_eq!((query["code_challenge_method"].as_str(), query["code_challenge"].len()), ("S256", 43));
    }
}
