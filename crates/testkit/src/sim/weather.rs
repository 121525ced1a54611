//! What goes wrong, and for how long: seeded, and nothing else.

use std::time::Duration;

use everfresh_domain::Timestamp;
use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};

/// How often something happens, on average.
const CALM: Duration = Duration::from_secs(18 * 3_600);

/// One in so many answers is lost on its way without any other trouble.
const LOST: u32 = 2_000;

/// Something that happens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Trouble {
    /// The network is away.
    Network(Duration),
    /// One provider is away, or answers with errors.
    Outage { provider: usize, time: Duration, kind: Outage },
    /// The process dies, and starts again later.
    Crash(Duration),
    /// The machine sleeps.
    Sleep(Duration),
    /// The wall clock is set, by so many milliseconds.
    Clock(i64),
    /// The disk is full.
    DiskFull(Duration),
    /// Somebody logs out and in again.
    Relogin(usize),
    /// A server is removed, and added again later.
    Remove(usize, Duration),
}

/// How a provider fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Outage {
    /// No connection.
    Unreachable,
    /// The request arrives, and the answer does not; half of them are processed.
    Swallows,
    /// 503, or HTML.
    Errors,
    /// 429 with a pause.
    Throttles,
}

/// The weather of one seed.
pub(super) struct Weather {
    random: SmallRng,
    providers: usize,
    grants: usize,
    /// When something happens next.
    pub(super) next: Timestamp,
}

impl Weather {
    pub(super) fn new(seed: u64, now: Timestamp, providers: usize, grants: usize) -> Self {
        let mut weather = Self { random: SmallRng::seed_from_u64(seed), providers, grants, next: now };
        weather.wait(now);
        weather
    }

    /// The trouble that is due, after which the next one has its time.
    pub(super) fn strike(&mut self, now: Timestamp) -> Trouble {
        self.wait(now);
        let (provider, grant) = (self.random.random_range(0..self.providers), self.random.random_range(0..self.grants));
        match self.random.random_range(0..100) {
            0..22 => Trouble::Network(self.between(5, 6 * 3_600)),
            22..46 => {
                let kinds = [Outage::Unreachable, Outage::Swallows, Outage::Errors, Outage::Throttles];
                let kind = kinds[self.random.random_range(0..kinds.len())];
                Trouble::Outage { provider, time: self.between(30, 24 * 3_600), kind }
            }
            46..62 => Trouble::Crash(self.between(1, 3 * 24 * 3_600)),
            62..80 => Trouble::Sleep(self.between(60, 3 * 24 * 3_600)),
            80..86 => {
                let ms = i64::try_from(self.between(1, 2 * 3_600).as_millis()).unwrap_or(i64::MAX);
                Trouble::Clock(if self.chance(2) { ms } else { -ms })
            }
            86..92 => Trouble::DiskFull(self.between(5, 3_600)),
            92..97 => Trouble::Relogin(grant),
            _ => Trouble::Remove(grant, self.between(60, 24 * 3_600)),
        }
    }

    fn wait(&mut self, now: Timestamp) {
        self.next = now.after(CALM.mul_f64(self.random.random_range(0.01..2.0)));
    }

    /// Short times are as likely as long ones.
    fn between(&mut self, from_s: u64, to_s: u64) -> Duration {
        let (from, to) = ((from_s as f64).ln(), (to_s as f64).ln());
        Duration::from_secs_f64(self.random.random_range(from..to).exp())
    }

    /// One in `of`.
    pub(super) fn chance(&mut self, of: u32) -> bool {
        self.random.random_range(0..of) == 0
    }

    /// Whether an answer is lost on its way.
    pub(super) fn loses_answer(&mut self) -> bool {
        self.chance(LOST)
    }

    /// How long a request takes.
    pub(super) fn latency(&mut self) -> Duration {
        Duration::from_millis(self.random.random_range(20..2_000))
    }

    /// A pause that a provider asks for.
    pub(super) fn pause(&mut self) -> Duration {
        self.between(1, 1_800)
    }
}
