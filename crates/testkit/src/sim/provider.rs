//! A provider reduced to what decides over logins: which refresh token is good, and until when.

use std::collections::BTreeMap;
use std::time::Duration;

use everfresh_domain::{GrantId, Timestamp};

/// What happens to a refresh token that was used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Rotation {
    /// It stays good.
    Never,
    /// It is spent; presented again, the login is revoked.
    Strict,
    /// It stays good until its successor was used.
    UntilUsed,
    /// It stays good for so long.
    Grace(Duration),
}

/// One login as the provider sees it. Tokens are numbers.
#[derive(Clone, Debug)]
struct Login {
    current: u64,
    /// The token before it, and when it was rotated away.
    previous: Option<(u64, Timestamp)>,
    revoked: bool,
}

/// The answer to a refresh.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Answer {
    /// A new access token, and a refresh token where it rotates.
    Tokens { refresh_token: Option<u64> },
    /// `invalid_grant`.
    Refused,
}

/// One provider.
#[derive(Clone, Debug)]
pub(super) struct Provider {
    pub(super) rotation: Rotation,
    /// How long its access tokens live.
    pub(super) lifetime: Duration,
    logins: BTreeMap<GrantId, Login>,
    issued: u64,
}

impl Provider {
    pub(super) fn new(rotation: Rotation, lifetime: Duration) -> Self {
        Self { rotation, lifetime, logins: BTreeMap::new(), issued: 0 }
    }

    fn next_token(&mut self) -> u64 {
        self.issued += 1;
        self.issued
    }

    /// A person logs in: the first refresh token of a new login.
    pub(super) fn log_in(&mut self, grant: &GrantId) -> u64 {
        let current = self.next_token();
        self.logins.insert(grant.clone(), Login { current, previous: None, revoked: false });
        current
    }

    /// One refresh, processed now.
    pub(super) fn refresh(&mut self, now: Timestamp, grant: &GrantId, token: u64) -> Answer {
        let next = self.next_token();
        let rotation = self.rotation;
        let Some(login) = self.logins.get_mut(grant) else { return Answer::Refused };
        let is_current = token == login.current;
        let previous_is_good = login.previous.is_some_and(|(previous, rotated_at)| {
            let in_time = match rotation {
                Rotation::Never | Rotation::Strict => false,
                Rotation::UntilUsed => true,
                Rotation::Grace(grace) => now.since(rotated_at) < grace,
            };
            previous == token && in_time
        });
        if login.revoked || !(is_current || previous_is_good) {
            login.revoked = true;
            return Answer::Refused;
        }
        if rotation == Rotation::Never {
            return Answer::Tokens { refresh_token: None };
        }
        if is_current {
            login.previous = Some((token, now));
        }
        login.current = next;
        Answer::Tokens { refresh_token: Some(next) }
    }

    /// When the provider rotated on from `token`, if it has.
    pub(super) fn moved_on_from(&self, grant: &GrantId, token: u64) -> Option<Timestamp> {
        let login = self.logins.get(grant).filter(|login| login.current != token)?;
        login.previous.map(|(_, rotated_at)| rotated_at)
    }
}
