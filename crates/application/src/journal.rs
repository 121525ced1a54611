//! How long a journal is: what of it goes first, so that it stays small and tells what matters.
//!
//! The last day is whole. Of what is older, refreshes on schedule that follow each other say little:
//! one an hour is left of them, and all that failed or was out of the ordinary stays longer.

use std::time::Duration;

use everfresh_domain::Timestamp;
use everfresh_domain::engine::Trigger;

use crate::ports::{JournalEntry, JournalOutcome};

/// So long every attempt stays.
pub const WHOLE: Duration = Duration::from_secs(24 * 3600);

/// Attempts that a journal has of [`WHOLE`]: more than there are where spacing is as it should be.
pub const RECENT_KEPT: usize = 10_000;

/// Attempts that a journal has from before.
pub const OLDER_KEPT: usize = 500;

/// Refreshes on schedule that are older are told once in so long.
const APART_MS: i64 = 3_600_000;

/// What decides over an entry of a journal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Line {
    /// When its attempt began.
    pub at: Timestamp,
    /// Whether it says no more than that all was well.
    pub is_routine: bool,
}

impl From<&JournalEntry> for Line {
    fn from(entry: &JournalEntry) -> Self {
        let refreshed = matches!(entry.outcome, JournalOutcome::Refreshed { .. });
        Self { at: entry.started_at, is_routine: refreshed && entry.trigger == Trigger::Schedule.to_string() }
    }
}

/// Which of the lines of a journal, newest first, are to go: their places, in order.
///
/// A refresh that ended or began a row of others stays, so that no outage looks longer than it was.
pub fn surplus(newest_first: &[Line]) -> Vec<usize> {
    let Some(newest) = newest_first.first() else { return Vec::new() };
    let horizon = newest.at.before(WHOLE);
    let (mut recent, mut older, mut told) = (0, 0, None);
    let mut goes = Vec::new();
    for (index, line) in newest_first.iter().enumerate() {
        let stays = if line.at > horizon {
            recent += 1;
            recent <= RECENT_KEPT
        } else {
            let hour = line.at.as_millis().div_euclid(APART_MS);
            let neighbours = [index.checked_sub(1), index.checked_add(1)];
            let within = neighbours
                .into_iter()
                .all(|at| at.and_then(|at| newest_first.get(at)).is_some_and(|neighbour| neighbour.is_routine));
            let said = line.is_routine && within && told == Some(hour);
            told = if line.is_routine { Some(hour) } else { None };
            older += usize::from(!said);
            !said && older <= OLDER_KEPT
        };
        if !stays {
            goes.push(index);
        }
    }
    goes
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW_MS: i64 = 1_795_000_000_000;

    /// A journal of so many attempts, `apart_s` seconds apart; `odd` says which are out of the ordinary.
    fn lines(count: usize, apart_s: i64, odd: impl Fn(usize) -> bool) -> Vec<Line> {
        let at = |index| Timestamp::from_millis(NOW_MS - i64::try_from(index).unwrap() * apart_s * 1000);
        (0..count).map(|index| Line { at: at(index), is_routine: !odd(index) }).collect()
    }

    fn thinned(lines: &[Line]) -> Vec<Line> {
        let goes = surplus(lines);
        let stay = lines.iter().enumerate().filter(|(index, _)| goes.binary_search(index).is_err());
        stay.map(|(_, line)| *line).collect()
    }

    #[test]
    fn the_last_day_is_whole_and_a_week_of_one_minute_tokens_is_short() {
        let week = lines(7 * 24 * 75, 48, |_| false);
        let left = thinned(&week);
        let day = |lines: &[Line]| lines.iter().filter(|line| line.at.as_millis() > NOW_MS - 86_400_000).count();
        assert_eq!(day(&left), day(&week));
        let older = left.len() - day(&left);
        assert!((6 * 24..=6 * 24 + 2).contains(&older), "one an hour: {older}");
        assert_eq!(thinned(&left), left, "and so it stays");
    }

    #[test]
    fn what_failed_stays_with_the_refreshes_before_and_after_it() {
        let week = lines(7 * 24 * 60, 60, |index| index % 1000 == 500);
        let left = thinned(&week);
        for index in (0..7 * 24 * 60).filter(|index| index % 1000 == 500) {
            assert!((index - 1..=index + 1).all(|near| left.contains(&week[near])), "{index}");
        }
    }

    #[test]
    fn no_journal_grows_without_end() {
        let failing = lines(100_000, 1, |_| true);
        assert_eq!(thinned(&failing).len(), RECENT_KEPT + OLDER_KEPT);
        let yearly = lines(9_000, 3_600, |_| false);
        assert_eq!(thinned(&yearly).len(), 24 + OLDER_KEPT);
        assert_eq!(surplus(&[]), [0; 0]);
    }
}
