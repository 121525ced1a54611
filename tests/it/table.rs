//! The truth table: what every surface says about each fault, against the table that is checked in.
//!
//! With `EVERFRESH_BLESS=1` the table is written anew. Faults of the store are in `bad_input.rs`.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use everfresh_e2e::{Daemon, World, until};
use everfresh_testkit::mcp::McpServer;
use everfresh_testkit::provider::{AuthRule, Behaviour, Fault, Model, ProviderServer, Switches, UpstreamFault};
use reqwest::Method;
use serde_json::{Value, json};

use crate::many::log_in;

const LONG: Duration = Duration::from_secs(3_600);
const SHORT: Duration = Duration::from_secs(4);
const PATIENCE: Duration = Duration::from_secs(60);

/// What brings a fault about, once somebody is logged in.
enum Cause {
    Nothing,
    /// The token endpoint does this, and a refresh is asked for.
    Endpoint(fn(&mut Switches)),
    /// The same, and the access token has ended before.
    EndpointLate(fn(&mut Switches)),
    /// The provider is gone, and a refresh is asked for.
    Gone,
    GoneLate,
    /// The provider forgets things, and a refresh is asked for.
    Model(fn(&mut Model)),
    /// The protected server does this, and a tool is called.
    Upstream(UpstreamFault),
    /// A call of the API.
    Api(Method, &'static str, Option<Value>),
    /// The configuration file takes the server to another origin.
    Moved,
    NeverLoggedIn,
}

struct Row {
    name: &'static str,
    behaviour: Behaviour,
    /// Switches from before the login.
    before: fn(&mut Switches),
    cause: Cause,
    reason: &'static str,
    /// The row whose words it shares, on purpose.
    same_as: Option<&'static str>,
}

fn row(name: &'static str, cause: Cause, reason: &'static str) -> Row {
    let lifetime = if matches!(cause, Cause::EndpointLate(_) | Cause::GoneLate) { SHORT } else { LONG };
    let behaviour = Behaviour { access_lifetime: lifetime, ..Behaviour::default() };
    Row { name, behaviour, before: |_| {}, cause, reason, same_as: None }
}

fn status(status: u16, retry_after: Option<&str>) -> Option<Fault> {
    Some(Fault::Status { status, body: "<html>".into(), retry_after: retry_after.map(str::to_owned) })
}

fn error(status: u16, error: &str) -> Option<Fault> {
    Some(Fault::Error { status, error: error.into() })
}

fn rows() -> Vec<Row> {
    use Cause::{Api, Endpoint, EndpointLate, Gone, GoneLate, Moved, NeverLoggedIn, Nothing, Upstream};

    let like = |same_as, row: Row| Row { same_as: Some(same_as), ..row };
    let once = |switches: &mut Switches| {
        (switches.fault, switches.fault_count) = (Some(Fault::CloseAfter), Some(1));
    };
    let unrefreshable =
        |lifetime| Behaviour { access_lifetime: lifetime, issues_refresh_tokens: false, ..Behaviour::default() };
    vec![
        row("well", Nothing, "ok"),
        row("refresh-under-way", Endpoint(|s| s.delay_ms = 600_000), "refreshing"),
        row("unreachable", Gone, "retrying_network"),
        row("unreachable-and-expired", GoneLate, "retrying_network"),
        like(
            "unreachable",
            row("connection-closed", Endpoint(|s| s.fault = Some(Fault::CloseBefore)), "retrying_network"),
        ),
        row("status-503", Endpoint(|s| s.fault = status(503, None)), "retrying_provider"),
        row("status-503-and-expired", EndpointLate(|s| s.fault = status(503, None)), "retrying_provider"),
        like("status-503", row("html", Endpoint(|s| s.fault = Some(Fault::Html)), "retrying_provider")),
        like("status-503", row("portal", Endpoint(|s| s.fault = Some(Fault::Portal)), "retrying_provider")),
        like("status-503", row("wrong-types", Endpoint(|s| s.fault = Some(Fault::WrongTypes)), "retrying_provider")),
        like("status-503", row("waf-403", Endpoint(|s| s.fault = status(403, None)), "retrying_provider")),
        like(
            "status-503",
            row("first-invalid-request", Endpoint(|s| s.fault = error(400, "invalid_request")), "retrying_provider"),
        ),
        row("pause-in-seconds", Endpoint(|s| s.fault = status(429, Some("120"))), "rate_limited"),
        like(
            "pause-in-seconds",
            row(
                "pause-until-a-date",
                Endpoint(|s| s.fault = status(429, Some("Fri, 01 Jan 2100 00:00:00 GMT"))),
                "rate_limited",
            ),
        ),
        row("refused", Endpoint(|s| s.fault = error(400, "invalid_grant")), "refresh_token_rejected"),
        like(
            "refused",
            row("refused-with-200", Endpoint(|s| s.fault = error(200, "bad_refresh_token")), "refresh_token_rejected"),
        ),
        row("rotation-lost", Endpoint(once), "rotation_lost"),
        row("client-forgotten", Cause::Model(Model::forget_clients), "client_rejected"),
        Row { behaviour: unrefreshable(LONG), ..row("no-refresh-token", Nothing, "no_refresh_token") },
        Row { behaviour: unrefreshable(SHORT), ..row("no-refresh-token-expired", Nothing, "expired_no_refresh_token") },
        row("fresh-token-refused", Upstream(UpstreamFault::RefusesAll), "rejected_after_refresh"),
        row("scope-missing", Upstream(UpstreamFault::WantsScope { scope: "admin".into() }), "insufficient_scope"),
        row("scope-taken-back", Endpoint(|s| s.scope_told = Some("read".into())), "scope_reduced"),
        Row {
            before: |s| (s.auth, s.client_secret_lifetime_s) = (AuthRule::Basic, Some(3 * 86_400)),
            ..row("client-secret-ends", Nothing, "client_secret_expiring")
        },
        row("clock-off", Endpoint(|s| s.clock_ahead_s = -5_000), "clock_skew"),
        row("moved", Moved, "issuer_changed"),
        row("logged-out", Api(Method::POST, "/logout", None), "logged_out"),
        row("never-logged-in", NeverLoggedIn, "login_required"),
        row("switched-off", Api(Method::PATCH, "", Some(json!({ "enabled": false }))), "disabled"),
    ]
}

/// One fault on its own stage: nothing that one provider does touches another row.
struct Stage {
    row: Row,
    provider: Option<ProviderServer>,
    model: Arc<Mutex<Model>>,
    upstream: McpServer,
}

impl Stage {
    async fn new(row: Row) -> Self {
        let provider = ProviderServer::start(Model::new(row.behaviour.clone())).await.unwrap();
        provider.with(|model| (row.before)(&mut model.switches));
        let upstream = McpServer::start(&provider).await.unwrap();
        Self { model: provider.model(), provider: Some(provider), upstream, row }
    }

