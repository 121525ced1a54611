//! Wall-clock instants, passed in as data. This crate never asks what time it is.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// An instant of wall-clock time in milliseconds since the Unix epoch.
///
/// Arithmetic saturates: a provider's absurd lifetime ends far in the future, never in a panic.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp(i64);

/// Text that is not an RFC 3339 instant.
#[derive(Debug, thiserror::Error)]
#[error("not an RFC 3339 instant")]
pub struct InvalidTimestamp(#[source] jiff::Error);

impl Timestamp {
    /// The Unix epoch.
    pub const EPOCH: Self = Self(0);

    /// The instant `ms` milliseconds after the Unix epoch.
    pub const fn from_millis(ms: i64) -> Self {
        Self(ms)
    }

    /// Milliseconds since the Unix epoch.
    pub const fn as_millis(self) -> i64 {
        self.0
    }

    /// Seconds since the Unix epoch, for metrics.
    pub fn as_secs_f64(self) -> f64 {
        Duration::from_millis(self.0.unsigned_abs()).as_secs_f64() * self.0.signum() as f64
    }

    /// This instant and `duration` later, or the last instant there is.
    pub const fn after(self, duration: Duration) -> Self {
        Self(self.0.saturating_add(millis(duration)))
    }

    /// This instant less `duration`, or the first instant there is.
    pub const fn before(self, duration: Duration) -> Self {
        Self(self.0.saturating_sub(millis(duration)))
    }

    /// How long after `earlier` this is; zero where it is not after.
    pub const fn since(self, earlier: Self) -> Duration {
        let ms = self.0.saturating_sub(earlier.0);
        if ms <= 0 { Duration::ZERO } else { Duration::from_millis(ms.unsigned_abs()) }
    }
}

const fn millis(duration: Duration) -> i64 {
    let ms = duration.as_millis();
    if ms > i64::MAX as u128 { i64::MAX } else { ms as i64 }
}

/// RFC 3339 in UTC with whole seconds, as people read it.
impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match jiff::Timestamp::from_second(self.0.div_euclid(1000)) {
            Ok(at) => write!(f, "{at}"),
            Err(_) => f.write_str("never"),
        }
    }
}

impl FromStr for Timestamp {
    type Err = InvalidTimestamp;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let at: jiff::Timestamp = text.parse().map_err(InvalidTimestamp)?;
        Ok(Self(at.as_millisecond()))
    }
}

/// RFC 3339 in UTC with milliseconds, so that nothing is lost in storage.
impl Serialize for Timestamp {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match jiff::Timestamp::from_millisecond(self.0) {
            Ok(at) => serializer.collect_str(&format_args!("{at:.3}")),
            Err(_) => {
                serializer.serialize_str(if self.0 < 0 { "-009999-01-02T01:59:59Z" } else { "9999-12-30T22:00:00Z" })
            }
        }
    }
}

impl<'de> Deserialize<'de> for Timestamp {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = <std::borrow::Cow<'de, str>>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

/// So large a part of `time`; never a panic, however large or strange the numbers are.
pub(crate) fn part_of(time: Duration, part: f64) -> Duration {
    let seconds = time.as_secs_f64() * part;
    Duration::try_from_secs_f64(seconds.max(0.0)).unwrap_or(Duration::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arithmetic_saturates_at_both_ends() {
        assert_eq!(Timestamp::from_millis(i64::MAX).after(Duration::MAX), Timestamp::from_millis(i64::MAX));
        assert_eq!(Timestamp::from_millis(i64::MIN).before(Duration::MAX), Timestamp::from_millis(i64::MIN));
        assert_eq!(Timestamp::EPOCH.since(Timestamp::from_millis(5)), Duration::ZERO);
    }

    #[test]
    fn text_round_trips_to_the_millisecond() {
        let at = Timestamp::from_millis(1_795_000_123_456);
        let json = serde_json::to_string(&at).unwrap();
        assert_eq!(serde_json::from_str::<Timestamp>(&json).unwrap(), at);
        assert_eq!(Timestamp::from_millis(1_795_000_123_456).to_string(), "2026-11-18T11:08:43Z");
    }

    #[test]
    fn the_end_of_time_can_be_stored() {
        let json = serde_json::to_string(&Timestamp::from_millis(i64::MAX)).unwrap();
        serde_json::from_str::<Timestamp>(&json).unwrap();
    }
}
