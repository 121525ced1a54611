//! The configuration file, key by key.

#![expect(
    clippy::wildcard_enum_match_arm,
    reason = "of a foreign enum one variant is right and all others are wrong alike"
)]

use std::net::SocketAddr;
use std::ops::Range;
use std::path::Path;

use everfresh_application::{ClientCertificate, ServerSettings, ServerSource};
use everfresh_infrastructure::http::{check_authorities, check_certificate};
use toml::de::{DeTable, DeValue};
use url::Url;

use super::notify::notify_of;
use super::oauth::oauth_of;
use super::reader::{Problem, Reader, Section};
use super::{Config, LocalKeyRule, MasterKeySource};

/// Reads the file whose content is `text`. Files that it names are beside it, in `folder`.
pub(crate) fn parse(text: &str, folder: &Path) -> Result<Config, Vec<Problem>> {
    let mut reader = Reader::new(text);
    let (table, errors) = DeTable::parse_recoverable(text);
    if !errors.is_empty() {
        for error in errors {
            let line = error.span().map_or(1, |span| reader.line(&span));
            reader.problem(line, format!("this is not TOML: {}", error.message().trim()));
        }
        return Err(reader.told());
    }
    let config = config(&mut reader, Section::new("", table.get_ref(), 1), folder);
    if reader.problems.is_empty() {
        return Ok(config);
    }
    Err(reader.told())
}

fn config(reader: &mut Reader<'_>, mut whole: Section<'_, '_>, folder: &Path) -> Config {
    let mut config = Config::default();
    let allow_remote = whole.truth(reader, "allow_remote").unwrap_or(false);
    listen(reader, &mut whole, allow_remote, &mut config);
    config.allowed_hosts = whole.texts(reader, "allowed_hosts").unwrap_or_default();
    if let Some((text, span)) = whole.text(reader, "local_key") {
        match text.as_str() {
            "required" => {}
            "off" if allow_remote => {
                reader.wrong(&span, "local_key = \"off\" and allow_remote together would serve tokens to the network")
            }
            "off" => config.local_key = LocalKeyRule::Off,
            other => reader.wrong(&span, format!("local_key = {other:?} is not known; use \"required\" or \"off\"")),
        }
    }
    if let Some((text, span)) = whole.text(reader, "store") {
        if text.starts_with("postgres://") || text.starts_with("postgresql://") {
            reader.wrong(&span, "store: PostgreSQL is not supported by this version; use store = \"sled\"");
        } else if text != "sled" {
            reader.wrong(&span, format!("store = {text:?} is not known; use \"sled\""));
        }
    }
    if let Some(section) = whole.section(reader, "master_key") {
        config.master_key = master_key(reader, section, folder);
    }
    if let Some(section) = whole.section(reader, "refresh") {
        refresh(reader, section, &mut config);
    }
    if let Some(mut section) = whole.section(reader, "login") {
        let url = section.text(reader, "client_id_metadata_url").filter(|(text, _)| !text.is_empty());
        config.client_id_metadata_url = url.and_then(|(text, span)| {
            let usable = text.starts_with("https://") && Url::parse(&text).is_ok();
            if !usable {
                reader.wrong(&span, format!("login.client_id_metadata_url = {text:?} must be an https URL"));
            }
            usable.then_some(text)
        });
        config.redirect_host = section.text(reader, "redirect_host").and_then(|(text, span)| {
            let known = ["localhost", "127.0.0.1", "[::1]"].contains(&text.as_str());
            if !known {
                let fix = "use \"127.0.0.1\", \"localhost\" or \"[::1]\"";
                reader.wrong(&span, format!("login.redirect_host = {text:?} is not a name of this machine; {fix}"));
            }
            known.then_some(text)
        });
        section.finish(reader);
    }
    if let Some(section) = whole.section(reader, "notify") {
        config.notify = notify_of(reader, section, folder);
    }
    if let Some(section) = whole.section(reader, "servers") {
        config.servers = servers(reader, &section, folder);
    }
    whole.finish(reader);
    config
}