    fn path(&self) -> String {
        format!("/api/v1/servers/{}", self.row.name)
    }

    async fn bring_about(&mut self, daemon: &Daemon, world: &World) {
        let path = self.path();
        let refresh = || {
            let request = daemon.request(Method::POST, &format!("{path}/refresh")).send();
            tokio::spawn(request);
        };
        let model = |change: fn(&mut Switches)| change(&mut self.model.lock().unwrap().switches);
        match &self.row.cause {
            Cause::Nothing | Cause::NeverLoggedIn => {}
            Cause::Endpoint(change) => {
                model(*change);
                refresh();
            }
            // The refresh at 80 % of the token's life meets it.
            Cause::EndpointLate(change) => model(*change),
            Cause::Gone => {
                drop(self.provider.take());
                refresh();
            }
            Cause::GoneLate => drop(self.provider.take()),
            Cause::Model(change) => {
                change(&mut self.model.lock().unwrap());
                refresh();
            }
            Cause::Upstream(fault) => {
                self.model.lock().unwrap().switches.upstream = fault.clone();
                daemon.call_tool(self.row.name, "add").await;
            }
            Cause::Api(method, path, body) => {
                let request = daemon.request(method.clone(), &format!("{}{path}", self.path()));
                let request = body.iter().fold(request, reqwest::RequestBuilder::json);
                assert!(request.send().await.unwrap().status().is_success());
            }
            Cause::Moved => {
                let elsewhere = self.upstream.url().replace("127.0.0.1", "localhost");
                world.configure(&format!("{CONFIG}\n[servers.{}]\nurl = \"{elsewhere}\"", self.row.name));
            }
        }
    }

