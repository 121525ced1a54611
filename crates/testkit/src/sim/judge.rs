//! Whether some client could have kept a login that is over.
//!
//! A login is excused only where the tokens that replaced the stored ones never reached a live
//! process, or that process died before the disk would take them, and where nobody had the time to
//! ask again while the provider's grace lasted. All trouble is written down with its beginning and
//! end, so that what was possible can be told afterwards.

use std::collections::VecDeque;
use std::time::Duration;

use everfresh_domain::{GrantId, Timestamp};

/// Calm weather that is long enough for any client to make one more attempt: the longest wait
/// after a failure, an attempt that hangs, a slow disk.
pub(crate) const ENOUGH: Duration = Duration::from_secs(420);

/// A disk that takes writes for so long has taken one: the vault tries every 15 s, and a slow disk
/// takes 16 s for one.
pub(crate) const WRITABLE: Duration = Duration::from_secs(40);

/// Trouble that ended longer ago is of no use to anybody.
const REMEMBERED: Duration = Duration::from_secs(40 * 24 * 3_600);

/// Whom trouble concerns.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Scope {
    /// Everybody: the network, the disk, the process, the machine.
    All,
    /// The grants of one provider.
    Provider(usize),
    /// The grants of one provider, as far as they want a new refresh token.
    Renewal(usize),
    /// One grant.
    Grant(GrantId),
}

/// All trouble there was.
#[derive(Debug, Default)]
pub(crate) struct Troubles {
    past: VecDeque<(Timestamp, Timestamp, Scope)>,
}

impl Troubles {
    pub(crate) fn note(&mut self, from: Timestamp, until: Timestamp, scope: Scope) {
        let forgotten = from.before(REMEMBERED);
        while self.past.front().is_some_and(|(_, until, _)| *until < forgotten) {
            self.past.pop_front();
        }
        self.past.push_back((from, until, scope));
    }

    /// The longest time without trouble for this grant between two moments.
    pub(crate) fn longest_calm(&self, from: Timestamp, to: Timestamp, grant: &GrantId, provider: usize) -> Duration {
        self.longest_without(from, to, |scope| match scope {
            Scope::All => true,
            Scope::Provider(number) => *number == provider,
            Scope::Renewal(_) => false,
            Scope::Grant(id) => id == grant,
        })
    }

    /// The same, and in which its provider renews refresh tokens.
    pub(crate) fn longest_renewing(
        &self,
        from: Timestamp,
        to: Timestamp,
        grant: &GrantId,
        provider: usize,
    ) -> Duration {
        self.longest_without(from, to, |scope| match scope {
            Scope::All => true,
            Scope::Provider(number) | Scope::Renewal(number) => *number == provider,
            Scope::Grant(id) => id == grant,
        })
    }

    fn longest_without(&self, from: Timestamp, to: Timestamp, concerns: impl Fn(&Scope) -> bool) -> Duration {
        let mut intervals: Vec<(Timestamp, Timestamp)> = self
            .past
            .iter()
            .filter(|(began, ended, scope)| concerns(scope) && *ended > from && *began < to)
            .map(|(began, ended, _)| (*began, *ended))
            .collect();
        intervals.sort_unstable();
        let (mut calm_since, mut longest) = (from, Duration::ZERO);
        for (began, ended) in intervals {
            longest = longest.max(began.since(calm_since));
            calm_since = calm_since.max(ended);
        }
        longest.max(to.since(calm_since))
    }
}

/// What became of tokens that a provider has issued and the disk does not have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    /// They are on their way, or their answer was lost: no live process has them.
    NeverArrived,
    /// A live process has them since then.
    InHand {
        /// Since when.
        since: Timestamp,
    },
    /// The process that had them died before the disk would take them.
    DiedWithProcess,
    /// The process that had them died, and could have stored them before.
    Neglected,
}

impl Fate {
    /// The process dies at `now`; the disk took no write before `disk_full_until`.
    #[must_use]
    pub(crate) fn after_death(self, now: Timestamp, disk_full_until: Timestamp) -> Self {
        match self {
            Self::InHand { since } if now.since(since.max(disk_full_until)) >= WRITABLE => Self::Neglected,
            Self::InHand { .. } => Self::DiedWithProcess,
            Self::NeverArrived | Self::DiedWithProcess | Self::Neglected => self,
        }
    }
}

/// For how long the refresh token on the disk stays good after its successor was issued.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Window {
    /// Until it is used again.
    Always,
    /// For so long; perhaps not at all.
    For(Duration),
}

/// A login that is over.
#[derive(Clone, Debug)]
pub(crate) struct Case {
    /// The tokens that the disk does not have: when they were issued, and their fate.
    pub(crate) missing: Option<(Timestamp, Fate)>,
    pub(crate) window: Window,
    /// The refresh token on the disk: when it was to be used, and when it ended.
    pub(crate) ended: Option<(Timestamp, Timestamp)>,
    pub(crate) now: Timestamp,
}

