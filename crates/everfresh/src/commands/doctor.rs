//! Checks of everything that a login hangs on. Opens no browser, changes nothing, sends no token.

use std::sync::Arc;

use everfresh_application::ServerSettings;
use everfresh_application::ports::{Dialer, DiscoveryError, OAuthDiscovery};
use everfresh_infrastructure::dialer::NetDialer;
use everfresh_infrastructure::http::HttpFactory;
use everfresh_infrastructure::oauth::HttpOAuth;
use everfresh_infrastructure::system::{SystemClock, SystemEntropy};
use serde::Serialize;
use serde_json::{Value, json};

use crate::cli::{Doctor, Global, Output};
use crate::client::{Api, Need};
use crate::compose;
use crate::config::Config;
use crate::exit::{Exit, Failure};
use crate::loading;
use crate::output;
use crate::paths::Paths;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
enum Verdict {
    Ok,
    Warning,
    Failed,
}

/// One check: what was found, and what to do about it.
#[derive(Clone, Debug, Serialize)]
struct Check {
    check: String,
    result: Verdict,
    found: String,
    fix: String,
}

/// What has been checked so far.
#[derive(Default)]
struct Report(Vec<Check>);

impl Report {
    fn add(&mut self, check: impl Into<String>, result: Verdict, found: impl Into<String>, fix: impl Into<String>) {
        self.0.push(Check { check: check.into(), result, found: found.into(), fix: fix.into() });
    }
}

pub(super) async fn doctor(global: &Global, paths: &Paths, doctor: &Doctor) -> Result<Exit, Failure> {
    let mut report = Report::default();
    match loading::load(paths, global) {
        Ok(config) => {
            let found = if paths.config.exists() { "it is valid" } else { "there is none; defaults are in force" };
            report.add("configuration", Verdict::Ok, format!("{}: {found}", paths.config.display()), "");
            inside(global, paths, &config, doctor, &mut report).await?;
        }
        Err(failure) => report.add("configuration", Verdict::Failed, failure.text, "correct the lines named"),
    }
    print(&report, doctor.output);
    let failed = report.0.iter().any(|check| check.result == Verdict::Failed);
    Ok(if failed { Exit::Failed } else { Exit::Done })
}

async fn inside(
    global: &Global,
    paths: &Paths,
    config: &Config,
    doctor: &Doctor,
    report: &mut Report,
) -> Result<(), Failure> {
    permissions(paths, report);
    let daemon = crate::client::running_daemon(global, paths).await;
    if let Some(url) = &daemon {
        report.add("daemon", Verdict::Ok, format!("it runs at {url}"), "");
    } else {
        report.add(
            "daemon",
            Verdict::Warning,
            "it does not run: nothing is refreshed",
            "start it with: everfresh serve",
        );
        match compose::open_store(paths, config) {
            Ok(store) => report.add("key", Verdict::Ok, format!("it comes from {}", store.key_origin), ""),
            Err(failure) => {
                report.add("store", Verdict::Failed, failure.text, "see above");
                return Ok(());
            }
        }
    }
    let api = Api::open(global, paths, Need::Look).await?;
    let status = api.get("/api/v1/status").await?;
    for reason in status["reasons"].as_array().into_iter().flatten() {
        report.add("daemon", Verdict::Failed, output::text(reason), "");
    }
    let warnings = status["store_warnings"].as_array().cloned().unwrap_or_default();
    if warnings.is_empty() {
        report.add("store", Verdict::Ok, format!("{} is readable and whole", paths.data.display()), "");
    }
    for warning in &warnings {
        report.add("store", Verdict::Warning, output::text(warning), "see docs/STORAGE.md");
    }
    let listed = api.get("/api/v1/servers").await?;
    api.close().await;
    servers(&listed, config, doctor.name.as_deref(), report).await
}

#[cfg(unix)]
fn permissions(paths: &Paths, report: &mut Report) {
    use std::os::unix::fs::PermissionsExt;

    let mut open = Vec::new();
    for path in [&paths.data, &paths.local_key(), &paths.limited_keys(), &paths.data.join("master.key")] {
        let Ok(metadata) = std::fs::metadata(path) else { continue };
        if metadata.permissions().mode() & 0o077 != 0 {
            open.push(path.display().to_string());
        }
    }
    if open.is_empty() {
        report.add("permissions", Verdict::Ok, "keys and store are their owner's only", "");
    } else {
        let fix = format!("chmod go-rwx {}", open.join(" "));
        report.add("permissions", Verdict::Failed, format!("others can read {}", open.join(", ")), fix);
    }
}