fn listen(reader: &mut Reader<'_>, whole: &mut Section<'_, '_>, allow_remote: bool, config: &mut Config) {
    let Some(value) = whole.take("listen") else { return };
    let texts = match value.get_ref() {
        DeValue::Array(_) => reader.texts_of("listen", value).unwrap_or_default(),
        _ => reader.text_of("listen", value).into_iter().collect(),
    };
    let mut addresses = Vec::new();
    for text in texts {
        match text.parse::<SocketAddr>() {
            Ok(address) if !address.ip().is_loopback() && !allow_remote => reader.wrong(
                &value.span(),
                format!("listen = {text:?} is open to the network; listen on 127.0.0.1, or set allow_remote = true"),
            ),
            Ok(address) => addresses.push(address),
            Err(_) => {
                reader.wrong(&value.span(), format!("listen = {text:?} is not an address like \"127.0.0.1:7411\""))
            }
        }
    }
    if !addresses.is_empty() {
        config.listen = addresses;
        config.listen_is_chosen = true;
    }
}

fn master_key(reader: &mut Reader<'_>, mut section: Section<'_, '_>, folder: &Path) -> MasterKeySource {
    let file = section.text(reader, "file").map(|(text, _)| MasterKeySource::File(folder.join(text)));
    let command = section.texts(reader, "command").map(MasterKeySource::Command);
    let keychain = section.truth(reader, "keychain");
    let given = usize::from(file.is_some()) + usize::from(command.is_some()) + usize::from(keychain.is_some());
    if given > 1 {
        reader.problem(section.line(), "master_key takes one of file, command and keychain");
    }
    section.finish(reader);
    match (file, command, keychain) {
        (Some(file), _, _) => file,
        (None, Some(command), _) => command,
        (None, None, Some(false)) => MasterKeySource::DataFolder,
        (None, None, Some(true) | None) => MasterKeySource::Auto,
    }
}

fn refresh(reader: &mut Reader<'_>, mut section: Section<'_, '_>, config: &mut Config) {
    let policy = &mut config.policy;
    if let Some(threshold) = section.number(reader, "threshold") {
        policy.threshold = threshold;
    }
    let times = [
        ("min_spacing", &mut policy.min_spacing),
        ("backoff_base", &mut policy.backoff_base),
        ("backoff_cap", &mut policy.backoff_cap),
        ("attempt_timeout", &mut policy.attempt_timeout),
        ("park_timeout", &mut policy.park_timeout),
    ];
    for (key, time) in times {
        if let Some(told) = section.duration(reader, key) {
            *time = told;
        }
    }
    if let Some(told) = section.duration(reader, "keep_alive") {
        policy.keep_alive = Some(told);
    }
    if let Some(told) = section.number(reader, "hourly_budget") {
        policy.hourly_budget = told as u32;
    }
    let counts = [("concurrency", &mut policy.concurrency), ("endpoint_concurrency", &mut policy.endpoint_concurrency)];
    for (key, count) in counts {
        if let Some(told) = section.number(reader, key) {
            *count = told as usize;
        }
    }
    let line = section.line();
    if let Err(wrong) = policy.validate() {
        for wrong in wrong {
            reader.problem(line, format!("refresh.{wrong}"));
        }
    }
    section.finish(reader);
}

fn servers(reader: &mut Reader<'_>, section: &Section<'_, '_>, folder: &Path) -> Vec<ServerSettings> {
    let mut servers = Vec::new();
    for (key, value) in section.entries() {
        let name: &str = key.get_ref();
        let full = format!("servers.{name}");
        let parsed = name.parse().map_err(|error| reader.wrong(&key.span(), format!("{full}: {error}")));
        let DeValue::Table(table) = value.get_ref() else {
            reader.wrong(&value.span(), format!("{full} must be a table like [{full}]"));
            continue;
        };
        let section = Section::new(full, table, reader.line(&key.span()));
        let settings = server(reader, section, folder);
        if let (Ok(name), Some(settings)) = (parsed, settings) {
            servers.push(ServerSettings { name, ..settings });
        }
    }
    servers
}

