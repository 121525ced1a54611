//! Finding an upstream's authorization server (MCP authorization, "Authorization Server Discovery").

use everfresh_application::ServerSettings;
use everfresh_application::challenge::{Scheme, parse_www_authenticate};
use everfresh_application::ports::{Challenge, Discovered, DiscoveryError, DpopOffer};
use everfresh_domain::Failure;
use http::StatusCode;
use http::header::{ACCEPT, CONTENT_TYPE, WWW_AUTHENTICATE};
use serde::de::DeserializeOwned;

use super::metadata::{
    Purpose, ResourceMetadata, ServerMetadata, Spelling, covers, default_endpoints, origin, resource_metadata_urls,
    server_metadata_urls,
};
use super::wire::{self, Body};
use super::{HttpOAuth, PATIENCE};
use crate::http::{Reach, check_url};

/// What an MCP client says first; a protected server answers it with its challenge.
const INITIALIZE: &str = r#"{"jsonrpc":"2.0","id":1,"method":"initialize","params":{"protocolVersion":"2025-06-18","capabilities":{},"clientInfo":{"name":"everfresh","version":"1"}}}"#;

/// Of the authorization servers that an upstream names, this many are asked: more would be somebody
/// who makes us knock at doors.
const ISSUERS_MAX: usize = 4;

/// One discovery.
pub(super) struct Discovery<'a> {
    oauth: &'a HttpOAuth,
    server: &'a ServerSettings,
    reach: Reach,
    purpose: Purpose,
}

/// What became of one document.
enum Found<T> {
    Document(T),
    Nothing,
    Unreachable(DiscoveryError),
}

impl<'a> Discovery<'a> {
    pub(super) async fn new(oauth: &'a HttpOAuth, server: &'a ServerSettings) -> Self {
        let purpose = if server.oauth.grant.is_unattended() { Purpose::Tokens } else { Purpose::Login };
        Self { oauth, server, reach: oauth.reach(server).await, purpose }
    }

    pub(super) async fn run(&self, challenge: Option<Challenge>) -> Result<Discovered, DiscoveryError> {
        // Its tokens will go there: not in clear, wherever they come from.
        let url = &self.server.url;
        check_url(url, &self.reach).map_err(|cause| DiscoveryError::Refused { url: url.clone(), cause })?;
        if let Some(issuer) = &self.server.oauth.issuer {
            let metadata =
                self.server_metadata(issuer, Spelling::Exact).await?.ok_or_else(|| DiscoveryError::Refused {
                    url: issuer.clone(),
                    cause: "no authorization server metadata is to be found there; check oauth.issuer".to_owned(),
                })?;
            return self.discovered(metadata, ResourceMetadata::default(), challenge.unwrap_or_default());
        }
        let challenge = match challenge {
            Some(challenge) => Some(challenge),
            None => self.ask_upstream().await?,
        };
        let told = challenge.clone().unwrap_or_default();
        match self.resource_metadata(told.resource_metadata.as_deref()).await? {
            Some(resource) => {
                let metadata = self.named_server(&resource).await?;
                self.discovered(metadata, resource, told)
            }
            None => {
                let metadata = self.legacy(challenge.is_some()).await?;
                self.discovered(metadata, ResourceMetadata::default(), told)
            }
        }
    }

    /// The token endpoint that an issuer names.
    pub(super) async fn token_endpoint(self, issuer: &str) -> Result<String, DiscoveryError> {
        let refused = |cause: String| DiscoveryError::Refused { url: issuer.to_owned(), cause };
        let asked = Self { purpose: Purpose::Tokens, ..self };
        let metadata = asked.server_metadata(issuer, Spelling::Exact).await?;
        let endpoint = metadata
            .and_then(|metadata| metadata.token_endpoint)
            .ok_or_else(|| refused("no metadata with a token endpoint is to be found there".to_owned()))?;
        check_url(&endpoint, &asked.reach).map_err(refused)?;
        Ok(endpoint)
    }