#[cfg(not(unix))]
fn permissions(_paths: &Paths, _report: &mut Report) {}

async fn servers(listed: &Value, config: &Config, only: Option<&str>, report: &mut Report) -> Result<(), Failure> {
    drop(rustls::crypto::ring::default_provider().install_default());
    let mut found = false;
    for server in listed["servers"].as_array().into_iter().flatten() {
        let name = output::text(&server["name"]);
        if only.is_some_and(|only| only.split('@').next() != Some(name.as_str())) {
            continue;
        }
        found = true;
        health(&name, server, report);
        if server["health"]["admin_state"] == "enabled" {
            reach(&name, &settings(&name, server, config), report).await;
        }
    }
    match only {
        Some(name) if !found => {
            let text = format!("there is no server {name:?}; `everfresh list` shows those there are");
            Err(Failure::new(Exit::NoSuchServer, text))
        }
        Some(_) | None => Ok(()),
    }
}

fn health(name: &str, server: &Value, report: &mut Report) {
    let health = &server["health"];
    let verdict = match health["level"].as_str() {
        Some("healthy") => Verdict::Ok,
        Some("degraded") => Verdict::Warning,
        _ => Verdict::Failed,
    };
    let fix = match health["action"].as_str() {
        Some("login") => format!("everfresh login {name}"),
        Some("retry") => format!("everfresh refresh {name}"),
        Some("view_logs") => format!("everfresh journal {name}"),
        Some("enable") => format!("everfresh enable {name}"),
        Some("configure") => output::text(&health["detail"]),
        _ => String::new(),
    };
    report.add(format!("{name}: login"), verdict, output::text(&health["summary"]), fix);
}

/// The settings of a server: the file's own, or what the API shows of the others.
fn settings(name: &str, server: &Value, config: &Config) -> ServerSettings {
    let known = config.servers.iter().find(|known| known.name.as_str() == name).cloned();
    known.unwrap_or_else(|| {
        let parsed = name.parse().unwrap_or_else(|_| "unnamed".parse().expect("a valid name"));
        ServerSettings::new(parsed, output::text(&server["url"]))
    })
}

/// Whether the upstream and its provider can be reached from here.
async fn reach(name: &str, settings: &ServerSettings, report: &mut Report) {
    let factory = HttpFactory::new();
    match NetDialer::new(Arc::clone(&factory)).dial(settings).await {
        Ok(_) => report.add(format!("{name}: upstream"), Verdict::Ok, "it can be reached", ""),
        Err(error) => {
            report.add(format!("{name}: upstream"), Verdict::Failed, error.to_string(), "check network, proxy and URL");
            return;
        }
    }
    let oauth = HttpOAuth::new(factory, Arc::new(SystemClock::default()), Arc::new(SystemEntropy));
    let check = format!("{name}: provider");
    match oauth.discover(settings, None).await {
        Ok(found) => {
            report.add(&check, Verdict::Ok, format!("its metadata can be had from {}", found.issuer), "");
            let endpoint = ServerSettings { url: found.token_endpoint.clone(), ..settings.clone() };
            let dialer = NetDialer::new(HttpFactory::new());
            match dialer.dial(&endpoint).await {
                Ok(_) => report.add(format!("{name}: token endpoint"), Verdict::Ok, found.token_endpoint, ""),
                Err(error) => report.add(
                    format!("{name}: token endpoint"),
                    Verdict::Failed,
                    format!("{}: {error}", found.token_endpoint),
                    "check network and proxy",
                ),
            }
        }
        Err(DiscoveryError::NotProtected { .. }) => {
            report.add(check, Verdict::Ok, "the server asks for no login", "");
        }
        Err(error) => report.add(check, Verdict::Failed, error.to_string(), "see the message"),
    }
}

fn print(report: &Report, format: Output) {
    if format == Output::Json {
        return output::json(&json!({ "checks": report.0 }));
    }
    for check in &report.0 {
        let mark = match check.result {
            Verdict::Ok => "ok     ",
            Verdict::Warning => "warning",
            Verdict::Failed => "FAILED ",
        };
        output::line(format!("{mark}  {}: {}", check.check, check.found));
        if !check.fix.is_empty() && check.result != Verdict::Ok {
            output::line(format!("         -> {}", check.fix));
        }
    }
}
