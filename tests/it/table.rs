//! The truth table: what every surface says about each fault, against the table that is checked in.
//!
//! With `EVERFRESH_BLESS=1` the table is written anew. Most faults share a daemon; those of the store
//! and of time have one each.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use everfresh_domain::health::Reason;
use everfresh_e2e::{Daemon, World, until};
use everfresh_testkit::mcp::McpServer;
use everfresh_testkit::provider::{
    AuthRule, Behaviour, Fault, Model, ProviderServer, Rotation, Switches, UpstreamFault,
};
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
        like("status-503", row("shape", Endpoint(|s| s.fault = error(400, "invalid_scope")), "retrying_provider")),
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
            let reached = shows(&server, self.row.reason);
            (reached && (!expired || server["health"]["level"] == "unhealthy")).then_some(server)
        };
        until(name, PATIENCE, told).await.0
    }
}

/// Whether this is the reason that is shown, and not while one more attempt is under way.
fn shows(server: &Value, reason: &str) -> bool {
    let attempting = server["refresh"]["state"] == "refreshing" && reason != "refreshing";
    server["health"]["reason"] == reason && !attempting
}

const CONFIG: &str = "[refresh]\nmin_spacing = \"500ms\"\nbackoff_base = \"500ms\"\nbackoff_cap = \"2s\"\n\
                      park_timeout = \"1s\"\nhourly_budget = 10000";

/// Text in which moments, ports, counts, and seconds of clocks, are not told apart.
fn timeless(text: &str) -> String {
    let is_number = |word: &str| word.parse::<u64>().is_ok();
    let is_clock = |word: &str| word.parse::<u64>().is_ok_and(|seconds| seconds.abs_diff(5_000) < 60);
    let is_moment = |word: &str| word.len() >= 20 && word.as_bytes()[4] == b'-' && word.as_bytes()[10] == b'T';
    let mut before = "";
    let words = text.split(' ').map(|word| {
        let shown = match word {
            word if is_moment(word) => "{time}".to_owned(),
            word if is_clock(word) || (before == "retry" && is_number(word)) => "{n}".to_owned(),
            word => without_port(word),
        };
        before = word;
        shown
    });
    words.collect::<Vec<_>>().join(" ")
}

fn without_port(word: &str) -> String {
    let host = ["127.0.0.1:", "localhost:"].iter().find_map(|host| Some(word.find(host)? + host.len()));
    let Some(port) = host else { return word.to_owned() };
    let rest = word[port..].trim_start_matches(|digit: char| digit.is_ascii_digit());
    format!("{}{{port}}{rest}", &word[..port])
}

fn text(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), timeless)
}