    /// The words that are shown once the fault has its reason.
    async fn shown(&self, daemon: &Daemon) -> Value {
        let name = self.row.name;
        let expired = matches!(self.row.cause, Cause::EndpointLate(_) | Cause::GoneLate);
        let told = || async {
            if let Cause::Upstream(_) = self.row.cause {
                // A client that was told to wait comes again.
                daemon.call_tool(name, "add").await;
            }
            let server = daemon.server(name).await;
            let reached = server["health"]["reason"] == self.row.reason;
            (reached && (!expired || server["health"]["level"] == "unhealthy")).then_some(server)
        };
        until(name, PATIENCE, told).await.0
    }
}

const CONFIG: &str = "[refresh]\nmin_spacing = \"500ms\"\nbackoff_base = \"500ms\"\nbackoff_cap = \"2s\"\n\
                      park_timeout = \"1s\"\nhourly_budget = 10000";

/// Text in which moments, and seconds of clocks, are not told apart.
fn timeless(text: &str) -> String {
    let is_clock = |word: &str| word.parse::<u64>().is_ok_and(|seconds| seconds.abs_diff(5_000) < 60);
    let is_moment = |word: &str| word.len() >= 20 && word.as_bytes()[4] == b'-' && word.as_bytes()[10] == b'T';
    let words = text.split(' ').map(|word| {
        if is_moment(word) {
            "{time}"
        } else if is_clock(word) {
            "{n}"
        } else {
            word
        }
    });
    words.collect::<Vec<_>>().join(" ")
}

fn text(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), timeless)
}

/// What clients get: a call of a tool, and a request that is no JSON-RPC.
async fn data_plane(daemon: &Daemon, name: &str) -> [String; 2] {
    let (status, body) = daemon.call_tool(name, "add").await;
    let data = &body["error"]["data"];
    let call = match body["error"]["code"].as_i64() {
        Some(code) => format!("{status}, error {code}, {}, action {}", text(&data["reason"]), data["action"]),
        None => format!("{status}, {}", if body["result"].is_null() { "passed on" } else { "served" }),
    };
    let answer = daemon.request(Method::POST, &format!("/mcp/{name}/plain")).body("hello").send().await.unwrap();
    let (status, waits) = (answer.status().as_u16(), answer.headers().contains_key("retry-after"));
    let body: Value = serde_json::from_slice(&daemon.transcript().body(answer).await).unwrap_or_default();
    let plain = match body["type"].as_str() {
        Some(kind) => format!("{status}, {}, Retry-After {waits}", kind.rsplit(['/', ':']).next().unwrap_or(kind)),
        None => format!("{status}, served"),
    };
    [call, plain]
}

/// The names of the events about each server, from here on.
fn listen(daemon: &Daemon) -> Arc<Mutex<BTreeMap<String, BTreeSet<String>>>> {
    let heard: Arc<Mutex<BTreeMap<String, BTreeSet<String>>>> = Arc::default();
    let (kept, request) = (Arc::clone(&heard), daemon.request(Method::GET, "/events").send());
    let transcript = daemon.transcript().clone();
    tokio::spawn(async move {
        let mut answer = request.await.unwrap();
        let mut text = String::new();
        while let Some(chunk) = transcript.chunk(&mut answer).await {
            text.push_str(&String::from_utf8_lossy(&chunk));
            while let Some((block, rest)) = text.split_once("\n\n") {
                let line = |prefix: &str| block.lines().find_map(|line| line.strip_prefix(prefix)).map(str::to_owned);
                let data: Value = line("data: ").and_then(|data| serde_json::from_str(&data).ok()).unwrap_or_default();
                if let (Some(event), Some(name)) = (line("event: "), data["server"]["name"].as_str()) {
                    kept.lock().unwrap().entry(name.to_owned()).or_default().insert(event);
                }
                text = rest.to_owned();
            }
        }
    });
    heard
}

/// The labels under which the attempts of a server are counted, and its level.
fn metrics(all: &str, name: &str) -> String {
    let server = format!("server=\"{name}\"");
    let of = |metric: &str| -> BTreeSet<String> {
        let lines = all.lines().filter(|line| line.starts_with(metric) && line.contains(&server));
        lines.map(|line| line.replacen(&server, "", 1).replace("{,", "{").replace("{}", "")).collect()
    };
    let attempts = of("everfresh_oauth_refresh_total").into_iter();
    let labels: BTreeSet<String> =
        attempts.filter_map(|line| Some(line.split_once('{')?.1.split_once('}')?.0.to_owned())).collect();
    let level = of("everfresh_health_level").into_iter().next().unwrap_or_default();
    format!(
        "{} | level {}",
        labels.into_iter().collect::<Vec<_>>().join(" + "),
        level.rsplit(' ').next().unwrap_or_default()
    )
}

