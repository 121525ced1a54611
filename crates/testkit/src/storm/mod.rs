//! The whole application in bad weather: engine, driver, use cases and ports, in virtual time.
//!
//! A seed decides over everything: what the network, the providers, the disk, the clocks and people
//! do, and at which await or durable write the process dies. Each life of the process has a runtime
//! of its own, which is dropped with all its tasks where the process dies; only the disk and the
//! providers go on. Invariants are checked at every boundary and after every step, then the world is
//! healed, and all must be well again by itself.

mod clocks;
mod disk;
mod life;
mod net;
mod weather;
mod world;

use std::time::Duration;

use everfresh_domain::Timestamp;

pub use crate::sim::{Broken, Invariant, Report};
use life::End;
use world::Shared;

/// How long after the weather everything must be well: the longest pause, and some retries.
const HEALING: Duration = Duration::from_secs(3 * 3_600);

/// How long a life with every use case is watched.
const SHORT: Duration = Duration::from_secs(20 * 60);

const DAY: Duration = Duration::from_secs(24 * 3_600);

/// Lives `days` with `seed`, heals the world, and demands that all is well again.
pub fn run(seed: u64, days: u64) -> Result<Report, Broken> {
    let shared = Shared::new(seed);
    let until = shared.with(|world| world.now().after(DAY.saturating_mul(u32::try_from(days).unwrap_or(u32::MAX))));
    let again = format!("cargo xtask sim --storm --seed {seed} --days {days}");
    outlive(&shared, until).map_err(|what| shared.with(|world| world.broken_by(what, again)))?;
    Ok(shared.with(|world| world.report()))
}

/// Lives until then in the weather, then in a world that is healed, in which all must be well.
fn outlive(shared: &Shared, until: Timestamp) -> Result<(), String> {
    live_until(shared, until)?;
    shared.with(|world| world.heal());
    let healed = shared.with(|world| world.now().after(HEALING));
    live_until(shared, healed)?;
    shared.with(|world| world.all_is_well())
}

/// One life of the process after another.
fn live_until(shared: &Shared, until: Timestamp) -> Result<(), String> {
    loop {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
        let runtime = runtime.map_err(|error| format!("no runtime: {error}"))?;
        let end = runtime.block_on(life::live(shared, until));
        // Whatever was under way ends here, at whichever await it has come to.
        drop(runtime);
        if let Some(what) = shared.with(|world| world.broken.take()) {
            return Err(what);
        }
        if end? == End::Reached {
            return Ok(());
        }
    }
}

/// Whether a process that dies at the `at`-th boundary of a short life with every use case leaves a
/// world that heals. `Ok(false)` where there are not so many boundaries.
pub fn dies_at(seed: u64, at: u64) -> Result<bool, Broken> {
    let shared = Shared::new(seed);
    let again = format!("cargo xtask sim --storm --seed {seed} --dies-at {at}");
    shared.with(|world| world.short_life(at));
    let until = shared.with(|world| world.now().after(SHORT));
    outlive(&shared, until).map_err(|what| shared.with(|world| world.broken_by(what, again)))?;
    Ok(shared.with(|world| world.report().crashes > 0))
}