impl Case {
    /// Whether no client could have kept it. `calm` is the longest time without trouble, and `renewing` that
    /// in which refresh tokens are renewed besides.
    pub(crate) fn is_excused(
        &self,
        calm: impl Fn(Timestamp, Timestamp) -> Duration,
        renewing: impl Fn(Timestamp, Timestamp) -> Duration,
    ) -> bool {
        let had_no_time = |from: Timestamp, to: Timestamp| calm(from, to) < ENOUGH;
        let ended_unused = self.ended.is_some_and(|(due, end)| self.now >= end && renewing(due, end.max(due)) < ENOUGH);
        let lost = match (self.missing, self.window) {
            (None | Some((_, Fate::InHand { .. } | Fate::Neglected)), _) | (Some(_), Window::Always) => false,
            (Some((issued, Fate::NeverArrived | Fate::DiedWithProcess)), Window::For(grace)) => {
                let end = issued.after(grace);
                self.now >= end && had_no_time(issued, end)
            }
        };
        ended_unused || lost
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOON: Timestamp = Timestamp::from_millis(43_200_000);

    fn at(secs: u64) -> Timestamp {
        NOON.after(Duration::from_secs(secs))
    }

    fn case(fate: Option<Fate>, window: Window, now: Timestamp) -> Case {
        Case { missing: fate.map(|fate| (NOON, fate)), window, ended: None, now }
    }

    const HOUR: Window = Window::For(Duration::from_secs(3_600));
    const NONE: Window = Window::For(Duration::ZERO);

    #[test]
    fn only_what_never_reached_the_disk_by_no_fault_is_excused() {
        let storm = |_: Timestamp, _: Timestamp| Duration::ZERO;
        let rows = [
            (None, NONE, false),
            (Some(Fate::NeverArrived), NONE, true),
            (Some(Fate::DiedWithProcess), NONE, true),
            (Some(Fate::Neglected), NONE, false),
            (Some(Fate::InHand { since: NOON }), NONE, false),
            (Some(Fate::NeverArrived), Window::Always, false),
            (Some(Fate::NeverArrived), HOUR, true),
            (Some(Fate::Neglected), HOUR, false),
        ];
        for (fate, window, excused) in rows {
            assert_eq!(case(fate, window, at(4_000)).is_excused(storm, storm), excused, "{fate:?} {window:?}");
        }
        assert!(!case(Some(Fate::NeverArrived), HOUR, at(60)).is_excused(storm, storm), "its grace was not over");
    }

    #[test]
    fn a_grace_with_calm_in_it_is_long_enough() {
        let lost = case(Some(Fate::NeverArrived), HOUR, at(90_000));
        let mut troubles = Troubles::default();
        let grant: GrantId = "linear".parse().unwrap();
        let calm = |troubles: &Troubles| {
            let longest = |from, to| troubles.longest_calm(from, to, &grant, 1);
            lost.is_excused(longest, |_, _| Duration::ZERO)
        };
        assert!(!calm(&troubles));
        troubles.note(at(0), at(1_000), Scope::All);
        troubles.note(at(900), at(2_600), Scope::Provider(1));
        troubles.note(at(2_600), at(3_100), Scope::Provider(2));
        troubles.note(at(2_600), at(3_100), Scope::Grant("other".parse().unwrap()));
        assert!(!calm(&troubles), "1,000 s were left, and the rest concerns others");
        troubles.note(at(2_700), at(3_200), Scope::Grant(grant.clone()));
        assert!(calm(&troubles), "100 s and 400 s are not enough");
    }

    #[test]
    fn a_process_that_could_have_written_is_to_blame() {
        let held = Fate::InHand { since: at(100) };
        assert_eq!(held.after_death(at(120), NOON), Fate::DiedWithProcess);
        assert_eq!(held.after_death(at(200), NOON), Fate::Neglected);
        assert_eq!(held.after_death(at(200), at(180)), Fate::DiedWithProcess, "the disk was full until just now");
        assert_eq!(held.after_death(at(500), at(180)), Fate::Neglected);
        assert_eq!(Fate::NeverArrived.after_death(at(500), NOON), Fate::NeverArrived);
    }

    #[test]
    fn a_refresh_token_that_nobody_could_use_in_time_is_excused() {
        let ended = Case { ended: Some((at(1_000), at(5_000))), ..case(None, NONE, at(6_000)) };
        let (storm, calm) = (|_: Timestamp, _: Timestamp| Duration::ZERO, |_: Timestamp, _: Timestamp| ENOUGH);
        assert!(ended.is_excused(storm, storm) && !ended.is_excused(calm, calm));
        assert!(ended.is_excused(calm, storm), "it was used, and nothing was renewed");
        assert!(!Case { now: at(4_000), ..ended }.is_excused(storm, storm), "it had not ended");
    }

    #[test]
    fn who_renews_nothing_keeps_nobody_from_asking_again() {
        let mut troubles = Troubles::default();
        let grant: GrantId = "linear".parse().unwrap();
        troubles.note(at(0), at(3_000), Scope::Renewal(1));
        assert_eq!(troubles.longest_calm(at(0), at(3_600), &grant, 1), Duration::from_secs(3_600));
        assert_eq!(troubles.longest_renewing(at(0), at(3_600), &grant, 1), Duration::from_secs(600));
        assert_eq!(troubles.longest_renewing(at(0), at(3_600), &grant, 2), Duration::from_secs(3_600));
    }
}