fn log_lines(log: &str, name: &str) -> BTreeSet<String> {
    let lines = log.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let own = lines.filter(|line| line["server"] == name && line["level"] != "TRACE" && line["level"] != "DEBUG");
    own.map(|line| {
        let reason = line["reason"].as_str().map(|reason| format!(", {reason}")).unwrap_or_default();
        format!("{} {}{reason}", text(&line["level"]), text(&line["message"]))
    })
    .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn every_fault_has_its_own_words_on_every_surface() {
    let world = World::new(Behaviour::default(), "").await;
    world.configure(CONFIG);
    let daemon = world.daemon().await;
    let heard = listen(&daemon);
    let mut stages = Vec::new();
    for row in rows() {
        stages.push(Stage::new(row).await);
    }
    for stage in &mut stages {
        if matches!(stage.row.cause, Cause::NeverLoggedIn) {
            let server = json!({ "name": stage.row.name, "url": stage.upstream.url() });
            daemon.request(Method::POST, "/api/v1/servers").json(&server).send().await.unwrap();
        } else {
            log_in(&daemon, stage.row.name, &stage.upstream).await;
        }
        stage.bring_about(&daemon, &world).await;
    }
    let mut shown = Vec::new();
    for stage in &stages {
        shown.push(stage.shown(&daemon).await);
    }
    let mut clients = Vec::new();
    for stage in &stages {
        clients.push(data_plane(&daemon, stage.row.name).await);
    }
    let (all_metrics, log, heard) = (daemon.text("/metrics").await, daemon.log(), heard.lock().unwrap().clone());
    let mut table = String::from("What every surface says about each fault. Written by tests/it/table.rs.\n");
    for ((stage, server), client) in stages.iter().zip(&shown).zip(&clients) {
        let (name, health) = (stage.row.name, &server["health"]);
        let (failure, none) = (&server["refresh"]["last_error"], BTreeSet::new());
        let [call, plain] = client;
        let action = match text(&health["action"]) {
            action if action.is_empty() => "-".to_owned(),
            action => action,
        };
        let events = heard.get(name).unwrap_or(&none).iter().cloned().collect::<Vec<_>>().join(" ");
        let log = log_lines(&log, name).into_iter().collect::<Vec<_>>().join("\n            ");
        let shared = stage.row.same_as.map(|other| format!(" (in the words of {other})")).unwrap_or_default();
        write!(
            table,
            "\n{name}{shared}\n    health  {} | {} | {action} | {}\n    refresh {} | {} {}\n    call    {call}\n    plain   {plain}\n    metric  {}\n    event   {events}\n    log     {log}\n",
            text(&health["level"]), text(&health["summary"]), text(&health["reason"]), text(&server["refresh"]["state"]),
            failure["oauth_error"], failure["http_status"], metrics(&all_metrics, name),
        )
        .unwrap();
    }
    daemon.kill().await;
    expect_no_shared_words(&stages, &shown);
    expect_golden(&table);
    println!("(l) {} faults, each with its words on seven surfaces", stages.len());
}

fn expect_no_shared_words(stages: &[Stage], shown: &[Value]) {
    let mut words = BTreeMap::new();
    for (stage, server) in stages.iter().zip(shown) {
        let health = &server["health"];
        let row = [&health["level"], &health["summary"], &health["action"], &health["reason"]].map(text);
        let first = *words.entry(row.clone()).or_insert(stage.row.name);
        let allowed = stage.row.same_as.unwrap_or(stage.row.name);
        assert_eq!(first, allowed, "{} says {row:?}", stage.row.name);
    }
}

fn expect_golden(table: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("it/golden/table.txt");
    if std::env::var_os("EVERFRESH_BLESS").is_some() {
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, table).unwrap();
    }
    let golden = std::fs::read_to_string(&path).unwrap_or_default();
    let differs = golden.lines().zip(table.lines()).find(|(golden, here)| golden != here);
    assert!(golden == *table, "{} says otherwise, first here: {differs:?}\n\n{table}", path.display());
}
