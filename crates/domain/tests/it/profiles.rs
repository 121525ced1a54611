//! The table of profiles, and the page that shows it to people.

use std::fmt::Write;
use std::time::Duration;

use everfresh_domain::Profile;
use everfresh_domain::profile::{AliasReach, OfflineScope, PROFILES};

const PAGE: &str = include_str!("../../../../docs/PROVIDERS.md");

/// A row as the page has it.
fn row(profile: &Profile) -> String {
    let hosts: Vec<String> = profile.hosts.iter().map(|host| format!("`{host}`")).collect();
    let found = if hosts.is_empty() { "only by name".to_owned() } else { hosts.join(", ") };
    format!("| `{}` | {} | {found} | {} |\n", profile.name, profile.title, ways(profile).join("; "))
}

fn ways(profile: &Profile) -> Vec<String> {
    let mut ways = Vec::new();
    let params: Vec<String> =
        profile.authorization_params.iter().map(|(name, value)| format!("`{name}={value}`")).collect();
    if !params.is_empty() {
        ways.push(format!("logins carry {}", params.join(" and ")));
    }
    if profile.refuses_resource {
        ways.push("`resource` is never sent".to_owned());
    }
    if profile.wants_scope {
        ways.push("refreshes name their scopes".to_owned());
    }
    match profile.offline_access {
        OfflineScope::IfListed => {}
        OfflineScope::Always => ways.push("`offline_access` is always asked for".to_owned()),
        OfflineScope::Never => ways.push("`offline_access` is never asked for".to_owned()),
    }
    if let Some(method) = profile.auth_method {
        ways.push(format!("clients authenticate by `{}`", method.as_str()));
    }
    for alias in profile.refused {
        let description = alias.description.map(|text| format!(" \"{text}\"")).unwrap_or_default();
        let whose = match alias.reach {
            AliasReach::Anybody => "",
            AliasReach::Provider => " here",
        };
        ways.push(format!("`{}`{description} means `invalid_grant`{whose}", alias.code));
    }
    let days = |limit: Duration| limit.as_secs() / Duration::from_secs(86_400).as_secs();
    ways.extend(profile.limits.idle.map(|limit| format!("logins end after {} days without use", days(limit))));
    ways.extend(profile.limits.absolute.map(|limit| format!("logins end {} days after they were made", days(limit))));
    ways.extend(profile.note.map(|note| format!("note: {note}")));
    ways
}

#[test]
fn the_page_shows_the_table_as_it_is() {
    let mut table = String::new();
    PROFILES.iter().for_each(|profile| table.write_str(&row(profile)).expect("a text takes all"));
    assert!(PAGE.ends_with(&table), "docs/PROVIDERS.md is to end in:\n{table}");
}
