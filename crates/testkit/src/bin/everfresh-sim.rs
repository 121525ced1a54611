//! Simulated years of the engine: `everfresh-sim [--seed N | --seeds A..B] [--years Y]`.

#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a program for people")]

use std::ops::Range;
use std::process::ExitCode;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use everfresh_testkit::sim::{Broken, Report, run};

struct Wanted {
    seeds: Range<u64>,
    years: u64,
}

fn wanted() -> Option<Wanted> {
    let mut wanted = Wanted { seeds: 0..20, years: 2 };
    let mut words = std::env::args().skip(1);
    while let (Some(flag), value) = (words.next(), words.next()) {
        let value = value?;
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
                done.push(run(seed, wanted.years));
            }
        };
        let workers: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
        workers.into_iter().flat_map(|worker| worker.join().unwrap_or_default()).collect()
    })
}

fn main() -> ExitCode {
    let Some(wanted) = wanted() else {
        eprintln!("everfresh-sim [--seed N | --seeds A..B] [--years Y]");
        return ExitCode::from(2);
    };
    let began = Instant::now();
    let results = run_all(&wanted);
    let seconds = began.elapsed().as_secs_f64();
    let total = results.iter().flatten().fold(Report::default(), |total, report| total.and(*report));
    let broken: Vec<&Broken> = results.iter().filter_map(|result| result.as_ref().err()).collect();
    println!(
        "{} grant-years over {} seeds in {seconds:.1} s: {:.0} grant-years per second",
        total.grant_years,
        results.len(),
        total.grant_years as f64 / seconds
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
        println!("{broken}");
    }
    let complete = results.len() as u64 == wanted.seeds.end - wanted.seeds.start;
    if broken.is_empty() && complete { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
