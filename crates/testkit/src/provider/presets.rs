//! Providers as they are met in the field, each as behaviour and switches of the model.
//!
//! What is known of each stands in the field notes' table; lifetimes are shortened nowhere, so that
//! a simulated month is a real one. A provider that is not here works by the general rules.

use std::time::Duration;

use super::model::{Behaviour, Rotation};
use super::switches::{AuthRule, ExpiresIn, RefreshTokenShape, ResourceRule, Switches};

const HOUR: Duration = Duration::from_secs(3_600);
const DAY: Duration = Duration::from_secs(24 * 3_600);

/// A provider by its name.
#[derive(Clone, Debug)]
pub struct Preset {
    /// The name people know it by.
    pub name: &'static str,
    /// How it works.
    pub behaviour: Behaviour,
    /// What it does in its own way.
    pub switches: Switches,
}

fn single_use(access_lifetime: Duration, grace: Duration) -> Behaviour {
    Behaviour { access_lifetime, rotation: Rotation::SingleUse { grace }, ..Behaviour::default() }
}

fn lasting(access_lifetime: Duration) -> Behaviour {
    Behaviour { access_lifetime, rotation: Rotation::Never, ..Behaviour::default() }
}

fn preset(name: &'static str, behaviour: Behaviour, switches: Switches) -> Preset {
    Preset { name, behaviour, switches }
}

/// Every provider that is known.
pub fn presets() -> Vec<Preset> {
    let plain = Switches::default;
    let minutes = |minutes: u64| Duration::from_secs(minutes * 60);
    let strict = |lifetime| single_use(lifetime, Duration::ZERO);
    let kills = |lifetime| Behaviour { kills_old_access_tokens: true, ..strict(lifetime) };
    vec![
        preset("Atlassian", Behaviour { refresh_lifetime: Some(DAY * 90), ..single_use(HOUR, minutes(10)) }, plain()),
        preset("Notion", kills(HOUR), plain()),
        preset(
            "Cloudflare workers-oauth-provider",
            Behaviour {
                access_lifetime: HOUR,
                refresh_lifetime: Some(DAY * 30),
                rotation: Rotation::PreviousUntilUsed,
                ..Behaviour::default()
            },
            Switches { resource: ResourceRule::Required, ..plain() },
        ),
        preset("Linear", single_use(DAY, minutes(30)), plain()),
        preset("Slack", strict(HOUR * 12), plain()),
        preset(
            "GitHub App",
            Behaviour { refresh_lifetime: Some(DAY * 184), tells_refresh_lifetime: true, ..strict(HOUR * 8) },
            Switches { form_encoded: true, ..plain() },
        ),
        preset(
            "GitHub OAuth app",
            Behaviour { issues_refresh_tokens: false, ..lasting(DAY * 3_650) },
            Switches { expires_in: ExpiresIn::Absent, ..plain() },
        ),
        preset("GitLab", kills(HOUR * 2), plain()),
        preset("Google", lasting(HOUR), Switches { refresh_token: RefreshTokenShape::Omitted, ..plain() }),
        preset(
            "Microsoft Entra",
            Behaviour { refresh_lifetime: Some(DAY * 90), ..single_use(minutes(75), DAY) },
            Switches { resource: ResourceRule::Rejected, require_scope: true, expires_in: ExpiresIn::Text, ..plain() },
        ),
        preset("Supabase", single_use(HOUR, Duration::from_secs(10)), Switches { success_status: 201, ..plain() }),
        preset("Asana", lasting(HOUR), Switches { auth: AuthRule::Post, ..plain() }),
        preset("HubSpot", lasting(minutes(30)), Switches { auth: AuthRule::Post, ..plain() }),
        preset("Exa", strict(HOUR), plain()),
        preset("Todoist", strict(HOUR), plain()),
        preset("Resend", strict(minutes(15)), plain()),
        preset("Apify", strict(HOUR), Switches { resource: ResourceRule::Required, ..plain() }),
        preset("Holded", Behaviour { issues_refresh_tokens: false, ..lasting(DAY * 365) }, plain()),
        preset("LangSmith", strict(minutes(5)), plain()),
        preset("Kimi", strict(minutes(12)), plain()),
        preset("better-auth", strict(minutes(30)), plain()),
        preset("FastMCP OAuthProxy", strict(HOUR * 10), plain()),
        preset(
            "Keycloak",
            lasting(minutes(5)),
            Switches {
                refresh_token_expires_in: Some(0),
                refresh_expiry_member: "refresh_expires_in".to_owned(),
                ..plain()
            },
        ),
        preset("Salesforce", lasting(HOUR * 2), Switches { expires_in: ExpiresIn::Absent, ..plain() }),
        preset("Box", single_use(HOUR, Duration::ZERO), plain()),
    ]
}
