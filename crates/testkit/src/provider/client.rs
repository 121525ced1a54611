//! The OAuth ports over a model, without any socket: for drivers in virtual time.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use everfresh_application::ServerSettings;
use everfresh_application::ports::{
    AuthorizationRequest, Challenge, Clock, DeviceAuthorization, Discovered, DiscoveryError, DpopOffer,
    IdentityExchange, OAuthClient, OAuthDiscovery, ProofRequest, RegistrationError, TokenKind,
};
use everfresh_domain::grant::{Binding, ClientAuthMethod, ClientRegistration, GrantType};
use everfresh_domain::{Failure, FailureClass, Secret, Timestamp, TokenResponse};
use serde_json::{Value, json};

use super::devices::DEVICE_CODE_GRANT;
use super::model::{Form, Model};
use super::reply::{Manner, Reply};
use super::switches::DpopRule;
use super::unattended::{JWT_BEARER, TOKEN_EXCHANGE};
use crate::proof::{Shown, TestProofs};

/// Talks to a model. Its reading of answers is simple: how real ones are read is tested elsewhere.
pub struct ModelClient {
    model: Arc<Mutex<Model>>,
    clock: Arc<dyn Clock>,
}

impl ModelClient {
    /// A client of `model`, whose time is `clock`'s.
    pub fn new(model: Arc<Mutex<Model>>, clock: Arc<dyn Clock>) -> Self {
        Self { model, clock }
    }

    /// One token request, and with a key a second one where the first lacked the nonce.
    async fn tokens(&self, binding: &Binding, form: Form) -> Result<TokenResponse, Failure> {
        let reply = {
            let mut model = self.model.lock().unwrap_or_else(PoisonError::into_inner);
            let reply = self.ask(&mut model, binding, &form, None);
            match header(&reply, "dpop-nonce") {
                Some(nonce) if reply.body.contains("use_dpop_nonce") => {
                    self.ask(&mut model, binding, &form, Some(nonce))
                }
                _ => reply,
            }
        };
        tokio::time::sleep(Duration::from_millis(reply.delay_ms)).await;
        match reply.manner {
            Manner::Whole => read(&reply),
            Manner::Hang | Manner::Half => std::future::pending().await,
            Manner::Endless | Manner::Close | Manner::HalfClose | Manner::Reset => {
                Err(Failure::without_answer(FailureClass::AnswerLost, "the connection broke"))
            }
        }
    }
}

impl ModelClient {
    fn ask(&self, model: &mut Model, binding: &Binding, form: &Form, nonce: Option<&str>) -> Reply {
        let (now, url) = (self.clock.now(), binding.token_endpoint.as_str());
        if model.switches.old_token_endpoint_gone && url == format!("{}/token", model.issuer) {
            model.counters.token_requests += 1;
            return Reply { status: 404, ..Reply::default() };
        }
        let request = ProofRequest { method: "POST", url, nonce, issued_at: model.server_time(now) };
        let proof = binding.dpop_key.as_ref().and_then(|key| TestProofs::prove(key, &request).ok());
        let shown = proof
            .as_ref()
            .and_then(|proof| Some(Shown { proof: proof.to_str().ok()?, method: "POST", url, access_token: None }));
        let client = &binding.client;
        let basic = client.client_secret.as_ref().map(|secret| (client.client_id.as_str(), secret.expose()));
        model.token_proven(now, form, basic, shown.as_ref())
    }
}

fn read(reply: &Reply) -> Result<TokenResponse, Failure> {
    let body: Value = serde_json::from_str(&reply.body).unwrap_or_default();
    let retry_after = header(reply, "retry-after");
    let failure = |class, oauth_error: Option<&str>| Failure {
        class,
        oauth_error: oauth_error.map(str::to_owned),
        subcode: None,
        http_status: Some(reply.status),
        retry_after: retry_after.and_then(|value| pause(value, reply)),
        endpoint_gone: reply.status == 404 && oauth_error.is_none(),
        message: format!("the model answered {}", reply.status),
    };
    if let Some(error) = body["error"].as_str() {
        return Err(failure(
            match error {
                "invalid_grant" | "bad_refresh_token" | "invalid_refresh_token" => FailureClass::Refused,
                "invalid_client" => FailureClass::ClientRejected,
                "invalid_target" | "invalid_scope" => FailureClass::Shape,
                _ if reply.status >= 500 => FailureClass::Provider,
                _ => FailureClass::Suspect,
            },
            Some(error),
        ));
    }
    let text = |name: &str| body[name].as_str().filter(|text| !text.is_empty());
    match text("access_token") {
        Some(access_token) if reply.status < 300 => Ok(TokenResponse {
            access_token: Secret::new(access_token),
            token_type: text("token_type").unwrap_or("Bearer").into(),
            expires_in: body["expires_in"].as_u64().filter(|seconds| *seconds > 0).map(Duration::from_secs),
            refresh_token: text("refresh_token").map(Secret::new),
            refresh_token_expires_in: body["refresh_token_expires_in"].as_u64().map(Duration::from_secs),
            refresh_in: None,
            scopes: text("scope").map(|scopes| scopes.split(' ').map(str::to_owned).collect()),
            date: header(reply, "date").and_then(moment),
        }),
        Some(_) | None if reply.status == 429 => Err(failure(FailureClass::RateLimited, None)),
        Some(_) | None => Err(failure(FailureClass::Provider, None)),
    }
}