    /// Calls the upstream without a token, and takes its challenge.
    async fn ask_upstream(&self) -> Result<Option<Challenge>, DiscoveryError> {
        let url = &self.server.url;
        let mut request = http::Request::post(url)
            .header(CONTENT_TYPE, "application/json")
            .header(ACCEPT, "application/json, text/event-stream");
        for (name, value) in &self.server.headers {
            request = request.header(name, value);
        }
        let refused = |error: http::Error| DiscoveryError::Refused { url: url.clone(), cause: error.to_string() };
        let request = request.body(INITIALIZE.as_bytes().to_vec()).map_err(refused)?;
        // The head says it all: an upstream that needs no login may answer with an open stream.
        let head = async {
            let client = self.oauth.client(self.server, request.uri()).await?;
            wire::send_for_head(&client, request).await
        };
        let (status, headers) = in_time(url, head).await?;
        if status != StatusCode::UNAUTHORIZED {
            return Ok(None);
        }
        let values: Vec<_> =
            headers.get_all(WWW_AUTHENTICATE).iter().map(|value| String::from_utf8_lossy(value.as_bytes())).collect();
        Ok(Some(parse_www_authenticate(values.iter().map(AsRef::as_ref), Scheme::Bearer).unwrap_or_default()))
    }

    /// The upstream's own metadata: where its challenge says, else at the well-known places.
    async fn resource_metadata(&self, told: Option<&str>) -> Result<Option<ResourceMetadata>, DiscoveryError> {
        let upstream = &self.server.url;
        let places = told.map(str::to_owned).into_iter().chain(resource_metadata_urls(upstream));
        let mut unreachable = None;
        for place in places {
            match self.document::<ResourceMetadata>(&place).await? {
                Found::Document(metadata) if metadata.authorization_servers.is_empty() => {}
                Found::Document(metadata) => {
                    if let Some(resource) = metadata.resource.as_ref().filter(|resource| !covers(resource, upstream)) {
                        let named: String = resource.chars().take(200).collect();
                        let cause = format!("it describes {named:?}, which is not the server {upstream}");
                        return Err(DiscoveryError::Refused { url: place, cause });
                    }
                    return Ok(Some(metadata));
                }
                Found::Nothing => {}
                Found::Unreachable(error) => unreachable = Some(error),
            }
        }
        unreachable.map_or(Ok(None), Err)
    }

    /// The first usable of the authorization servers that the upstream names.
    async fn named_server(&self, resource: &ResourceMetadata) -> Result<ServerMetadata, DiscoveryError> {
        let mut problem = DiscoveryError::NotFound { url: self.server.url.clone() };
        for issuer in resource.authorization_servers.iter().take(ISSUERS_MAX) {
            match self.server_metadata(issuer, Spelling::Exact).await {
                Ok(Some(metadata)) => return Ok(metadata),
                Ok(None) => {
                    let cause = "it has no authorization server metadata".to_owned();
                    problem = DiscoveryError::Refused { url: issuer.clone(), cause };
                }
                Err(error) => problem = error,
            }
        }
        Err(problem)
    }

    /// An issuer's metadata; `None` where it has none.
    async fn server_metadata(
        &self,
        issuer: &str,
        spelling: Spelling,
    ) -> Result<Option<ServerMetadata>, DiscoveryError> {
        let mut problem = None;
        for place in server_metadata_urls(issuer) {
            match self.document::<ServerMetadata>(&place).await? {
                Found::Document(metadata) => match metadata.objection(issuer, spelling, self.purpose) {
                    None => return Ok(Some(metadata)),
                    Some(cause) => problem = Some(DiscoveryError::Refused { url: place, cause }),
                },
                Found::Nothing => {}
                Found::Unreachable(error) => problem = Some(error),
            }
        }
        problem.map_or(Ok(None), Err)
    }

