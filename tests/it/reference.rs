//! The reference's tables of metrics and log events, against a daemon that has refreshed, failed and
//! served.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::time::Duration;

use everfresh_e2e::{World, until};
use everfresh_testkit::documents::{document, rows};
use everfresh_testkit::provider::Fault;
use serde_json::Value;

/// Fields of every line, and of every line about a server.
const COMMON: [&str; 2] = ["message", "server"];

/// The labels that Prometheus' own formats add.
const OF_THE_FORMAT: [&str; 2] = ["le", "quantile"];

fn split(cell: &str) -> BTreeSet<String> {
    cell.split(", ").filter(|part| !part.is_empty()).map(str::to_owned).collect()
}

/// Name, type and labels of each metric of ours in a scrape.
fn scraped(text: &str) -> BTreeMap<String, (String, BTreeSet<String>)> {
    let mut found: BTreeMap<String, (String, BTreeSet<String>)> = BTreeMap::new();
    let kinds = text.lines().filter_map(|line| line.strip_prefix("# TYPE everfresh_")?.split_once(' '));
    for (name, kind) in kinds {
        found.insert(format!("everfresh_{name}"), (kind.to_owned(), BTreeSet::new()));
    }
    for line in text.lines().filter(|line| line.starts_with("everfresh_")) {
        let name = line.split(['{', ' ']).next().unwrap_or_default();
        let family = ["_bucket", "_sum", "_count"].iter().find_map(|end| name.strip_suffix(end)).unwrap_or(name);
        let labels = line.split_once('{').and_then(|(_, rest)| rest.split_once('}')).map_or("", |(labels, _)| labels);
        let labels = labels.split("\",").filter_map(|label| label.split_once('=')).map(|(label, _)| label.to_owned());
        let labels = labels.filter(|label| !OF_THE_FORMAT.contains(&label.as_str()));
        let family = if found.contains_key(name) { name } else { family };
        let known = found.get_mut(family).unwrap_or_else(|| panic!("{line} has no type"));
        known.1.extend(labels);
    }
    found
}

#[tokio::test(flavor = "multi_thread")]
async fn metrics_and_log_events_are_as_documented() {
    let world = World::with_lifetime(Duration::from_secs(6)).await;
    let daemon = world.daemon().await;
    world.log_in(&daemon, "demo").await;
    daemon.expect_call("demo").await;
    daemon.run(&["refresh", "demo"]).await.expect(0);
    world.provider.with(|model| model.switches.fault = Some(Fault::CloseBefore));
    let failing = || async { (daemon.server("demo").await["health"]["reason"] == "retrying_network").then_some(()) };
    until("a failure", Duration::from_secs(20), failing).await;
    let reference = document("REFERENCE.md");
    let told: BTreeMap<String, (String, BTreeSet<String>)> =
        rows(&reference, "metric").into_iter().map(|row| (row[0].clone(), (row[1].clone(), split(&row[2])))).collect();
    let seen = scraped(&daemon.text("/metrics").await);
    assert!(seen.len() > 15, "{seen:?}");
    for (name, (kind, labels)) in &seen {
        let row = format!("| `{name}` | {kind} | {labels:?} |");
        assert_eq!(told.get(name), Some(&(kind.clone(), labels.clone())), "docs/REFERENCE.md lacks {row}");
    }
    // Some are counted only once something happens that did not happen here.
    let written = written(&["application", "infrastructure", "presentation"]);
    let gone: Vec<&String> = told.keys().filter(|name| !seen.contains_key(*name) && !written.contains(*name)).collect();
    assert!(gone.is_empty(), "docs/REFERENCE.md has metrics that there are not: {gone:?}");
    check_log(&reference, &daemon.log());
    daemon.kill().await;
}

/// Every line of a stable message has the level and the fields that the reference says.
fn check_log(reference: &str, log: &str) {
    let events: BTreeMap<String, (BTreeSet<String>, BTreeSet<String>)> =
        rows(reference, "message").into_iter().map(|row| (row[0].clone(), (split(&row[1]), split(&row[2])))).collect();
    let mut seen = BTreeSet::new();
    for line in log.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok()) {
        let fields = line["fields"].as_object().or(line.as_object()).cloned().unwrap_or_default();
        let Some(message) = fields.get("message").and_then(Value::as_str) else { continue };
        let Some((levels, known)) = events.get(message) else { continue };
        let level = line["level"].as_str().unwrap_or_default().to_lowercase();
        assert!(levels.contains(&level), "{message} is of level {level}");
        let of_line = ["timestamp", "level", "target", "span", "spans"];
        let strange = fields.keys().find(|field| {
            !known.contains(*field) && !COMMON.contains(&field.as_str()) && !of_line.contains(&field.as_str())
        });
        assert_eq!(strange, None, "docs/REFERENCE.md does not name this field of {message:?}");
        seen.insert(message.to_owned());
    }
    assert!(seen.len() >= 6, "{seen:?}");
}

fn sources(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path());
    entries
        .flat_map(|path| if path.is_dir() { sources(&path) } else { vec![path] })
        .filter(|path| path.extension().is_some_and(|end| end == "rs"))
        .collect()
}

/// The texts in quotes of these layers.
fn written(layers: &[&str]) -> BTreeSet<String> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../crates");
    let paths = layers.iter().flat_map(|layer| sources(&root.join(layer).join("src")));
    let texts = paths.map(|path| std::fs::read_to_string(path).unwrap());
    texts.flat_map(|text| text.split('"').map(str::to_owned).collect::<Vec<_>>()).collect()
}

/// No message that begins like the stable ones is missing, and none is documented that there is not.
#[test]
fn stable_messages_are_documented() {
    let begins = ["OAuth token refresh ", "OAuth login "];
    let written: BTreeSet<String> = written(&["application", "infrastructure", "presentation"])
        .into_iter()
        .filter(|text| begins.iter().any(|begin| text.starts_with(begin)))
        .collect();
    let told: BTreeSet<String> =
        rows(&document("REFERENCE.md"), "message").into_iter().map(|row| row[0].clone()).collect();
    assert_eq!(told, written);
}