fn header<'a>(reply: &'a Reply, name: &str) -> Option<&'a str> {
    reply.headers.iter().find(|(told, _)| told == name).map(|(_, value)| value.as_str())
}

fn moment(date: &str) -> Option<Timestamp> {
    let at = jiff::fmt::rfc2822::DateTimeParser::new().parse_timestamp(date).ok()?;
    Some(Timestamp::from_millis(at.as_millisecond()))
}

/// `Retry-After` in both its forms (RFC 9110 section 10.2.3).
fn pause(value: &str, reply: &Reply) -> Option<Duration> {
    if let Ok(seconds) = value.parse() {
        return Some(Duration::from_secs(seconds));
    }
    let now = header(reply, "date").and_then(moment)?;
    Some(moment(value)?.since(now))
}

fn form(pairs: &[(&str, &str)]) -> Form {
    pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

#[async_trait]
impl OAuthClient for ModelClient {
    async fn refresh(
        &self,
        _server: &ServerSettings,
        binding: &Binding,
        refresh_token: &Secret,
        scopes: &[String],
    ) -> Result<TokenResponse, Failure> {
        let mut form = form(&[
            ("grant_type", "refresh_token"),
            ("refresh_token", refresh_token.expose()),
            ("client_id", &binding.client.client_id),
        ]);
        if let (true, Some(resource)) = (binding.shape.resource, &binding.resource) {
            form.insert("resource".into(), resource.clone());
        }
        if binding.shape.scope {
            form.insert("scope".into(), scopes.join(" "));
        }
        self.tokens(binding, form).await
    }

    async fn exchange_code(
        &self,
        _server: &ServerSettings,
        binding: &Binding,
        code: &Secret,
        verifier: &Secret,
        redirect_uri: &str,
    ) -> Result<TokenResponse, Failure> {
        let form = form(&[
            ("grant_type", "authorization_code"),
            ("code", code.expose()),
            ("code_verifier", verifier.expose()),
            ("redirect_uri", redirect_uri),
            ("client_id", &binding.client.client_id),
        ]);
        self.tokens(binding, form).await
    }

    async fn authorize_device(
        &self,
        _server: &ServerSettings,
        binding: &Binding,
        _endpoint: &str,
    ) -> Result<DeviceAuthorization, Failure> {
        let scope = binding.requested_scopes.join(" ");
        let form = form(&[("client_id", &binding.client.client_id), ("scope", &scope)]);
        let reply = self.model.lock().unwrap_or_else(PoisonError::into_inner).authorize_device(self.clock.now(), &form);
        let told: Value = serde_json::from_str(&reply.body).unwrap_or_default();
        let text = |name: &str| told[name].as_str().map(str::to_owned);
        let seconds = |name: &str| Duration::from_secs(told[name].as_u64().unwrap_or(5));
        let refused = || read(&reply).expect_err("there are no tokens in it");
        Ok(DeviceAuthorization {
            device_code: Secret::new(text("device_code").ok_or_else(refused)?),
            user_code: text("user_code").unwrap_or_default(),
            verification_uri: text("verification_uri").unwrap_or_default(),
            verification_uri_complete: text("verification_uri_complete"),
            expires_in: seconds("expires_in"),
            interval: seconds("interval"),
        })
    }

    async fn exchange_device_code(
        &self,
        _server: &ServerSettings,
        binding: &Binding,
        device_code: &Secret,
    ) -> Result<TokenResponse, Failure> {
        let form = form(&[
            ("grant_type", DEVICE_CODE_GRANT),
            ("device_code", device_code.expose()),
            ("client_id", &binding.client.client_id),
        ]);
        self.tokens(binding, form).await
    }

    async fn request_token<'a>(
        &self,
        _server: &ServerSettings,
        binding: &Binding,
        assertion: Option<&'a Secret>,
    ) -> Result<TokenResponse, Failure> {
        let grant_type =
            if binding.grant_type == GrantType::ClientCredentials { "client_credentials" } else { JWT_BEARER };
        let mut form = form(&[("grant_type", grant_type), ("scope", &binding.requested_scopes.join(" "))]);
        if let (true, Some(resource)) = (binding.shape.resource, &binding.resource) {
            form.insert("resource".into(), resource.clone());
        }
        form.extend(assertion.map(|assertion| ("assertion".to_owned(), assertion.expose().to_owned())));
        let client = &binding.client;
        if client.client_secret.is_none() && !client.client_id.is_empty() {
            form.insert("client_id".into(), client.client_id.clone());
        }
        self.tokens(binding, form).await
    }

    /// The model is its own identity provider here.
    async fn exchange_identity(
        &self,
        _server: &ServerSettings,
        exchange: &IdentityExchange,
    ) -> Result<Secret, Failure> {
        let mut form = form(&[
            ("grant_type", TOKEN_EXCHANGE),
            ("subject_token", exchange.id_token.expose()),
            ("audience", &exchange.audience),
        ]);
        form.insert("client_id".into(), exchange.client_id.clone().unwrap_or_default());
        let mut model = self.model.lock().unwrap_or_else(PoisonError::into_inner);
        read(&model.token(self.clock.now(), &form, None)).map(|issued| issued.access_token)
    }

    async fn revoke(
        &self,
        _server: &ServerSettings,
        _binding: &Binding,
        token: &Secret,
        _kind: TokenKind,
    ) -> Result<(), Failure> {
        let mut model = self.model.lock().unwrap_or_else(PoisonError::into_inner);
        model.revoke(&form(&[("token", token.expose())]));
        Ok(())
    }
}

