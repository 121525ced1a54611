//! The table. Every row is modelled in testkit's presets and shown in `docs/PROVIDERS.md`.

use std::time::Duration;

use super::{Alias, AliasReach, OfflineScope, Profile};
use crate::grant::ClientAuthMethod;
use crate::token::LoginLimits;

const DAY: u64 = 24 * 3_600;

/// A provider that does as the standards say.
pub(super) const GENERAL: Profile = Profile {
    name: "",
    title: "",
    hosts: &[],
    authorization_params: &[],
    refuses_resource: false,
    wants_scope: false,
    offline_access: OfflineScope::IfListed,
    auth_method: None,
    refused: &[],
    limits: LoginLimits { idle: None, absolute: None },
    note: None,
};

const fn days(days: u64) -> Option<Duration> {
    Some(Duration::from_secs(days * DAY))
}

/// A login that ends after so many days without use.
const fn unused(number: u64) -> LoginLimits {
    LoginLimits { idle: days(number), absolute: None }
}

/// A code that means one thing only.
const fn word(code: &'static str) -> Alias {
    Alias { code, description: None, reach: AliasReach::Anybody }
}

const fn words(code: &'static str, description: &'static str, reach: AliasReach) -> Alias {
    Alias { code, description: Some(description), reach }
}

/// Every provider with ways of its own, in the order of their names.
pub const PROFILES: &[Profile] = &[
    Profile { name: "apify", title: "Apify", hosts: &["*.apify.com"], limits: unused(60), ..GENERAL },
    Profile {
        name: "asana",
        title: "Asana",
        hosts: &["*.asana.com"],
        auth_method: Some(ClientAuthMethod::ClientSecretPost),
        ..GENERAL
    },
    Profile {
        name: "atlassian",
        title: "Atlassian",
        hosts: &["*.atlassian.com"],
        offline_access: OfflineScope::Always,
        refused: &[words("unauthorized_client", "refresh_token is invalid", AliasReach::Anybody)],
        limits: LoginLimits { absolute: days(365), ..unused(90) },
        ..GENERAL
    },
    Profile {
        name: "better-auth",
        title: "better-auth",
        offline_access: OfflineScope::Always,
        refused: &[words("invalid_request", "session not found", AliasReach::Provider)],
        ..GENERAL
    },
    Profile {
        name: "box",
        title: "Box",
        hosts: &["*.box.com"],
        limits: unused(60),
        note: Some("This login belongs to one machine: a copy of it ends both."),
        ..GENERAL
    },
    Profile {
        name: "cloudflare",
        title: "Cloudflare",
        hosts: &["mcp.cloudflare.com", "*.mcp.cloudflare.com"],
        limits: unused(30),
        note: Some("The registered client ends after 90 days; a new login registers a new one."),
        ..GENERAL
    },
    Profile {
        name: "entra",
        title: "Microsoft Entra ID",
        hosts: &[
            "login.microsoftonline.com",
            "login.microsoftonline.us",
            "login.partner.microsoftonline.cn",
            "login.windows.net",
            "sts.windows.net",
        ],
        refuses_resource: true,
        wants_scope: true,
        offline_access: OfflineScope::Always,
        limits: unused(90),
        note: Some("A sign-in frequency set by your organization ends this login sooner."),
        ..GENERAL
    },
    Profile {
        name: "github",
        title: "GitHub",
        hosts: &["github.com", "*.github.com", "*.githubcopilot.com", "*.ghe.com"],
        refused: &[word("bad_refresh_token")],
        ..GENERAL
    },
    Profile {
        name: "google",
        title: "Google",
        hosts: &["accounts.google.com", "*.googleapis.com"],
        authorization_params: &[("access_type", "offline"), ("prompt", "consent")],
        limits: unused(180),
        note: Some("While the consent screen's status is Testing, Google ends every login after 7 days."),
        ..GENERAL
    },
    Profile {
        name: "hubspot",
        title: "HubSpot",
        hosts: &["*.hubspot.com", "*.hubapi.com"],
        auth_method: Some(ClientAuthMethod::ClientSecretPost),
        ..GENERAL
    },
    Profile {
        name: "metabase",
        title: "Metabase",
        refused: &[words("invalid_request", "The token request is invalid.", AliasReach::Provider)],
        ..GENERAL
    },
    Profile {
        name: "obot",
        title: "Obot",
        refused: &[
            words("invalid_request", "refresh_token is invalid", AliasReach::Provider),
            words("invalid_request", "Obot: refresh_token is invalid", AliasReach::Provider),
        ],
        ..GENERAL
    },
    Profile {
        name: "slack",
        title: "Slack",
        hosts: &["slack.com", "*.slack.com"],
        refused: &[word("invalid_refresh_token")],
        ..GENERAL
    },
    Profile {
        name: "supabase",
        title: "Supabase",
        hosts: &["*.supabase.com", "*.supabase.co"],
        offline_access: OfflineScope::Never,
        refused: &[word("refresh_token_not_found"), word("refresh_token_already_used")],
        ..GENERAL
    },
];