fn server(reader: &mut Reader<'_>, mut section: Section<'_, '_>, folder: &Path) -> Option<ServerSettings> {
    let url = match section.text(reader, "url") {
        Some((text, span)) => upstream_url(reader, &section.named("url"), text, &span),
        None => {
            if section.take("url").is_none() {
                let name = section.named("url");
                reader.problem(section.line(), format!("{name} is missing; add url = \"https://...\""));
            }
            None
        }
    };
    let enabled = section.truth(reader, "enabled").unwrap_or(true);
    let ca_file = section.text(reader, "ca_file").map(|(text, span)| {
        let path = folder.join(text);
        if let Err(error) = check_authorities(&path) {
            reader.wrong(&span, format!("{}: {error}", section.named("ca_file")));
        }
        path
    });
    let client_certificate = client_certificate(reader, &mut section, folder);
    let headers = section.section(reader, "headers").map(|headers| headers_of(reader, &headers)).unwrap_or_default();
    let oauth = section.section(reader, "oauth").map(|oauth| oauth_of(reader, oauth, folder)).unwrap_or_default();
    section.finish(reader);
    // The name is the caller's: a table does not know its own.
    let name = "unnamed".parse().expect("a valid name");
    let source = ServerSource::File;
    Some(ServerSettings { name, url: url?, enabled, headers, ca_file, client_certificate, oauth, source })
}

fn client_certificate(
    reader: &mut Reader<'_>,
    section: &mut Section<'_, '_>,
    folder: &Path,
) -> Option<ClientCertificate> {
    let cert = section.text(reader, "client_cert_file");
    let key_file = section.text(reader, "client_key_file").map(|(text, _)| folder.join(text));
    let Some((text, span)) = cert else {
        if key_file.is_some() {
            let name = section.named("client_cert_file");
            reader.problem(section.line(), format!("{name} is missing; a client_key_file is of no use without it"));
        }
        return None;
    };
    let certificate = ClientCertificate { cert_file: folder.join(text), key_file };
    if let Err(error) = check_certificate(&certificate) {
        reader.wrong(&span, format!("{}: {error}", section.named("client_cert_file")));
    }
    Some(certificate)
}

pub(super) fn upstream_url(reader: &mut Reader<'_>, name: &str, text: String, span: &Range<usize>) -> Option<String> {
    match Url::parse(&text) {
        // It would be shown wherever the URL is: not even this repeats it.
        Ok(url) if !url.username().is_empty() || url.password().is_some() => {
            reader.wrong(span, format!("{name} has a user name or a password in it; leave that out"));
            None
        }
        Ok(url) if matches!(url.scheme(), "http" | "https") && url.has_host() => Some(text),
        Ok(_) => {
            reader.wrong(span, format!("{name} = {text:?} must begin with https:// (or http://) and name a host"));
            None
        }
        Err(error) => {
            reader.wrong(span, format!("{name} = {text:?} is not a URL: {error}"));
            None
        }
    }
}

fn headers_of(reader: &mut Reader<'_>, section: &Section<'_, '_>) -> std::collections::BTreeMap<String, String> {
    let mut headers = std::collections::BTreeMap::new();
    for (key, value) in section.entries() {
        let name: &str = key.get_ref();
        let full = section.named(name);
        let Some(text) = reader.text_of(&full, value) else { continue };
        let valid = name.parse::<http::HeaderName>().is_ok() && http::HeaderValue::from_str(&text).is_ok();
        if name.eq_ignore_ascii_case("authorization") {
            reader.wrong(&key.span(), format!("{full}: everfresh sets this header; remove it"));
        } else if !valid {
            reader.wrong(&key.span(), format!("{full} is not a valid header"));
        } else {
            headers.insert(name.to_owned(), text);
        }
    }
    headers
}

#[cfg(test)]
#[path = "file_tests.rs"]
mod tests;
