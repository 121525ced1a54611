//! One look at an upstream as a client with a token would see it, for checks that change nothing.

use everfresh_application::ServerSettings;
use everfresh_application::ports::DiscoveryError;
use everfresh_domain::{Secret, Timestamp};
use http::header::{ACCEPT, AUTHORIZATION, DATE};
use http::{HeaderValue, StatusCode};

use super::classify::date;
use super::discovery::in_time;
use super::{HttpOAuth, wire};

/// What an upstream answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Seen {
    /// The status.
    pub status: StatusCode,
    /// The time there (RFC 9110 section 6.6.1), where it tells.
    pub date: Option<Timestamp>,
}

impl HttpOAuth {
    /// Calls `server` once with a safe method, with `token` as a bearer token (RFC 6750 section 2.1)
    /// if there is one. Only the head of the answer is read: it may be a stream that never ends.
    pub async fn look(&self, server: &ServerSettings, token: Option<&Secret>) -> Result<Seen, DiscoveryError> {
        let url = &server.url;
        let refused = |cause: String| DiscoveryError::Refused { url: url.clone(), cause };
        let mut request = http::Request::get(url).header(ACCEPT, "application/json, text/event-stream");
        for (name, value) in &server.headers {
            request = request.header(name, value);
        }
        if let Some(token) = token {
            let value = HeaderValue::try_from(format!("Bearer {}", token.expose()));
            let mut value = value.map_err(|_| refused("its token cannot be sent in a header".to_owned()))?;
            value.set_sensitive(true);
            request = request.header(AUTHORIZATION, value);
        }
        let request = request.body(Vec::new()).map_err(|error| refused(error.to_string()))?;
        let head = async {
            let client = self.client(server, request.uri()).await?;
            wire::send_for_head(&client, request).await
        };
        let (status, headers) = in_time(url, head).await?;
        Ok(Seen { status, date: date(&headers, DATE) })
    }
}
