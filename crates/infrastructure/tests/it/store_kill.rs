//! SIGKILL at random moments: a child writes and prints what was acknowledged, the parent kills it,
//! opens the store, and looks for every acknowledged write.
//!
//! `EVERFRESH_KILLS` says how often; the default keeps the test run short.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;

use everfresh_application::ports::{LoadedGrant, TokenStore};
use everfresh_domain::Generation;
use everfresh_testkit::contract::store::record;

use crate::store::open;

const FOLDER: &str = "EVERFRESH_KILL_FOLDER";
const GRANTS: usize = 6;

/// Not a test but the child of one: without its variable it does nothing.
#[test]
fn child_that_writes_until_killed() {
    let Some(folder) = std::env::var_os(FOLDER) else { return };
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(write_for_ever(Path::new(&folder)));
}

async fn write_for_ever(folder: &Path) {
    let store = Arc::new(open(folder).unwrap());
    let mut writers = tokio::task::JoinSet::new();
    for number in 0..GRANTS {
        let store = Arc::clone(&store);
        writers.spawn(async move {
            let name = format!("grant-{number}");
            let stored = store.read(&name.parse().unwrap()).await.unwrap();
            let mut generation = stored.map(|record| record.generation);
            loop {
                let next = generation.map_or(Generation(1), Generation::next);
                store.replace(generation, &record(&name, next.0)).await.unwrap();
                writeln!(std::io::stdout().lock(), "ACK {name} {next}").unwrap();
                generation = Some(next);
            }
        });
    }
    writers.join_all().await;
}

/// Runs the child until it has acknowledged `writes` writes, kills it and returns what it said.
fn kill_after(folder: &Path, writes: usize) -> BTreeMap<String, u64> {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "store_kill::child_that_writes_until_killed", "--nocapture"])
        .env(FOLDER, folder)
        .stdout(Stdio::piped())
        .stderr(Stdio::inherit())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let mut acknowledged = BTreeMap::new();
    let mut seen = 0;
    let mut killed = false;
    // What was printed before the kill is read to its end: it counts as well.
    while let Some(Ok(line)) = lines.next() {
        let mut words = line.split(' ').skip_while(|word| !word.ends_with("ACK")).skip(1);
        let (Some(name), Some(generation)) = (words.next(), words.next().and_then(|text| text.parse().ok())) else {
            continue;
        };
        acknowledged.insert(name.to_owned(), generation);
        seen += 1;
        if seen >= writes && !killed {
            child.kill().unwrap();
            killed = true;
        }
    }
    child.wait().unwrap();
    assert!(killed, "the child ended by itself after {seen} writes");
    acknowledged
}

#[test]
fn no_acknowledged_write_is_lost_to_a_kill() {
    let kills: u64 = std::env::var("EVERFRESH_KILLS").ok().and_then(|text| text.parse().ok()).unwrap_or(60);
    let folder = tempfile::tempdir().unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let mut random = 0x9e37_79b9_7f4a_7c15_u64;
    let mut writes = 0;
    for kill in 0..kills {
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let acknowledged = kill_after(folder.path(), 1 + usize::try_from(random >> 58).unwrap());
        let store = open(folder.path()).unwrap_or_else(|error| panic!("kill {kill}: {error}"));
        let loaded = runtime.block_on(store.load()).unwrap();
        for grant in &loaded {
            assert!(matches!(grant, LoadedGrant::Record(_)), "kill {kill}: {grant:?}");
        }
        for (name, generation) in acknowledged {
            let found = runtime.block_on(store.read(&name.parse().unwrap())).unwrap().unwrap().generation;
            assert!(found >= Generation(generation), "kill {kill}: {name} is {found}, acknowledged was {generation}");
            writes = writes.max(generation);
        }
        assert!(store.warnings().is_empty(), "kill {kill}: {:?}", store.warnings());
    }
    println!("{kills} kills, up to {writes} generations of each record, none lost");
}