/// What clients get: a call of a tool, and a request that is no JSON-RPC.
async fn data_plane(daemon: &Daemon, name: &str) -> [String; 2] {
    let (status, body) = daemon.call_tool(name, "add").await;
    let data = &body["error"]["data"];
    let call = match body["error"]["code"].as_i64() {
        Some(code) => format!(
            "{status}, error {code}, {}, action {}: {}",
            text(&data["reason"]),
            data["action"],
            text(&body["error"]["message"])
        ),
        None => format!("{status}, {}", if body["result"].is_null() { "passed on" } else { "served" }),
    };
    let answer = daemon.request(Method::POST, &format!("/mcp/{name}/plain")).body("hello").send().await.unwrap();
    let (status, waits) = (answer.status().as_u16(), answer.headers().contains_key("retry-after"));
    let body: Value = serde_json::from_slice(&daemon.transcript().body(answer).await).unwrap_or_default();
    let plain = match body["type"].as_str() {
        Some(kind) => {
            let kind = kind.rsplit(['/', ':']).next().unwrap_or(kind);
            format!("{status}, {kind}, Retry-After {waits}: {}", text(&body["detail"]))
        }
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
                // Nor are they here: see `log_lines`.
                let event = line("event: ").filter(|event| *event != "notice");
                if let (Some(event), Some(name)) = (event, data["server"]["name"].as_str()) {
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
    let attempts = of("everfresh_oauth_refresh_total").into_iter().filter(|line| !line.ends_with(" 0"));
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
    // Notices gather for a while; `notices.rs` has what they say.
    own.filter(|line| line["notice"].is_null())
        .map(|line| {
            let reason = line["reason"].as_str().map(|reason| format!(", {reason}")).unwrap_or_default();
            format!("{} {}{reason}", text(&line["level"]), text(&line["message"]))
        })
        .collect()
}

/// What every surface says of one fault.
struct Told {
    name: &'static str,
    same_as: Option<&'static str>,
    reason: String,
    /// What the API says of its health, by which faults are told apart.
    words: [String; 4],
    /// All of it, as it stands in the table.
    row: String,
}

/// The surfaces that tell of all servers at once.
struct Surfaces {
    metrics: String,
    log: String,
    heard: BTreeMap<String, BTreeSet<String>>,
}

impl Surfaces {
    async fn of(daemon: &Daemon, heard: &Mutex<BTreeMap<String, BTreeSet<String>>>) -> Self {
        Self { metrics: daemon.text("/metrics").await, log: daemon.log(), heard: heard.lock().unwrap().clone() }
    }

    fn tell(
        &self,
        name: &'static str,
        same_as: Option<&'static str>,
        server: &Value,
        [call, plain]: &[String; 2],
    ) -> Told {
        let (health, failure, none) = (&server["health"], &server["refresh"]["last_error"], BTreeSet::new());
        let or_dash = |value: &Value| match text(value) {
            empty if empty.is_empty() => "-".to_owned(),
            text => text,
        };
        let words = [&health["level"], &health["summary"], &health["action"], &health["reason"]].map(or_dash);
        let events = self.heard.get(name).unwrap_or(&none).iter().cloned().collect::<Vec<_>>().join(" ");
        let log = log_lines(&self.log, name).into_iter().collect::<Vec<_>>().join("\n            ");
        let shared = same_as.map(|other| format!(" (in the words of {other})")).unwrap_or_default();
        let row = format!(
            "\n{name}{shared}\n    health  {}\n    detail  {}\n    refresh {} | {} {}\n    call    {call}\n    plain   {plain}\n    metric  {}\n    event   {events}\n    log     {log}\n",
            words.join(" | "),
            or_dash(&health["detail"]),
            text(&server["refresh"]["state"]),
            failure["oauth_error"],
            failure["http_status"],
            metrics(&self.metrics, name),
        );
        Told { name, same_as, reason: text(&health["reason"]), words, row }
    }
}

/// The faults that one daemon can have beside each other.
async fn together() -> Vec<Told> {
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
    let surfaces = Surfaces::of(&daemon, &heard).await;
    daemon.kill().await;
    let rows = stages.iter().zip(&shown).zip(&clients);
    rows.map(|((stage, server), client)| surfaces.tell(stage.row.name, stage.row.same_as, server, client)).collect()
}

/// A fault of the store or of time: it would be every server's of its daemon.
#[derive(Clone, Copy)]
enum Alone {
    /// Refused again and again, in words that may mean anything, for longer than a quarter of an hour.
    Suspected,
    /// The refresh token is not renewed, and five sixths of its life are over.
    RefreshTokenEnds,
    /// No attempt can be recorded.
    Unwritable,
    /// The answer to one that was recorded cannot be.
    UnwritableLater,
    /// The record is foreign bytes.
    Unreadable,
    /// The provider answers nothing.
    Silent,
}

/// Its name, the row whose words it shares, and its reason.
const ALONE: [(Alone, &str, Option<&str>, &str); 6] = [
    (Alone::Suspected, "refused-in-unclear-words", None, "suspected_rejected"),
    (Alone::RefreshTokenEnds, "refresh-token-ends", None, "refresh_token_expiring"),
    (Alone::Unwritable, "attempt-cannot-be-recorded", None, "store_write_failed"),
    (Alone::UnwritableLater, "token-cannot-be-saved", None, "store_write_failed"),
    (Alone::Unreadable, "record-unreadable", None, "store_unreadable"),
    (Alone::Silent, "no-answer", Some("unreachable"), "retrying_network"),
];

async fn refresh(daemon: &Daemon, name: &str) {
    drop(daemon.request(Method::POST, &format!("/api/v1/servers/{name}/refresh")).send().await);
}

/// Both clocks, the daemon's and the provider's.
fn set_clocks(world: &World, ahead_s: i64) {
    world.provider.with(|model| model.switches.clock_ahead_s = ahead_s);
    std::fs::write(world.folder().join("clock"), (ahead_s * 1_000).to_string()).unwrap();
}

impl Alone {
    async fn bring_about(self, world: &World, daemon: Daemon, name: &str) -> Daemon {
        let record = world.folder().join(format!("data/records/grant.{name}.sealed"));
        // Where the new record is written first, something is in the way.
        let in_the_way = record.with_added_extension("tmp");
        match self {
            Self::Suspected => {
                world.provider.with(|model| model.switches.fault = error(400, "invalid_request"));
                for minutes in [0, 8, 17] {
                    let before = world.counters().token_requests;
                    set_clocks(world, minutes * 60);
                    if minutes == 0 {
                        refresh(&daemon, name).await;
                    }
                    let again = || async { (world.counters().token_requests > before).then_some(()) };
                    until("one more refusal", PATIENCE, again).await;
                }
            }
            Self::RefreshTokenEnds => set_clocks(world, 2_500),
            Self::Unwritable => {
                std::fs::create_dir(&in_the_way).unwrap();
                refresh(&daemon, name).await;
            }
            Self::UnwritableLater => {
                world.provider.with(|model| model.switches.delay_ms = 1_000);
                let before = world.counters().token_requests;
                let sent = || async { (world.counters().token_requests > before).then_some(()) };
                let fill = async {
                    until("the request", PATIENCE, sent).await;
                    std::fs::create_dir(&in_the_way).unwrap();
                };
                tokio::join!(refresh(&daemon, name), fill);
            }
            Self::Unreadable => {
                assert_eq!(daemon.stop().await, 0);
                std::fs::write(&record, b"something foreign").unwrap();
                std::fs::remove_dir_all(world.folder().join("data/sled")).unwrap();
                return world.daemon().await;
            }
            Self::Silent => {
                world.provider.with(|model| model.switches.fault = Some(Fault::Hang));
                refresh(&daemon, name).await;
            }
        }
        daemon
    }
}

async fn alone(cause: Alone, name: &'static str, same_as: Option<&'static str>, reason: &str) -> Told {
    let mut behaviour = Behaviour::default();
    if let Alone::RefreshTokenEnds = cause {
        behaviour.rotation = Rotation::Never;
        (behaviour.refresh_lifetime, behaviour.tells_refresh_lifetime) = (Some(Duration::from_secs(3_000)), true);
    }
    let world = World::new(behaviour, "").await;
    // One attempt and then a pause in which it can be looked at, or attempts that are further apart
    // than any limit of everfresh's own.
    let is_silent = matches!(cause, Alone::Silent);
    let quick = CONFIG.replacen("500ms", "100ms", 1);
    world.configure(if is_silent { "[refresh]\nattempt_timeout = \"2s\"" } else { &quick });
    let daemon = world.daemon().await;
    log_in(&daemon, name, &world.upstream).await;
    let before = listen(&daemon);
    let daemon = cause.bring_about(&world, daemon, name).await;
    let after = listen(&daemon);
    let told = || async {
        let server = daemon.server(name).await;
        shows(&server, reason).then_some(server)
    };
    let (server, _) = until(name, PATIENCE, told).await;
    let clients = data_plane(&daemon, name).await;
    let mut surfaces = Surfaces::of(&daemon, &before).await;
    let later = after.lock().unwrap().get(name).cloned().unwrap_or_default();
    surfaces.heard.entry(name.to_owned()).or_default().extend(later);
    daemon.kill().await;
    surfaces.tell(name, same_as, &server, &clients)
}

/// The reasons without a row. The first is of everfresh's own limits, which its schedule keeps clear of;
/// the third takes several logins that ask in vain. The second and the last are of grants that need no
/// person, in `unattended.rs`. All are tried where those are.
const WITHOUT_ROW: [&str; 4] = ["held_back", "credential_refused", "scope_not_granted", "misconfigured"];

#[tokio::test(flavor = "multi_thread")]
async fn every_fault_has_its_own_words_on_every_surface() {
    let mut told = together().await;
    let apart = ALONE.map(|(cause, name, same_as, reason)| alone(cause, name, same_as, reason));
    told.extend(futures_util::future::join_all(apart).await);
    let mut table = String::from("What every surface says about each fault. Written by tests/it/table.rs.\n");
    told.iter().for_each(|told| table.push_str(&told.row));
    expect_golden(&table);
    expect_no_shared_words(&told);
    let reasons: BTreeSet<&str> = told.iter().map(|told| told.reason.as_str()).collect();
    let all = Reason::ALL.iter().map(|reason| reason.as_str());
    let missing: Vec<&str> = all.filter(|reason| !reasons.contains(reason)).collect();
    assert_eq!(missing, WITHOUT_ROW, "no fault shows these reasons");
    println!("(l) {} faults, each with its words on eight surfaces", told.len());
}

/// Faults share their words where the table says so, and nowhere else.
fn expect_no_shared_words(told: &[Told]) {
    let mut rows = BTreeMap::new();
    for told in told {
        let first = *rows.entry(told.words.clone()).or_insert(told.name);
        assert_eq!(first, told.same_as.unwrap_or(told.name), "{} says {:?}", told.name, told.words);
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
