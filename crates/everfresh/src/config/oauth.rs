//! The section `[servers.NAME.oauth]`, key by key.

#![expect(
    clippy::wildcard_enum_match_arm,
    reason = "of a foreign enum one variant is right and all others are wrong alike"
)]

use std::path::Path;
use std::time::Duration;

use everfresh_application::{
    DpopSetting, IdentityProviderSettings, LoginWay, OAuthSettings, OfflineAccess, ProfileSetting, ResourceSetting,
    SecretSource, redirect_problem,
};
use everfresh_domain::LoginLimits;
use everfresh_domain::grant::GrantType;
use toml::de::DeValue;

use super::file::upstream_url;
use super::reader::{Reader, Section};

/// The grants that can be configured, by their names, and how a person logs in where one does.
const GRANTS: [(&str, GrantType, LoginWay); 5] = [
    ("authorization_code", GrantType::AuthorizationCode, LoginWay::Browser),
    ("device_code", GrantType::AuthorizationCode, LoginWay::Device),
    ("client_credentials", GrantType::ClientCredentials, LoginWay::Browser),
    ("jwt_bearer", GrantType::JwtBearer, LoginWay::Browser),
    ("enterprise_managed", GrantType::EnterpriseManaged, LoginWay::Browser),
];

/// The least time that a login may be said to live; less is a slip of the pen.
const LIMIT_MIN: Duration = Duration::from_secs(3_600);

/// Reads the section. What does not fit together is told as well.
pub(super) fn oauth_of(reader: &mut Reader<'_>, mut section: Section<'_, '_>, folder: &Path) -> OAuthSettings {
    let issuer = section.text(reader, "issuer");
    let issuer = issuer.and_then(|(text, span)| upstream_url(reader, &section.named("issuer"), text, &span));
    let resource = match section.text(reader, "resource").map(|(text, _)| text) {
        None => ResourceSetting::Auto,
        Some(text) if text == "auto" => ResourceSetting::Auto,
        Some(text) if text == "none" => ResourceSetting::None,
        Some(text) => ResourceSetting::Uri(text),
    };
    let (grant, login_way) = grant(reader, &mut section);
    let settings = OAuthSettings {
        grant,
        login_way,
        offline_access: offline_access(reader, &mut section),
        redirect_uri: redirect_uri(reader, &mut section),
        issuer,
        client_id: section.text(reader, "client_id").map(|(text, _)| text),
        client_secret: secret(reader, &mut section, "client_secret", folder),
        private_key: secret(reader, &mut section, "private_key", folder),
        signing_alg: signing_alg(reader, &mut section),
        assertion: secret(reader, &mut section, "assertion", folder),
        identity_provider: identity_provider(reader, &mut section, folder),
        scopes: section.texts(reader, "scopes").unwrap_or_default(),
        resource,
        extra_params: extra_params(reader, &mut section),
        limits: limits(reader, &mut section),
        dpop: dpop(reader, &mut section),
        profile: profile(reader, &mut section),
    };
    object(reader, &section, &settings);
    section.finish(reader);
    settings
}

/// Tells what does not fit together, but for keys that are there and were complained of already.
fn object(reader: &mut Reader<'_>, section: &Section<'_, '_>, settings: &OAuthSettings) {
    for (key, fix) in settings.objections() {
        let place = section.place(reader, key);
        if place.is_some() && fix.starts_with("is missing") {
            continue;
        }
        let text = format!("{} {fix}", section.named(key));
        reader.problem(place.unwrap_or_else(|| section.line()), text);
    }
}

fn grant(reader: &mut Reader<'_>, section: &mut Section<'_, '_>) -> (GrantType, LoginWay) {
    let Some((text, span)) = section.text(reader, "grant") else { return <_>::default() };
    match GRANTS.iter().find(|(name, ..)| *name == text) {
        Some((_, grant, way)) => (*grant, *way),
        None => {
            let known: Vec<String> = GRANTS.iter().map(|(name, ..)| format!("{name:?}")).collect();
            let name = section.named("grant");
            reader.wrong(&span, format!("{name} = {text:?} is not known; use one of {}", known.join(", ")));
            <_>::default()
        }
    }
}

fn signing_alg(
    reader: &mut Reader<'_>,
    section: &mut Section<'_, '_>,
) -> Option<everfresh_application::SigningAlgorithm> {
    let (text, span) = section.text(reader, "signing_alg")?;
    let name = section.named("signing_alg");
    text.parse().map_err(|error: String| reader.wrong(&span, format!("{name} = {error}"))).ok()
}

fn offline_access(reader: &mut Reader<'_>, section: &mut Section<'_, '_>) -> OfflineAccess {
    let Some((text, span)) = section.text(reader, "offline_access") else { return OfflineAccess::Auto };
    match text.as_str() {
        "auto" => OfflineAccess::Auto,
        "always" => OfflineAccess::Always,
        "never" => OfflineAccess::Never,
        _ => {
            let name = section.named("offline_access");
            reader.wrong(&span, format!("{name} = {text:?} is not known; use \"auto\", \"always\" or \"never\""));
            OfflineAccess::Auto
        }
    }
}

