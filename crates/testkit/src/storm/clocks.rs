//! The clocks and the chance of a storm, as ports.

use std::time::Duration;

use everfresh_application::ports::{Clock, Entropy};
use everfresh_domain::Timestamp;
use rand::Rng;

use super::world::Shared;

/// The clocks of the machine.
pub(super) struct StormClock(pub(super) Shared);

impl Clock for StormClock {
    fn now(&self) -> Timestamp {
        self.0.with(|world| world.wall())
    }

    fn monotonic(&self) -> Duration {
        self.0.with(|world| world.here())
    }
}

/// Time as the providers have it.
pub(super) struct TrueClock(pub(super) Shared);

impl Clock for TrueClock {
    fn now(&self) -> Timestamp {
        self.0.with(|world| world.now())
    }

    fn monotonic(&self) -> Duration {
        StormClock(self.0.clone()).monotonic()
    }
}

/// Chance that is the seed's.
pub(super) struct StormEntropy(pub(super) Shared);

impl Entropy for StormEntropy {
    fn bytes(&self) -> [u8; 32] {
        let mut bytes = [0; 32];
        self.0.with(|world| world.random.fill_bytes(&mut bytes));
        bytes
    }
}
