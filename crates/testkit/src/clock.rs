//! Time and chance under a test's control.

use std::sync::Mutex;
use std::sync::PoisonError;
use std::time::Duration;

use everfresh_application::ports::{Clock, Entropy};
use everfresh_domain::Timestamp;
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};
use tokio::time::Instant;

/// Where virtual time begins.
pub const START: Timestamp = Timestamp::from_millis(1_795_000_000_000);

/// A clock that follows tokio's paused time, and jumps where it is told to.
#[derive(Debug)]
pub struct VirtualClock {
    began: Instant,
    ahead_ms: Mutex<i64>,
}

impl Default for VirtualClock {
    fn default() -> Self {
        Self { began: Instant::now(), ahead_ms: Mutex::new(0) }
    }
}

impl VirtualClock {
    /// The machine sleeps, or somebody sets the clock: the wall clock jumps by so many
    /// milliseconds, the monotonic one stands still.
    pub fn jump(&self, ms: i64) {
        *self.ahead_ms.lock().unwrap_or_else(PoisonError::into_inner) += ms;
    }
}

impl Clock for VirtualClock {
    fn now(&self) -> Timestamp {
        let elapsed = i64::try_from(self.began.elapsed().as_millis()).unwrap_or(i64::MAX);
        let ahead = *self.ahead_ms.lock().unwrap_or_else(PoisonError::into_inner);
        Timestamp::from_millis(START.as_millis() + elapsed + ahead)
    }

    fn monotonic(&self) -> Duration {
        self.began.elapsed()
    }
}

/// Chance that repeats itself from its seed.
pub struct SeededEntropy(Mutex<SmallRng>);

impl SeededEntropy {
    /// From `seed`.
    pub fn new(seed: u64) -> Self {
        Self(Mutex::new(SmallRng::seed_from_u64(seed)))
    }
}

impl Entropy for SeededEntropy {
    fn bytes(&self) -> [u8; 32] {
        let mut bytes = [0; 32];
        self.0.lock().unwrap_or_else(PoisonError::into_inner).fill_bytes(&mut bytes);
        bytes
    }
}