fn redirect_uri(reader: &mut Reader<'_>, section: &mut Section<'_, '_>) -> Option<String> {
    let (text, span) = section.text(reader, "redirect_uri")?;
    if let Some(problem) = redirect_problem(&text) {
        reader.wrong(&span, format!("{} = {text:?} {problem}", section.named("redirect_uri")));
    }
    Some(text)
}

/// How long the provider lets a login live.
fn limits(reader: &mut Reader<'_>, section: &mut Section<'_, '_>) -> LoginLimits {
    let limits = ["idle_limit", "absolute_limit"].map(|key| {
        let told = section.duration(reader, key)?;
        if told < LIMIT_MIN {
            let name = section.named(key);
            reader.problem(section.line(), format!("{name} must be at least 1 h"));
        }
        Some(told)
    });
    LoginLimits { idle: limits[0], absolute: limits[1] }
}

fn profile(reader: &mut Reader<'_>, section: &mut Section<'_, '_>) -> ProfileSetting {
    let Some((text, span)) = section.text(reader, "profile") else { return ProfileSetting::Auto };
    text.parse().unwrap_or_else(|error: String| {
        reader.wrong(&span, format!("{}: {error}", section.named("profile")));
        ProfileSetting::Auto
    })
}

fn dpop(reader: &mut Reader<'_>, section: &mut Section<'_, '_>) -> DpopSetting {
    let Some((text, span)) = section.text(reader, "dpop") else { return DpopSetting::default() };
    let name = section.named("dpop");
    text.parse().map_err(|error: String| reader.wrong(&span, format!("{name} = {error}"))).unwrap_or_default()
}

fn identity_provider(
    reader: &mut Reader<'_>,
    section: &mut Section<'_, '_>,
    folder: &Path,
) -> Option<IdentityProviderSettings> {
    let mut provider = section.section(reader, "identity_provider")?;
    let url = |reader: &mut Reader<'_>, provider: &mut Section<'_, '_>, key| {
        let (text, span) = provider.text(reader, key)?;
        upstream_url(reader, &provider.named(key), text, &span)
    };
    let issuer = url(reader, &mut provider, "issuer");
    let token_endpoint = url(reader, &mut provider, "token_endpoint");
    let client_id = provider.text(reader, "client_id").map(|(text, _)| text);
    let client_secret = secret(reader, &mut provider, "client_secret", folder);
    let told = provider.place(reader, "id_token").is_some();
    let id_token = secret(reader, &mut provider, "id_token", folder);
    if !told {
        let name = provider.named("id_token");
        reader.problem(provider.line(), format!("{name} is missing; write id_token = {{ file = \"...\" }}"));
    }
    provider.finish(reader);
    Some(IdentityProviderSettings { issuer, token_endpoint, client_id, client_secret, id_token: id_token? })
}

fn extra_params(reader: &mut Reader<'_>, section: &mut Section<'_, '_>) -> std::collections::BTreeMap<String, String> {
    let extra = section.section(reader, "extra_params");
    let read = |(key, value): (&toml::Spanned<toml::de::DeString<'_>>, _)| {
        let name: &str = key.get_ref();
        Some((name.to_owned(), reader.text_of(&format!("extra_params.{name}"), value)?))
    };
    extra.iter().flat_map(Section::entries).filter_map(read).collect()
}

/// Where the secret under `key` is to be had. The secret itself must not stand here.
fn secret(
    reader: &mut Reader<'_>,
    section: &mut Section<'_, '_>,
    key: &'static str,
    folder: &Path,
) -> Option<SecretSource> {
    let value = section.take(key)?;
    let name = section.named(key);
    match value.get_ref() {
        DeValue::Table(table) => {
            let line = reader.line(&value.span());
            secret_source(reader, key, Section::new(name, table, line), folder)
        }
        _ => {
            let fix = "write { env = \"VARIABLE\" }, { file = \"...\" } or { command = [...] }";
            reader.wrong(&value.span(), format!("{name} must not stand in the configuration itself; {fix}"));
            None
        }
    }
}

pub(super) fn secret_source(
    reader: &mut Reader<'_>,
    key: &str,
    mut section: Section<'_, '_>,
    folder: &Path,
) -> Option<SecretSource> {
    let env = section.text(reader, "env").map(|(text, _)| SecretSource::Env(text));
    let file = section.text(reader, "file").map(|(text, _)| SecretSource::File(folder.join(text)));
    let command = section.texts(reader, "command").map(SecretSource::Command);
    let mut given = [env, file, command].into_iter().flatten();
    let (first, second) = (given.next(), given.next());
    if first.is_none() || second.is_some() {
        reader.problem(section.line(), format!("{key} takes exactly one of env, file and command"));
    }
    section.finish(reader);
    first
}
