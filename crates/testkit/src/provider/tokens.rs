//! The tokens that a provider knows: families of refresh tokens, rotation and its grace.

use std::collections::BTreeMap;
use std::time::Duration;

use everfresh_domain::Timestamp;

use super::model::Rotation;

/// Tokens of one login.
pub(super) type Family = u64;

#[derive(Clone, Debug)]
struct RefreshToken {
    family: Family,
    expires_at: Option<Timestamp>,
    /// When it was used, and what was issued for it.
    used: Option<(Timestamp, String)>,
}

#[derive(Clone, Debug)]
struct AccessToken {
    family: Family,
    expires_at: Timestamp,
}

/// What a presented refresh token is worth.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Worth {
    /// It is good.
    Good(Family),
    /// It was never issued, or its login is revoked, or its time is over.
    Dead,
    /// It was spent: the whole family is to be distrusted.
    Reused(Family),
}

/// All tokens.
#[derive(Clone, Debug, Default)]
pub(super) struct Tokens {
    refresh: BTreeMap<String, RefreshToken>,
    access: BTreeMap<String, AccessToken>,
    revoked: Vec<Family>,
    made: u64,
}

impl Tokens {
    pub(super) fn new_family(&mut self) -> Family {
        self.made += 1;
        self.made
    }

    fn name(&mut self, kind: &str) -> String {
        self.made += 1;
        format!("{kind}-canary-{}", self.made)
    }

    pub(super) fn issue_access(&mut self, now: Timestamp, family: Family, lifetime: Duration) -> String {
        self.access.retain(|_, token| token.expires_at > now.before(Duration::from_secs(3600)));
        let name = self.name("access");
        self.access.insert(name.clone(), AccessToken { family, expires_at: now.after(lifetime) });
        name
    }

    pub(super) fn issue_refresh(&mut self, now: Timestamp, family: Family, lifetime: Option<Duration>) -> String {
        let name = self.name("refresh");
        let expires_at = lifetime.map(|lifetime| now.after(lifetime));
        self.refresh.insert(name.clone(), RefreshToken { family, expires_at, used: None });
        name
    }

    pub(super) fn worth(&self, now: Timestamp, token: &str, rotation: Rotation) -> Worth {
        let Some(known) = self.refresh.get(token) else { return Worth::Dead };
        let over = known.expires_at.is_some_and(|end| now >= end);
        if over || self.revoked.contains(&known.family) {
            return Worth::Dead;
        }
        let Some((used_at, successor)) = &known.used else { return Worth::Good(known.family) };
        let still_good = match rotation {
            Rotation::Never => true,
            Rotation::SingleUse { grace } => now.since(*used_at) < grace,
            Rotation::PreviousUntilUsed => self.refresh.get(successor).is_none_or(|next| next.used.is_none()),
        };
        if still_good { Worth::Good(known.family) } else { Worth::Reused(known.family) }
    }

    pub(super) fn was_used(&self, token: &str) -> bool {
        self.refresh.get(token).is_some_and(|token| token.used.is_some())
    }

    pub(super) fn spend(&mut self, now: Timestamp, token: &str, successor: &str) {
        if let Some(known) = self.refresh.get_mut(token) {
            known.used = Some((now, successor.to_owned()));
        }
    }

    pub(super) fn revoke(&mut self, family: Family) {
        if !self.revoked.contains(&family) {
            self.revoked.push(family);
        }
        self.access.retain(|_, token| token.family != family);
    }

    pub(super) fn revoke_all(&mut self) {
        let families: Vec<Family> = self.refresh.values().map(|token| token.family).collect();
        families.into_iter().for_each(|family| self.revoke(family));
        self.access.clear();
    }

    pub(super) fn kill_access_of(&mut self, family: Family) {
        self.access.retain(|_, token| token.family != family);
    }

    /// Ends every access token now, as if its time were over.
    pub(super) fn expire_access(&mut self) {
        self.access.clear();
    }

    pub(super) fn family_of(&self, token: &str) -> Option<Family> {
        let refresh = self.refresh.get(token).map(|token| token.family);
        refresh.or_else(|| self.access.get(token).map(|token| token.family))
    }

    pub(super) fn accepts(&self, now: Timestamp, access_token: &str) -> bool {
        self.access.get(access_token).is_some_and(|token| now < token.expires_at)
    }
}
