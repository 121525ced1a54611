//! The provider's side of logins by device code (RFC 8628).

use std::time::Duration;

use everfresh_domain::Timestamp;
use serde_json::json;

use super::codes::Lasting;
use super::model::{Form, Model};
use super::reply::Reply;

/// The grant type of a device code.
pub(super) const DEVICE_CODE_GRANT: &str = "urn:ietf:params:oauth:grant-type:device_code";

/// The time between two questions that a provider asks for, in seconds.
const INTERVAL_S: u64 = 5;

/// A device code that was handed out.
#[derive(Clone, Debug)]
pub(super) struct Device {
    client_id: String,
    scope: String,
    expires_at: Timestamp,
    interval: Duration,
    asked_at: Option<Timestamp>,
    verdict: Option<bool>,
}

impl Model {
    /// Hands out a device code (RFC 8628 section 3.2).
    pub fn authorize_device(&mut self, now: Timestamp, form: &Form) -> Reply {
        let client_id = form.get("client_id").cloned().unwrap_or_default();
        if !self.knows_client(&client_id) {
            return Reply::error(401, "invalid_client");
        }
        self.counters.device_authorizations += 1;
        let number = self.counters.device_authorizations;
        let (code, user_code) = (format!("device-canary-{number}"), format!("USER-{number:04}"));
        let lifetime = self.behaviour.device_code_lifetime;
        let device = Device {
            client_id,
            scope: form.get("scope").cloned().unwrap_or_default(),
            expires_at: now.after(lifetime),
            interval: Duration::from_secs(INTERVAL_S),
            asked_at: None,
            verdict: None,
        };
        self.devices.insert(code.clone(), device);
        let page = format!("{}/activate", self.issuer);
        Reply::json(
            200,
            &json!({
                "device_code": code,
                "user_code": user_code,
                "verification_uri": page,
                "verification_uri_complete": format!("{page}?user_code={user_code}"),
                "expires_in": lifetime.as_secs(),
                "interval": INTERVAL_S,
            }),
        )
    }

    /// A person answers for every code that waits: yes, or no.
    pub fn answer_devices(&mut self, yes: bool) {
        for device in self.devices.values_mut() {
            device.verdict.get_or_insert(yes);
        }
    }

    /// A device that asks whether it is approved (RFC 8628 section 3.5).
    pub(super) fn device_tokens(&mut self, now: Timestamp, client_id: &str, form: &Form) -> Reply {
        let code = form.get("device_code").cloned().unwrap_or_default();
        let Some(device) = self.devices.get_mut(&code).filter(|device| device.client_id == client_id) else {
            return Reply::error(400, "invalid_grant");
        };
        if now >= device.expires_at {
            return Reply::error(400, "expired_token");
        }
        let hasty = device.asked_at.is_some_and(|before| now.since(before) < device.interval);
        device.asked_at = Some(now);
        if hasty {
            device.interval += Duration::from_secs(INTERVAL_S);
            self.counters.hasty_questions += 1;
            return Reply::error(400, "slow_down");
        }
        match device.verdict {
            None => Reply::error(400, "authorization_pending"),
            Some(false) => Reply::error(400, "access_denied"),
            Some(true) => {
                let scope = std::mem::take(&mut device.scope);
                self.devices.remove(&code);
                self.counters.exchanges += 1;
                self.first_tokens(now, scope, Lasting::Yes)
            }
        }
    }
}
