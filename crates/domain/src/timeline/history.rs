//! Which access token a login had, and until when: what its record carries of its past.

use serde::{Deserialize, Serialize};

use super::KEPT;
use crate::time::Timestamp;

/// Stretches that a history keeps. A login whose token never lapses needs one a login, so this is
/// reached only where tokens lapse again and again; its oldest stretches go then.
pub const STRETCHES_KEPT: usize = 128;

/// What a login has from some moment on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "kind")]
pub enum Holding {
    /// An access token.
    Token {
        /// When it ends; `None` where nobody knows.
        until: Option<Timestamp>,
    },
    /// Nothing: a person logged out, or nobody has logged in.
    LoggedOut,
    /// Nothing: the provider ended the login.
    Ended,
}

/// What a login had from one moment until the next stretch begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stretch {
    /// When it began.
    pub from: Timestamp,
    /// What the login had.
    pub holding: Holding,
    /// Whether a person logged in then.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub login: bool,
}

/// The past of a login, oldest first. Tokens that followed each other without a gap are one stretch.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct History(Vec<Stretch>);

impl History {
    /// The history of a login that there was none of before.
    pub fn of_none() -> Self {
        Self(vec![Stretch { from: Timestamp::EPOCH, holding: Holding::LoggedOut, login: false }])
    }

    /// A person logged in; the token ends at `until`.
    pub fn log_in(&mut self, now: Timestamp, until: Option<Timestamp>) {
        self.cut(now);
        self.push(now, Stretch { from: now, holding: Holding::Token { until }, login: true });
    }

    /// From `now` on there is a token that ends at `until`. One that has ended already changes
    /// nothing where there was one before.
    pub fn hold(&mut self, now: Timestamp, until: Option<Timestamp>) {
        let gapless = self.cut(now);
        let lapsed = until.is_some_and(|until| until <= now);
        match self.0.last_mut() {
            Some(Stretch { holding: Holding::Token { .. }, .. }) if lapsed => {}
            Some(Stretch { holding: Holding::Token { until: end }, .. }) if gapless => *end = until,
            Some(_) | None => {
                self.push(now, Stretch { from: now, holding: Holding::Token { until }, login: false });
            }
        }
    }

    /// A person logged out.
    pub fn log_out(&mut self, now: Timestamp) {
        self.cut(now);
        self.leave(now, now, Holding::LoggedOut);
    }

    /// The provider ended the login. Its token works until `until`, or no longer.
    pub fn end(&mut self, now: Timestamp, until: Option<Timestamp>) {
        let at = until.map_or(now, |until| until.max(now));
        if self.0.last().is_some_and(|last| last.holding == Holding::Ended && last.from <= now) {
            return;
        }
        self.hold(now, Some(at));
        self.leave(now, at, Holding::Ended);
    }

    fn leave(&mut self, now: Timestamp, at: Timestamp, holding: Holding) {
        if self.0.last().is_none_or(|last| last.holding != holding) {
            self.push(now, Stretch { from: at, holding, login: false });
        }
    }

    /// Ends at `now` what was said of later. Whether there was a token until then.
    fn cut(&mut self, now: Timestamp) -> bool {
        self.0.retain(|stretch| stretch.from <= now);
        let Some(Stretch { holding: Holding::Token { until }, .. }) = self.0.last_mut() else { return false };
        let at_hand = until.is_none_or(|until| until >= now);
        if at_hand {
            *until = Some(now);
        }
        at_hand
    }

    /// Adds a stretch, and forgets what is too old; of that, the last stretch tells how it all began.
    fn push(&mut self, now: Timestamp, stretch: Stretch) {
        self.0.push(stretch);
        let horizon = now.before(KEPT);
        let too_old = self.0.iter().filter(|stretch| stretch.from <= horizon).count().saturating_sub(1);
        let surplus = self.0.len().saturating_sub(STRETCHES_KEPT);
        self.0.drain(..too_old.max(surplus));
    }

    /// Whether nothing is known.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The stretches, oldest first.
    pub fn stretches(&self) -> &[Stretch] {
        &self.0
    }

    pub(super) fn holding_at(&self, at: Timestamp) -> Option<Holding> {
        self.0.iter().filter(|stretch| stretch.from <= at).max_by_key(|stretch| stretch.from).map(|last| last.holding)
    }

    /// Each moment at which a state may begin.
    pub(super) fn changes(&self) -> impl Iterator<Item = Timestamp> {
        let ends = self.0.iter().filter_map(|stretch| match stretch.holding {
            Holding::Token { until } => until,
            Holding::LoggedOut | Holding::Ended => None,
        });
        self.0.iter().map(|stretch| stretch.from).chain(ends)
    }

    /// Each moment at which a person logged in or out.
    pub(super) fn by_person(&self) -> impl Iterator<Item = Timestamp> {
        let told = self.0.iter().filter(|stretch| stretch.login || stretch.holding == Holding::LoggedOut);
        told.map(|stretch| stretch.from)
    }
}

impl FromIterator<Stretch> for History {
    fn from_iter<T: IntoIterator<Item = Stretch>>(stretches: T) -> Self {
        Self(stretches.into_iter().collect())
    }
}
