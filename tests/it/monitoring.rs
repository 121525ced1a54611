//! (q) The dashboard and the alert rules of `docs/monitoring`, against a Prometheus that reads a
//! running daemon.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};
use std::time::{Duration, Instant};

use everfresh_e2e::{World, client, until};
use serde_json::Value;
use tokio::io::AsyncWriteExt;
use tokio::process::{Child, Command};

/// How long Prometheus may take to start and to look twice.
const PATIENCE: Duration = Duration::from_secs(30);

/// Metrics of the process and of Prometheus itself, which the files use besides ours.
const OTHERS: [&str; 3] = ["process_start_time_seconds", "process_resident_memory_bytes", "up"];

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/monitoring")
}

fn file(name: &str) -> String {
    std::fs::read_to_string(folder().join(name)).unwrap()
}

/// The expressions of the dashboard, by the title of their panel, as they are asked with everything selected.
fn asked() -> Vec<(String, String)> {
    let dashboard: Value = serde_json::from_str(&file("dashboard.json")).unwrap();
    let panels = dashboard["panels"].as_array().unwrap().iter();
    let expressions = panels.flat_map(|panel| {
        let title = panel["title"].as_str().unwrap();
        let targets = panel["targets"].as_array().into_iter().flatten();
        targets.map(move |target| (title.to_owned(), target["expr"].as_str().unwrap().to_owned()))
    });
    let annotations = dashboard["annotations"]["list"].as_array().unwrap().iter();
    let annotations =
        annotations.map(|one| (one["name"].as_str().unwrap().to_owned(), one["expr"].as_str().unwrap().to_owned()));
    let all = expressions.chain(annotations);
    all.map(|(title, text)| {
        let text = text.replace("$instance", ".*").replace("$server", ".*").replace("$__rate_interval", "1m");
        assert!(!text.contains('$'), "{title} asks with a variable that nobody sets: {text}");
        (title, text)
    })
    .collect()
}

/// The names of metrics in a text.
fn names(text: &str) -> BTreeSet<&str> {
    let words = text.split(|letter: char| !letter.is_ascii_alphanumeric() && letter != '_');
    words.filter(|word| word.starts_with("everfresh_")).collect()
}

async fn promtool(arguments: &[&str], input: &str) -> Output {
    let mut child = Command::new("promtool")
        .args(arguments)
        .current_dir(folder())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(input.as_bytes()).await.unwrap();
    child.wait_with_output().await.unwrap()
}

fn expect_good(what: &str, output: &Output) {
    let said = [&output.stdout, &output.stderr].map(|bytes| String::from_utf8_lossy(bytes).into_owned());
    assert!(output.status.success(), "{what}: {said:?}");
}

/// A Prometheus that reads the daemon every second, with our rules.
struct Prometheus {
    _child: Child,
    _folder: tempfile::TempDir,
    url: String,
}

impl Prometheus {
    async fn start(target: &str) -> Self {
        let own = tempfile::tempdir().unwrap();
        let rules = folder().join("alerts.yml").canonicalize().unwrap();
        let text = format!(
            "global: {{ scrape_interval: 1s, evaluation_interval: 1s }}\nrule_files: [{rules:?}]\n\
             scrape_configs: [{{ job_name: everfresh, static_configs: [{{ targets: [{target:?}] }}] }}]\n"
        );
        std::fs::write(own.path().join("prometheus.yml"), text).unwrap();
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let child = Command::new("prometheus")
            .arg(format!("--config.file={}", own.path().join("prometheus.yml").display()))
            .arg(format!("--storage.tsdb.path={}", own.path().join("data").display()))
            .arg(format!("--web.listen-address=127.0.0.1:{port}"))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        Self { _child: child, _folder: own, url: format!("http://127.0.0.1:{port}") }
    }