fn offer(model: &Model) -> DpopOffer {
    let algorithms: Vec<String> = match model.switches.dpop.rule {
        DpopRule::Unknown => Vec::new(),
        DpopRule::Offered | DpopRule::Required => vec!["ES256".into()],
    };
    DpopOffer {
        server_algorithms: algorithms.clone(),
        resource_algorithms: algorithms,
        resource_requires: model.switches.dpop.rule == DpopRule::Required,
    }
}

#[async_trait]
impl OAuthDiscovery for ModelClient {
    async fn discover(
        &self,
        server: &ServerSettings,
        challenge: Option<Challenge>,
    ) -> Result<Discovered, DiscoveryError> {
        let model = self.model.lock().unwrap_or_else(PoisonError::into_inner);
        let issuer = model.issuer.clone();
        if model.switches.metadata_down {
            return Err(DiscoveryError::Unreachable { url: issuer, cause: "it answered 503".into() });
        }
        Ok(Discovered {
            authorization_endpoint: format!("{issuer}/authorize"),
            token_endpoint: model.switches.token_endpoint_told.clone().unwrap_or_else(|| format!("{issuer}/token")),
            registration_endpoint: Some(format!("{issuer}/register")),
            device_authorization_endpoint: model.behaviour.offers_device_codes.then(|| format!("{issuer}/device")),
            revocation_endpoint: Some(format!("{issuer}/revoke")),
            issuer,
            grant_profiles: Vec::new(),
            token_endpoint_auth_methods: vec!["none".into()],
            scopes_supported: model.scopes_listed.clone(),
            client_id_metadata_documents: false,
            iss_in_responses: true,
            resource: Some(server.url.clone()),
            resource_scopes: Vec::new(),
            dpop: offer(&model),
            challenge: challenge.unwrap_or_default(),
        })
    }

    async fn token_endpoint(&self, _server: &ServerSettings, issuer: &str) -> Result<String, DiscoveryError> {
        let model = self.model.lock().unwrap_or_else(PoisonError::into_inner);
        if model.switches.metadata_down {
            return Err(DiscoveryError::Unreachable { url: issuer.to_owned(), cause: "it answered 503".into() });
        }
        if model.switches.issuer_told.as_deref().is_some_and(|told| told != issuer) {
            return Err(DiscoveryError::Refused { url: issuer.to_owned(), cause: "it speaks for another".into() });
        }
        Ok(model.switches.token_endpoint_told.clone().unwrap_or_else(|| format!("{issuer}/token")))
    }

    async fn register(
        &self,
        _server: &ServerSettings,
        discovered: &Discovered,
        redirect_uris: &[String],
    ) -> Result<ClientRegistration, RegistrationError> {
        let mut model = self.model.lock().unwrap_or_else(PoisonError::into_inner);
        let reply = model.register(self.clock.now(), &json!({ "redirect_uris": redirect_uris }));
        let granted: Value = serde_json::from_str(&reply.body).unwrap_or_default();
        Ok(ClientRegistration {
            issuer: discovered.issuer.clone(),
            client_id: granted["client_id"].as_str().unwrap_or_default().to_owned(),
            client_secret: None,
            private_key: None,
            auth_method: ClientAuthMethod::None,
            secret_expires_at: None,
            redirect_uris: redirect_uris.to_vec(),
        })
    }

    /// The URL that a person would open. [`Model::authorize`] takes its query.
    fn authorization_url(&self, request: &AuthorizationRequest) -> Result<String, DiscoveryError> {
        use base64::Engine;
        use sha2::Digest;

        let digest = sha2::Sha256::digest(request.verifier.expose().as_bytes());
        let challenge = base64::prelude::BASE64_URL_SAFE_NO_PAD.encode(digest);
        let thumbprint = request.dpop_jkt.as_ref().map(|thumbprint| ("dpop_jkt", thumbprint));
        let query = url::form_urlencoded::Serializer::new(String::new())
            .extend_pairs(thumbprint)
            .append_pair("client_id", &request.client_id)
            .append_pair("redirect_uri", &request.redirect_uri)
            .append_pair("state", request.state.expose())
            .append_pair("scope", &request.scopes.join(" "))
            .append_pair("code_challenge", &challenge)
            .finish();
        Ok(format!("{}?{query}", request.authorization_endpoint))
    }
}
