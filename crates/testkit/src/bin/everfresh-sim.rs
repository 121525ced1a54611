//! Simulated years: `everfresh-sim [--seed N | --seeds A..B] [--years Y]` of the engine, and with
//! `--storm [--days D]` of the whole application. `--record FILE` keeps what the engine is told,
//! and `--replay FILE` runs it again: such a file, or the log of a daemon at level trace.

#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a program for people")]

use std::ops::Range;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use everfresh_domain::engine::trace::{self, TraceLine};
use everfresh_testkit::sim::{self, Broken, Report};
use everfresh_testkit::storm;

const USAGE: &str = "everfresh-sim [--storm] [--seed N | --seeds A..B] [--years Y | --days D]
everfresh-sim --storm --seed N --dies-at BOUNDARY
everfresh-sim --record FILE [--seed N] [--days D]
everfresh-sim --replay FILE";

struct Wanted {
    seeds: Range<u64>,
    years: u64,
    days: u64,
    storm: bool,
    record: Option<PathBuf>,
    replay: Option<PathBuf>,
    dies_at: Option<u64>,
}

impl Wanted {
    fn run(&self, seed: u64) -> Result<Report, Broken> {
        match self.dies_at {
            Some(at) => storm::dies_at(seed, at).map(|_| Report::default()),
            None if self.storm => storm::run(seed, self.days),
            None => sim::run(seed, self.years),
        }
    }
}

fn wanted() -> Option<Wanted> {
    let mut wanted =
        Wanted { seeds: 0..20, years: 2, days: 31, storm: false, record: None, replay: None, dies_at: None };
    let mut words = std::env::args().skip(1);
    while let Some(flag) = words.next() {
        if flag == "--storm" {
            wanted.storm = true;
            continue;
        }
        let value = words.next()?;
        match flag.as_str() {
            "--seed" => {
                let seed: u64 = value.parse().ok()?;
                wanted.seeds = seed..seed + 1;
            }
            "--seeds" => {
                let (from, to) = value.split_once("..")?;
                wanted.seeds = from.parse().ok()?..to.parse().ok()?;
            }
            "--years" => wanted.years = value.parse().ok()?,
            "--dies-at" => wanted.dies_at = Some(value.parse().ok()?),
            "--record" => wanted.record = Some(value.into()),
            "--replay" => wanted.replay = Some(value.into()),
            "--days" => wanted.days = value.parse().ok()?,
            _ => return None,
        }
    }
    Some(wanted)
}

/// Runs all seeds on all cores.
fn run_all(wanted: &Wanted) -> Vec<Result<Report, Broken>> {
    let next = AtomicU64::new(wanted.seeds.start);
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        let work = || {
            let mut done = Vec::new();
            loop {
                let seed = next.fetch_add(1, Ordering::Relaxed);
                if seed >= wanted.seeds.end {
                    return done;
                }
                done.push(wanted.run(seed));
            }
        };
        let workers: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
        workers.into_iter().flat_map(|worker| worker.join().unwrap_or_default()).collect()
    })
}

fn record(path: &Path, wanted: &Wanted) -> ExitCode {
    let trace = sim::record(wanted.seeds.start, Duration::from_secs(wanted.days * 24 * 3_600));
    let lines =
        trace.iter().map(|line| serde_json::to_string(line).map(|line| line + "\n")).collect::<Result<String, _>>();
    match lines.map_err(std::io::Error::other).and_then(|lines| std::fs::write(path, lines)) {
        Ok(()) => {
            println!("{} steps of seed {} are in {}", trace.len(), wanted.seeds.start, path.display());
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("{} cannot be written: {error}", path.display());
            ExitCode::FAILURE
        }
    }
}

/// Lines of a trace as they are, or as they stand in a log.
fn step(line: &str) -> Option<TraceLine> {
    let told: serde_json::Value = serde_json::from_str(line).ok()?;
    match told.get("step").or_else(|| told.get("fields")?.get("step")) {
        Some(step) => serde_json::from_str(step.as_str()?).ok(),
        None => serde_json::from_value(told).ok(),
    }
}

fn replay(path: &Path) -> ExitCode {
    let text = match std::fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) => {
            eprintln!("{} cannot be read: {error}", path.display());
            return ExitCode::FAILURE;
        }
    };
    match trace::replay(text.lines().filter_map(step)) {
        Ok(0) => {
            eprintln!("{} holds no step of the engine; a daemon writes them with --log-level trace", path.display());
            ExitCode::FAILURE
        }
        Ok(told) => {
            println!("{told} events, each answered as recorded");
            ExitCode::SUCCESS
        }
        Err(divergence) => {
            println!("{divergence}");
            ExitCode::FAILURE
        }
    }
}

fn main() -> ExitCode {
    let Some(wanted) = wanted() else {
        eprintln!("{USAGE}");
        return ExitCode::from(2);
    };
    if let Some(path) = &wanted.record {
        return record(path, &wanted);
    }
    if let Some(path) = &wanted.replay {
        return replay(path);
    }
    let began = Instant::now();
    let results = run_all(&wanted);
    let seconds = began.elapsed().as_secs_f64();
    let reports = results.iter().map(|result| result.as_ref().map_or_else(|broken| *broken.report, |report| *report));
    let total = reports.fold(Report::default(), Report::and);
    let broken: Vec<&Broken> = results.iter().filter_map(|result| result.as_ref().err()).collect();
    println!(
        "{:.0} grant-years over {} seeds in {seconds:.1} s: {:.0} grant-years per second",
        total.grant_years,
        results.len(),
        total.grant_years / seconds
    );
    println!(
        "{} requests, {} refreshes, {} answers lost, {} crashes; logins lost that could have been kept: {}, that nobody could keep: {}",
        total.attempts,
        total.refreshes,
        total.answers_lost,
        total.crashes,
        total.lost_avoidable,
        total.lost_unavoidable
    );
    for broken in &broken {
        broken.trace.iter().for_each(|line| println!("    {line}"));
        println!("{broken}");
    }
    let complete = results.len() as u64 == wanted.seeds.end - wanted.seeds.start;
    if broken.is_empty() && complete { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
