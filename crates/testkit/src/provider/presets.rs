//! Providers as they are met in the field, each as behaviour and switches of the model.
//!
//! What is known of each stands in the field notes' table; lifetimes are shortened nowhere, so that
//! a simulated month is a real one. A provider that is not here works by the general rules.

use std::time::Duration;

use super::model::{Behaviour, Rotation};
use super::switches::{AuthRule, DeadToken, ExpiresIn, OfflineRule, RefreshTokenShape, ResourceRule, Switches};

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
    /// The row of the table of profiles that is about it.
    pub profile: Option<&'static str>,
    /// Whether the general rules get along with it as well.
    pub general_rules_suffice: bool,
}

fn single_use(access_lifetime: Duration, grace: Duration) -> Behaviour {
    Behaviour { access_lifetime, rotation: Rotation::SingleUse { grace }, ..Behaviour::default() }
}

fn strict(access_lifetime: Duration) -> Behaviour {
    single_use(access_lifetime, Duration::ZERO)
}

/// Strict, and a refresh ends the access tokens before it.
fn kills(access_lifetime: Duration) -> Behaviour {
    Behaviour { kills_old_access_tokens: true, ..strict(access_lifetime) }
}

fn lasting(access_lifetime: Duration) -> Behaviour {
    Behaviour { access_lifetime, rotation: Rotation::Never, ..Behaviour::default() }
}

fn minutes(minutes: u32) -> Duration {
    Duration::from_secs(60) * minutes
}

fn plain() -> Switches {
    Switches::default()
}

fn dead(status: u16, body: &str) -> Option<DeadToken> {
    Some(DeadToken { status, body: body.to_owned() })
}

/// A provider that the general rules are made for.
fn general(name: &'static str, behaviour: Behaviour, switches: Switches) -> Preset {
    Preset { name, behaviour, switches, profile: None, general_rules_suffice: true }
}

/// One whose login is not kept, or not told of, without its profile.
fn profiled(name: &'static str, profile: &'static str, behaviour: Behaviour, switches: Switches) -> Preset {
    Preset { name, behaviour, switches, profile: Some(profile), general_rules_suffice: false }
}

/// Every provider that is known.
pub fn presets() -> Vec<Preset> {
    [asked_otherwise(), answering_otherwise(), as_all_others()].concat()
}

