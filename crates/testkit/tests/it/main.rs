//! The simulation, for a few seeds: `cargo xtask sim` runs many more.

use std::time::Duration;

use everfresh_domain::engine::trace::{TraceLine, replay};
use everfresh_testkit::sim::{record, run};
use everfresh_testkit::storm;

#[test]
fn no_login_is_lost_that_could_have_been_kept() {
    for seed in 1_000..1_006 {
        let report = run(seed, 1).unwrap_or_else(|broken| panic!("{broken}"));
        assert!(report.lost_unavoidable > 0, "nothing was ever at stake with seed {seed}: {report:?}");
        assert!(report.attempts > 1_000 && report.crashes > 10, "the weather of seed {seed} was too mild: {report:?}");
    }
}

#[test]
fn a_seed_tells_the_same_story_twice() {
    assert_eq!(run(7, 1), run(7, 1));
}

#[test]
fn the_whole_application_loses_no_login_in_a_storm_that_could_have_been_kept() {
    let report = storm::run(1_000, 31).unwrap_or_else(|broken| panic!("{broken}\n{:#?}", broken.trace));
    assert!(report.lost_unavoidable > 0, "nothing was ever at stake: {report:?}");
    assert!(report.attempts > 1_000 && report.crashes > 5, "the weather was too mild: {report:?}");
}

#[test]
fn a_storm_tells_the_same_story_twice() {
    assert_eq!(storm::run(7, 5), storm::run(7, 5));
}

/// At every await and every durable write of login, refresh, logout, removal and switching.
#[test]
fn wherever_the_process_dies_no_login_is_lost_that_could_have_been_kept() {
    let deaths = (1..10_000)
        .take_while(|at| storm::dies_at(3, *at).unwrap_or_else(|broken| panic!("{broken}\n{:#?}", broken.trace)));
    let deaths = deaths.count();
    assert!(deaths > 100, "only {deaths} boundaries: not every use case was acted out");
}

#[test]
fn what_the_engine_was_told_can_be_told_again_from_a_file() {
    let trace = record(5, Duration::from_secs(30 * 24 * 3_600));
    let lines: Vec<String> = trace.iter().map(|line| serde_json::to_string(line).unwrap()).collect();
    let read = || lines.iter().map(|line| serde_json::from_str::<TraceLine>(line).unwrap());
    assert!(replay(read()).unwrap() > 1_000);
    let forgotten = read().filter(|line| !lines[500].contains(&serde_json::to_string(line).unwrap()));
    assert!(replay(forgotten).is_err(), "a step that is left out shows");
}