    /// Servers from before protected resource metadata: their own origin is the issuer.
    async fn legacy(&self, challenged: bool) -> Result<ServerMetadata, DiscoveryError> {
        let url = self.server.url.clone();
        let Some(origin) = origin(&url) else { return Err(DiscoveryError::NotFound { url }) };
        match self.server_metadata(&origin, Spelling::OrWithSlash).await? {
            Some(metadata) => Ok(metadata),
            None if challenged => Ok(default_endpoints(&origin)),
            None => Err(DiscoveryError::NotProtected { url }),
        }
    }

    /// Fetches one document. Only a rule that is broken is an error; absence is not.
    async fn document<T: DeserializeOwned>(&self, url: &str) -> Result<Found<T>, DiscoveryError> {
        let refused = |cause: String| DiscoveryError::Refused { url: url.to_owned(), cause };
        check_url(url, &self.reach).map_err(refused)?;
        let request = http::Request::get(url).header(ACCEPT, "application/json").body(Vec::new());
        let request = request.map_err(|error| refused(error.to_string()))?;
        let answer = match in_time(url, self.oauth.send(self.server, request)).await {
            Ok(answer) => answer,
            Err(error) => return Ok(Found::Unreachable(error)),
        };
        if answer.status.is_server_error() {
            let cause = format!("it answered {}", answer.status.as_u16());
            return Ok(Found::Unreachable(DiscoveryError::Unreachable { url: url.to_owned(), cause }));
        }
        Ok(match answer.body {
            Body::Whole(body) if answer.status == StatusCode::OK => {
                serde_json::from_slice(&body).map_or(Found::Nothing, Found::Document)
            }
            Body::Whole(_) | Body::TooLong | Body::Broken => Found::Nothing,
        })
    }

    fn discovered(
        &self,
        metadata: ServerMetadata,
        resource: ResourceMetadata,
        challenge: Challenge,
    ) -> Result<Discovered, DiscoveryError> {
        let endpoints = [
            metadata.authorization_endpoint.as_ref(),
            metadata.token_endpoint.as_ref(),
            metadata.registration_endpoint.as_ref(),
            metadata.revocation_endpoint.as_ref(),
            metadata.device_authorization_endpoint.as_ref(),
        ];
        for url in endpoints.into_iter().flatten() {
            check_url(url, &self.reach).map_err(|cause| DiscoveryError::Refused { url: url.clone(), cause })?;
        }
        Ok(Discovered {
            issuer: metadata.issuer,
            authorization_endpoint: metadata.authorization_endpoint.unwrap_or_default(),
            token_endpoint: metadata.token_endpoint.unwrap_or_default(),
            registration_endpoint: metadata.registration_endpoint,
            revocation_endpoint: metadata.revocation_endpoint,
            device_authorization_endpoint: metadata.device_authorization_endpoint,
            grant_profiles: metadata.authorization_grant_profiles_supported,
            token_endpoint_auth_methods: metadata.token_endpoint_auth_methods_supported,
            scopes_supported: metadata.scopes_supported,
            client_id_metadata_documents: metadata.client_id_metadata_document_supported,
            iss_in_responses: metadata.authorization_response_iss_parameter_supported,
            resource: resource.resource,
            resource_scopes: resource.scopes_supported,
            dpop: DpopOffer {
                server_algorithms: metadata.dpop_signing_alg_values_supported,
                resource_algorithms: resource.dpop_signing_alg_values_supported,
                resource_requires: resource.dpop_bound_access_tokens_required,
            },
            challenge,
        })
    }
}

/// What `call` to `url` brings, within [`PATIENCE`].
pub(super) async fn in_time<T>(url: &str, call: impl Future<Output = Result<T, Failure>>) -> Result<T, DiscoveryError> {
    let unreachable = |cause: String| DiscoveryError::Unreachable { url: url.to_owned(), cause };
    match tokio::time::timeout(PATIENCE, call).await {
        Ok(Ok(answer)) => Ok(answer),
        Ok(Err(failure)) => Err(unreachable(wire::cause(failure))),
        Err(_) => Err(unreachable(format!("no answer within {} s", PATIENCE.as_secs()))),
    }
}