/// Those that want to be asked in their own way.
fn asked_otherwise() -> Vec<Preset> {
    let posts = || Switches { auth: AuthRule::Post, hides_auth: true, ..plain() };
    let offline = || Switches { offline_access: OfflineRule::Required, ..plain() };
    let google = [("access_type", "offline"), ("prompt", "consent")];
    vec![
        profiled(
            "Atlassian",
            "atlassian",
            Behaviour { refresh_lifetime: Some(DAY * 90), ..single_use(HOUR, minutes(10)) },
            Switches {
                dead_token: dead(
                    403,
                    r#"{"error":"unauthorized_client","error_description":"refresh_token is invalid"}"#,
                ),
                ..offline()
            },
        ),
        profiled(
            "Google",
            "google",
            lasting(HOUR),
            Switches {
                refresh_token_params: google.map(|(name, value)| (name.to_owned(), value.to_owned())).into(),
                refresh_token: RefreshTokenShape::Omitted,
                ..plain()
            },
        ),
        profiled(
            "Microsoft Entra",
            "entra",
            Behaviour { refresh_lifetime: Some(DAY * 90), ..single_use(minutes(75), DAY) },
            Switches {
                resource: ResourceRule::Rejected,
                require_scope: true,
                expires_in: ExpiresIn::Text,
                ..offline()
            },
        ),
        profiled(
            "Supabase",
            "supabase",
            single_use(HOUR, Duration::from_secs(10)),
            Switches {
                success_status: 201,
                offline_access: OfflineRule::Rejected,
                dead_token: dead(400, r#"{"code":400,"error_code":"refresh_token_not_found","msg":"Invalid"}"#),
                ..plain()
            },
        ),
        profiled("Asana", "asana", lasting(HOUR), posts()),
        profiled("HubSpot", "hubspot", lasting(minutes(30)), posts()),
        profiled(
            "better-auth",
            "better-auth",
            strict(minutes(30)),
            Switches {
                dead_token: dead(400, r#"{"error":"invalid_request","error_description":"session not found"}"#),
                ..offline()
            },
        ),
    ]
}

/// Those whose answers say something else, or less, than the standards would have it.
fn answering_otherwise() -> Vec<Preset> {
    vec![
        profiled(
            "Cloudflare workers-oauth-provider",
            "cloudflare",
            Behaviour {
                access_lifetime: HOUR,
                refresh_lifetime: Some(DAY * 30),
                rotation: Rotation::PreviousUntilUsed,
                ..Behaviour::default()
            },
            Switches { resource: ResourceRule::Required, ..plain() },
        ),
        Preset {
            general_rules_suffice: true,
            ..profiled(
                "Slack",
                "slack",
                strict(HOUR * 12),
                Switches { dead_token: dead(200, r#"{"ok":false,"error":"invalid_refresh_token"}"#), ..plain() },
            )
        },
        Preset {
            general_rules_suffice: true,
            ..profiled(
                "GitHub App",
                "github",
                Behaviour { refresh_lifetime: Some(DAY * 184), tells_refresh_lifetime: true, ..strict(HOUR * 8) },
                Switches {
                    form_encoded: true,
                    dead_token: dead(200, "error=bad_refresh_token&error_description=The+refresh+token+is+incorrect"),
                    ..plain()
                },
            )
        },
        profiled("Apify", "apify", strict(HOUR), Switches { resource: ResourceRule::Required, ..plain() }),
        profiled("Box", "box", strict(HOUR), plain()),
        profiled(
            "Metabase",
            "metabase",
            strict(HOUR),
            Switches {
                dead_token: dead(
                    400,
                    r#"{"error":"invalid_request","error_description":"The token request is invalid."}"#,
                ),
                ..plain()
            },
        ),
        profiled(
            "Obot",
            "obot",
            strict(HOUR),
            Switches {
                dead_token: dead(400, r#"{"error":"invalid_request","error_description":"refresh_token is invalid"}"#),
                ..plain()
            },
        ),
    ]
}

/// Those that the general rules are made for.
fn as_all_others() -> Vec<Preset> {
    let never = |lifetime| Behaviour { issues_refresh_tokens: false, ..lasting(lifetime) };
    let untold = || Switches { expires_in: ExpiresIn::Absent, ..plain() };
    let keycloak = Switches {
        refresh_token_expires_in: Some(0),
        refresh_expiry_member: "refresh_expires_in".to_owned(),
        ..plain()
    };
    // Where it listens is known when it does.
    let elsewhere = Switches { token_endpoint_told: Some("http://localhost:{port}/token".to_owned()), ..plain() };
    vec![
        general("Datadog", strict(HOUR), elsewhere),
        general("Notion", kills(HOUR), plain()),
        general("Linear", single_use(DAY, minutes(30)), plain()),
        general("GitHub OAuth app", never(DAY * 3_650), untold()),
        general("GitLab", kills(HOUR * 2), plain()),
        general("Exa", strict(HOUR), plain()),
        general("Todoist", strict(HOUR), plain()),
        general("Resend", strict(minutes(15)), plain()),
        general("Holded", never(DAY * 365), plain()),
        general("LangSmith", strict(minutes(5)), plain()),
        general("Kimi", strict(minutes(12)), plain()),
        general("FastMCP OAuthProxy", strict(HOUR * 10), plain()),
        general("Keycloak", lasting(minutes(5)), keycloak),
        general("Salesforce", lasting(HOUR * 2), untold()),
        general("Zendesk", lasting(HOUR * 2), untold()),
        general("Miro", strict(HOUR), Switches { auth: AuthRule::Post, ..plain() }),
    ]
}
