//! A clock that a test in another process can set, as a machine's own can be set.

use std::path::PathBuf;
use std::time::Duration;

use everfresh_application::ports::Clock;
use everfresh_domain::Timestamp;

use super::SystemClock;

/// The machine's clocks, with the wall clock ahead by as many milliseconds as stand in a file: a
/// sleep of the machine, without the sleep. A file that is not there means none.
#[derive(Debug)]
pub struct ShiftedClock {
    clock: SystemClock,
    file: PathBuf,
}

impl ShiftedClock {
    /// Set by `file`, which is read at every look at the clock.
    pub fn new(file: impl Into<PathBuf>) -> Self {
        Self { clock: SystemClock::default(), file: file.into() }
    }
}

impl Clock for ShiftedClock {
    fn now(&self) -> Timestamp {
        let text = std::fs::read_to_string(&self.file).unwrap_or_default();
        let ahead_ms: i64 = text.trim().parse().unwrap_or(0);
        Timestamp::from_millis(self.clock.now().as_millis().saturating_add(ahead_ms))
    }

    fn monotonic(&self) -> Duration {
        self.clock.monotonic()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_wall_clock_is_shifted_and_the_other_one_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("clock");
        let clock = ShiftedClock::new(&file);
        let before = (clock.now(), clock.monotonic());
        std::fs::write(&file, "28800000\n").unwrap();
        let after = (clock.now(), clock.monotonic());
        assert!(after.0.since(before.0) >= Duration::from_secs(8 * 3_600));
        assert!(after.1 - before.1 < Duration::from_secs(3_600));
    }
}
