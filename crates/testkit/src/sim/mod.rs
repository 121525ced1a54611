//! The engine in bad weather: virtual years, a provider that keeps books, and invariants that are
//! checked after every step.
//!
//! Everything is a function of the seed. The records are the real ones of the domain; only the
//! store, the network and the provider are played. A run that breaks an invariant ends with the
//! line that repeats it.

mod invariant;
#[cfg_attr(
    not(feature = "storm"),
    expect(dead_code, reason = "the engine alone has no process that could neglect anything")
)]
pub(crate) mod judge;
mod provider;
mod weather;
mod world;

use std::time::Duration;

use everfresh_domain::engine::trace::TraceLine;
pub use invariant::Invariant;
pub use world::World;

/// A year of this world.
pub(crate) const YEAR: Duration = Duration::from_secs(365 * 24 * 3_600);

/// What a run came to.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Report {
    /// Years lived by all grants together.
    pub grant_years: f64,
    /// Refresh requests that were made.
    pub attempts: u64,
    /// Of those, the ones that brought tokens.
    pub refreshes: u64,
    /// Answers that were lost although the provider had done its work.
    pub answers_lost: u64,
    /// Crashes of the process, at any moment.
    pub crashes: u64,
    /// Logins that ended although some client could have kept them. Must be 0.
    pub lost_avoidable: u64,
    /// Logins that no client could have kept.
    pub lost_unavoidable: u64,
}

impl Report {
    /// Both together.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        Self {
            grant_years: self.grant_years + other.grant_years,
            attempts: self.attempts + other.attempts,
            refreshes: self.refreshes + other.refreshes,
            answers_lost: self.answers_lost + other.answers_lost,
            crashes: self.crashes + other.crashes,
            lost_avoidable: self.lost_avoidable + other.lost_avoidable,
            lost_unavoidable: self.lost_unavoidable + other.lost_unavoidable,
        }
    }
}

/// An invariant that did not hold, with the line that shows it again.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[error("invariant broken: {what} (repeat with: {again})")]
pub struct Broken {
    /// What did not hold, when and for whom.
    pub what: String,
    /// What shows it again.
    pub again: String,
    /// What happened before, line by line.
    pub trace: Vec<String>,
    /// What it had come to until then.
    pub report: Box<Report>,
}

/// What the engine is told in `time` with `seed`, for [`everfresh_domain::engine::trace::replay`].
/// A trace ends where an invariant breaks.
pub fn record(seed: u64, time: Duration) -> Vec<TraceLine> {
    let mut world = World::new(seed);
    world.record();
    drop(world.live(time));
    world.into_trace()
}

/// Lives `years` with `seed`, heals the world, and demands that all is well again.
pub fn run(seed: u64, years: u64) -> Result<Report, Broken> {
    let mut world = World::new(seed);
    let lived = world.live(YEAR.saturating_mul(u32::try_from(years).unwrap_or(u32::MAX)));
    let again = format!("cargo xtask sim --seed {seed} --years {years}");
    match lived.and_then(|()| world.heal()) {
        Ok(()) => Ok(world.report()),
        Err(what) => Err(Broken { what, again, trace: Vec::new(), report: Box::new(world.report()) }),
    }
}
