//! The operating system's clocks and randomness.

mod shifted;

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use everfresh_application::ports::{Clock, Entropy};
use everfresh_domain::Timestamp;
use rand::TryRng;
use rand::rngs::SysRng;

pub use shifted::ShiftedClock;

/// The machine's clocks.
#[derive(Debug)]
pub struct SystemClock {
    started: Instant,
}

impl Default for SystemClock {
    fn default() -> Self {
        Self { started: Instant::now() }
    }
}

impl Clock for SystemClock {
    fn now(&self) -> Timestamp {
        let ms = match SystemTime::now().duration_since(UNIX_EPOCH) {
            Ok(since) => i64::try_from(since.as_millis()).unwrap_or(i64::MAX),
            Err(before) => i64::try_from(before.duration().as_millis()).map_or(i64::MIN, |ms| -ms),
        };
        Timestamp::from_millis(ms)
    }

    fn monotonic(&self) -> Duration {
        self.started.elapsed()
    }
}

/// The operating system's random number generator.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemEntropy;

impl Entropy for SystemEntropy {
    fn bytes(&self) -> [u8; 32] {
        let mut bytes = [0; 32];
        SysRng.try_fill_bytes(&mut bytes).expect("the operating system gives random bytes");
        bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_clock_is_of_this_century_and_the_other_one_only_grows() {
        let clock = SystemClock::default();
        assert!(clock.now() > "2026-01-01T00:00:00Z".parse().unwrap());
        let before = clock.monotonic();
        assert!(clock.monotonic() >= before);
    }

    #[test]
    fn two_draws_differ() {
        assert_ne!(SystemEntropy.bytes(), SystemEntropy.bytes());
    }
}
