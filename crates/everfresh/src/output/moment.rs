//! Moments and times in the words of people.

use std::time::Duration;

use everfresh_domain::Timestamp;
use serde_json::Value;

/// The moment that a field of the API holds.
pub(crate) fn moment(value: &Value) -> Option<Timestamp> {
    value.as_str()?.parse().ok()
}

/// A moment as seen from `now`, in words; a dash where there is none.
pub(crate) fn relative(now: Timestamp, value: &Value) -> String {
    moment(value).map_or_else(|| "-".to_owned(), |at| seen_from(now, at))
}

/// How far away `at` is.
pub(crate) fn seen_from(now: Timestamp, at: Timestamp) -> String {
    if at < now { format!("{} ago", length(now.since(at))) } else { format!("in {}", length(at.since(now))) }
}

/// A moment both ways: on the clock (UTC), and as seen from `now`.
pub(crate) fn both(now: Timestamp, value: &Value) -> String {
    moment(value).map_or_else(|| "-".to_owned(), |at| format!("{} ({})", on_the_clock(at), seen_from(now, at)))
}

/// A moment on the clock, in UTC.
pub(crate) fn on_the_clock(at: Timestamp) -> String {
    at.to_string().replace('T', " ").replace('Z', " UTC")
}

/// A time in its largest unit.
pub(crate) fn length(time: Duration) -> String {
    let seconds = time.as_secs();
    match seconds {
        0..120 => format!("{seconds} s"),
        120..7_200 => format!("{} min", seconds / 60),
        7_200..172_800 => format!("{} h", seconds / 3_600),
        _ => format!("{} days", seconds / 86_400),
    }
}

/// A time to the second, for what is waited for.
pub(crate) fn exact(time: Duration) -> String {
    match (time.as_secs() / 60, time.as_secs() % 60) {
        (0, seconds) => format!("{seconds} s"),
        (minutes, seconds) => format!("{minutes} min {seconds} s"),
    }
}

/// A time that was measured in milliseconds.
pub(crate) fn measured(millis: u64) -> String {
    if millis < 1_000 { format!("{millis} ms") } else { format!("{}.{} s", millis / 1_000, millis % 1_000 / 100) }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn moments_are_told_in_words() {
        let now: Timestamp = "2026-11-23T14:00:00Z".parse().unwrap();
        let cases = [
            (json!("2026-11-23T14:00:30Z"), "in 30 s"),
            (json!("2026-11-23T13:50:00Z"), "10 min ago"),
            (json!("2026-11-24T14:00:00Z"), "in 24 h"),
            (json!("2027-11-23T14:00:00Z"), "in 365 days"),
            (json!(null), "-"),
        ];
        for (moment, expected) in cases {
            assert_eq!(relative(now, &moment), expected);
        }
        assert_eq!(both(now, &json!("2026-11-23T13:50:00Z")), "2026-11-23 13:50:00 UTC (10 min ago)");
    }

    #[test]
    fn what_is_waited_for_is_told_to_the_second() {
        assert_eq!(exact(Duration::from_secs(272)), "4 min 32 s");
        assert_eq!(exact(Duration::from_secs(59)), "59 s");
        assert_eq!((measured(87), measured(1_250)), ("87 ms".to_owned(), "1.2 s".to_owned()));
    }
}
