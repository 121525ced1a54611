//! The simulation, for a few seeds: `cargo xtask sim` runs many more.

use everfresh_testkit::sim::run;

#[test]
fn no_login_is_lost_that_could_have_been_kept() {
    for seed in 1_000..1_006 {
        let report = run(seed, 1).unwrap_or_else(|broken| panic!("{broken}"));
        assert_eq!(report.lost_avoidable, 0);
        assert!(report.attempts > 1_000 && report.crashes > 10, "the weather of seed {seed} was too mild: {report:?}");
    }
}

#[test]
fn a_seed_tells_the_same_story_twice() {
    assert_eq!(run(7, 1), run(7, 1));
}
