//! Notices when the wall clock jumps against the monotonic one: the machine slept, or was set.

use std::time::Duration;

use everfresh_domain::Timestamp;

/// From how far apart the two clocks count as a jump.
pub(crate) const JUMP: Duration = Duration::from_secs(60);

/// A function of two clocks: what they said last against what they say now.
#[derive(Debug)]
pub(crate) struct ClockWatch {
    wall: Timestamp,
    monotonic: Duration,
}

impl ClockWatch {
    pub(crate) fn new(wall: Timestamp, monotonic: Duration) -> Self {
        Self { wall, monotonic }
    }

    /// Takes a sample and tells whether the clocks moved apart since the last one.
    pub(crate) fn jumped(&mut self, wall: Timestamp, monotonic: Duration) -> bool {
        let expected = self.wall.after(monotonic.saturating_sub(self.monotonic));
        let apart = wall.since(expected).max(expected.since(wall));
        *self = Self { wall, monotonic };
        apart > JUMP
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOON: Timestamp = Timestamp::from_millis(43_200_000);

    fn check(wall_s: i64, monotonic_s: u64, expected: bool) {
        let mut watch = ClockWatch::new(NOON, Duration::from_secs(100));
        let wall = Timestamp::from_millis(NOON.as_millis() + wall_s * 1_000);
        assert_eq!(watch.jumped(wall, Duration::from_secs(100 + monotonic_s)), expected, "{wall_s} {monotonic_s}");
    }

    #[test]
    fn only_moving_apart_is_a_jump() {
        check(10, 10, false);
        check(8 * 3_600, 8 * 3_600, false);
        check(70, 10, false);
        check(8 * 3_600, 10, true);
        check(-3_600, 10, true);
        check(-40, 10, false);
    }

    #[test]
    fn a_jump_is_told_once() {
        let mut watch = ClockWatch::new(NOON, Duration::ZERO);
        let later = NOON.after(Duration::from_secs(28_800));
        assert!(watch.jumped(later, Duration::from_secs(1)));
        assert!(!watch.jumped(later.after(Duration::from_secs(1)), Duration::from_secs(2)));
    }
}