    /// The series that an expression has; `None` where Prometheus does not answer.
    async fn series(&self, expression: &str) -> Option<Vec<Value>> {
        let query = format!("{}/api/v1/query", self.url);
        let url = reqwest::Url::parse_with_params(&query, [("query", expression)]).unwrap();
        let answer: Value = client().get(url).send().await.ok()?.json().await.ok()?;
        assert_ne!(answer["status"], "error", "{expression}: {answer}");
        Some(answer["data"]["result"].as_array()?.clone())
    }

    /// Waits until an expression has series.
    async fn until_some(&self, expression: &str) -> Duration {
        let asked = || async { self.series(expression).await.filter(|series| !series.is_empty()) };
        until(expression, PATIENCE, asked).await.1
    }
}

/// What is said where `program` is not here.
fn missing(program: &str) -> Option<String> {
    std::process::Command::new(program).arg("--version").output().err()?;
    assert!(std::env::var_os("GITHUB_ACTIONS").is_none(), "continuous integration has {program}");
    Some(format!("(q) SKIPPED: no {program} here, so dashboard and alert rules were not tried"))
}

#[tokio::test(flavor = "multi_thread")]
async fn alert_rules_fire_when_they_should_and_not_otherwise() {
    if let Some(missing) = missing("promtool") {
        println!("{missing}");
        return;
    }
    expect_good("the rules", &promtool(&["check", "rules", "--lint=all", "--lint-fatal", "alerts.yml"], "").await);
    expect_good("their tests", &promtool(&["test", "rules", "alerts_test.yml"], "").await);
    let alerts = file("alerts.yml");
    let tests = file("alerts_test.yml");
    for name in alerts.lines().filter_map(|line| line.trim().strip_prefix("- alert: ")) {
        let fires = format!("alertname: {name}\n        eval_time:");
        assert!(tests.contains(&fires), "no test in which {name} fires");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_dashboard_and_the_alerts_see_a_running_daemon() {
    if let Some(missing) = missing("prometheus") {
        println!("{missing}");
        return;
    }
    let world = World::with_lifetime(Duration::from_secs(600)).await;
    let daemon = world.daemon().await;
    world.log_in(&daemon, "demo").await;
    daemon.run(&["refresh", "demo"]).await.expect(0);
    daemon.expect_call("demo").await;
    let scraped = daemon.text("/metrics").await;
    expect_good("what is scraped", &promtool(&["check", "metrics"], &scraped).await);
    let known = |name: &str| {
        let base = ["_bucket", "_sum", "_count"].iter().find_map(|end| name.strip_suffix(end)).unwrap_or(name);
        scraped.contains(&format!("# HELP {name} ")) || scraped.contains(&format!("# HELP {base} "))
    };
    let texts = [file("alerts.yml"), asked().into_iter().map(|(_, text)| text + "\n").collect()];
    for name in texts.iter().flat_map(|text| names(text)) {
        assert!(known(name), "{name} is used, but /metrics does not have it");
    }
    assert!(OTHERS[..2].iter().all(|name| scraped.contains(name)));
    let prometheus = Prometheus::start(&format!("127.0.0.1:{}", daemon.port())).await;
    prometheus.until_some(r#"count_over_time(up{job="everfresh"}[1m]) >= 3"#).await;
    for (title, expression) in asked() {
        let series = prometheus.series(&expression).await.unwrap();
        // Nothing is wrong, the provider names no end, and no second start was.
        let is_quiet = ["What is wrong", "Failures by reason", "Logins: time left", "Daemon started"];
        assert_eq!(series.is_empty(), is_quiet.contains(&&*title), "{title}: {expression}: {series:?}");
    }
    world.provider.with(|model| model.revoke_all());
    let began = Instant::now();
    // The refresh token before it is tried as well, so that the login ends with a second attempt.
    daemon.run(&["refresh", "demo"]).await;
    prometheus.until_some(r#"ALERTS{alertname="EverfreshLoginNeeded", server="demo"}"#).await;
    println!("(q) a dead login is a pending alert {:.1?} after the refresh was asked for", began.elapsed());
    prometheus.until_some(r#"absent(ALERTS{alertname!="EverfreshLoginNeeded"})"#).await;
    daemon.kill().await;
}
