//! A webhook as Standard Webhooks describes it: one POST, signed, with an id that stays the same over
//! all tries. No redirect is followed, and no answer is read but its status.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use everfresh_application::ports::{Again, Clock, Delivered, NotDelivered, NoticeMessage, Notifier, Secrets};
use everfresh_application::{SecretSource, ServerSettings};
use http::header::CONTENT_TYPE;
use http::{StatusCode, Uri};
use ring::hmac;

use super::{later, never};
use crate::http::{HttpFactory, Reach};
use crate::oauth::{retry_after, root_cause};

/// How secrets begin; what follows is base64.
const SECRET_PREFIX: &str = "whsec_";

/// How long a signing key may be.
const KEY_BYTES: std::ops::RangeInclusive<usize> = 24..=64;

/// Where to post, and with what.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WebhookSettings {
    /// Where to. It may hold a secret, so that only its host is ever shown.
    pub url: String,
    /// What it is signed with, each in a signature of its own; none leaves it unsigned.
    pub secrets: Vec<SecretSource>,
    /// How long one try may take.
    pub limit: Duration,
    /// Authorities besides the system's.
    pub ca_file: Option<std::path::PathBuf>,
}

/// Posts each notice.
pub struct WebhookNotifier {
    settings: WebhookSettings,
    factory: Arc<HttpFactory>,
    secrets: Arc<dyn Secrets>,
    clock: Arc<dyn Clock>,
}

impl WebhookNotifier {
    /// Posts as `settings` say, over clients of `factory`.
    pub fn new(
        settings: WebhookSettings,
        factory: Arc<HttpFactory>,
        secrets: Arc<dyn Secrets>,
        clock: Arc<dyn Clock>,
    ) -> Self {
        Self { settings, factory, secrets, clock }
    }

    /// The header with a signature for each secret. They are fetched anew, so that they can rotate.
    async fn signatures(&self, id: &str, timestamp: i64, body: &str) -> Result<String, NotDelivered> {
        let mut signatures = Vec::new();
        for source in &self.settings.secrets {
            let secret = self.secrets.resolve(source).await.map_err(|error| later(format!("the secret: {error}")))?;
            signatures.push(signature(secret.expose(), id, timestamp, body).map_err(never)?);
        }
        Ok(signatures.join(" "))
    }

    /// A client for this place. The user chose it, and it may be in this network; plain HTTP goes no
    /// further than that.
    async fn client(&self, uri: &Uri) -> Result<reqwest::Client, NotDelivered> {
        let reach = Reach::of(&self.settings.url).await;
        if reach == Reach::Public && uri.scheme_str() != Some("https") {
            return Err(never("its URL is on the internet and not https; notices name your servers"));
        }
        // A client is made for a server's settings: here they say no more than whom to trust.
        let name = "webhook".parse().map_err(|_| never("no name"))?;
        let mut trust = ServerSettings::new(name, self.settings.url.clone());
        trust.ca_file.clone_from(&self.settings.ca_file);
        self.factory.client(uri, &trust, &reach).map_err(|error| later(error.to_string()))
    }
}

#[async_trait]
impl Notifier for WebhookNotifier {
    fn name(&self) -> &'static str {
        "webhook"
    }

    fn time_limit(&self) -> Duration {
        self.settings.limit
    }

    async fn deliver(&self, message: &NoticeMessage) -> Result<Delivered, NotDelivered> {
        let uri: Uri = self.settings.url.parse().map_err(|_| never("its URL cannot be used"))?;
        let host = uri.host().unwrap_or_default().to_owned();
        let now = self.clock.now();
        let (id, timestamp) = (message.notice.id.to_string(), now.as_millis().div_euclid(1000));
        let client = self.client(&uri).await?;
        let mut request = client
            .post(&self.settings.url)
            .header(CONTENT_TYPE, "application/json")
            .header("webhook-id", &id)
            .header("webhook-timestamp", timestamp);
        if !self.settings.secrets.is_empty() {
            request = request.header("webhook-signature", self.signatures(&id, timestamp, &message.json).await?);
        }
        let sent = request.body(message.json.clone()).send().await;
        let answer = sent.map_err(|error| later(format!("{host}: {}", root_cause(&error.without_url()))))?;
        let status = answer.status();
        let cause = || format!("{host} answered {status}");
        let busy = matches!(status, StatusCode::TOO_MANY_REQUESTS | StatusCode::REQUEST_TIMEOUT);
        if status.is_success() {
            Ok(Delivered::Done(cause()))
        } else if busy || status.is_server_error() {
            Err(NotDelivered { cause: cause(), again: Again::Later(retry_after(answer.headers(), now)) })
        } else {
            Err(never(cause()))
        }
    }
}

/// One signature of Standard Webhooks: HMAC-SHA256 over id, timestamp and body. The error is a
/// fragment for people, without the secret.
fn signature(secret: &str, id: &str, timestamp: i64, body: &str) -> Result<String, String> {
    let encoded = secret.strip_prefix(SECRET_PREFIX).unwrap_or(secret);
    let key = BASE64_STANDARD.decode(encoded).ok().filter(|key| KEY_BYTES.contains(&key.len()));
    let key = key.ok_or("the secret must be whsec_ and the base64 of 24 to 64 random bytes")?;
    let key = hmac::Key::new(hmac::HMAC_SHA256, &key);
    let tag = hmac::sign(&key, format!("{id}.{timestamp}.{body}").as_bytes());
    Ok(format!("v1,{}", BASE64_STANDARD.encode(tag)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signatures_are_those_of_the_reference_implementations() {
        let body = "{\"test\": 2432232314}";
        for secret in ["whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"] {
            let signed = signature(secret, "msg_p5jXN8AQM9LWM0D4loKWxJek", 1_614_265_330, body);
            assert_eq!(signed.unwrap(), "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=");
        }
    }

    #[test]
    fn a_secret_that_cannot_be_one_is_told_without_being_shown() {
        for secret in ["", "whsec_", "whsec_c2hvcnQ=", "correct horse battery staple"] {
            let error = signature(secret, "msg_1", 0, "").unwrap_err();
            assert!(error.contains("24 to 64") && !error.contains("horse"), "{error}");
        }
    }
}
