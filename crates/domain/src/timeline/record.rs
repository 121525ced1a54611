//! What the record of a login notes of its own past, with the write that changes it.

use super::History;
use crate::grant::{GrantRecord, LoginEnd};
use crate::time::Timestamp;
use crate::token::TokenSet;

/// How a login that the provider ended came to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Parting {
    /// Its access token works as long as it would have.
    TokenWorks,
    /// The upstream refuses its access token already.
    TokenRefused,
}

impl GrantRecord {
    /// With a note that it is so from `now` on. To be called before it is stored.
    #[must_use]
    pub fn noted(self, now: Timestamp, parting: Parting) -> Self {
        let until = self.tokens.as_ref().and_then(TokenSet::expires_at);
        let mut history = self.history.clone();
        match (&self.ended, &self.tokens) {
            (Some(LoginEnd::LoggedOut), _) => history.log_out(now),
            (
                Some(LoginEnd::Refused { .. } | LoginEnd::RotationLost { .. } | LoginEnd::ClientRejected { .. }),
                Some(_),
            ) => {
                let works = parting == Parting::TokenWorks;
                history.end(now, until.filter(|_| works));
            }
            (_, Some(_)) => history.hold(now, until),
            // Nobody logs in to a grant that needs no person: it lacks a token.
            (_, None) if self.binding.grant_type.is_unattended() => history.hold(now, Some(now)),
            (_, None) => history.log_out(now),
        }
        Self { history, ..self }
    }

    /// A new login with the past of the one before: none where there was none, and an empty history
    /// where that cannot be read.
    #[must_use]
    pub fn continuing(self, mut history: History, now: Timestamp) -> Self {
        history.log_in(now, self.tokens.as_ref().and_then(TokenSet::expires_at));
        Self { history, ..self }
    }

    /// What it knows of its past: where nothing was noted yet, that it has its tokens since they were
    /// issued.
    pub fn past(&self) -> History {
        match &self.tokens {
            Some(tokens) if self.history.is_empty() => {
                self.clone().noted(tokens.issued_at, Parting::TokenWorks).history
            }
            Some(_) | None => self.history.clone(),
        }
    }
}
