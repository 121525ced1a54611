//! Logins that were made by another program and moved here.
//!
//! A refresh token has one owner. From the first refresh on, the copy that it came from is dead, and
//! where it is used again some providers end the whole login; until then the move can be taken back.

use serde::{Deserialize, Serialize};

use crate::grant::{Binding, GrantRecord};
use crate::ids::{Generation, GrantId};
use crate::secret::{Fingerprint, Secret};
use crate::time::Timestamp;
use crate::token::TokenSet;

/// That a login was moved here, and with what.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Imported {
    /// When.
    pub at: Timestamp,
    /// The generation it came with: while it lasts, no answer has brought new tokens.
    pub generation: Generation,
    /// The refresh token that it came with, and that the copy it came from still has.
    pub refresh_token: Option<Fingerprint>,
    /// Whether its server was added for it.
    pub added_server: bool,
}

/// Why a move cannot be taken back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NotUndoable {
    /// The login was not moved here.
    NotImported,
    /// It was refreshed, replaced or logged out since: the copy that it came from is dead.
    Changed,
    /// A refresh has begun whose answer nobody knows: the copy may be dead.
    InDoubt,
    /// The provider refused it: so it would the copy.
    Refused,
}

impl GrantRecord {
    /// The record of a login that another program made. `generation` must follow any earlier record's.
    ///
    /// Nothing was stored of it before, and nothing was sent: it has no success and no attempt.
    pub fn moved_in(id: GrantId, binding: Binding, tokens: TokenSet, imported: Imported) -> Self {
        Self {
            last_success_at: None,
            logged_in_at: None,
            imported: Some(imported.clone()),
            ..Self::logged_in(id, imported.generation, binding, tokens)
        }
    }

    /// Whether it has, had, or was refused `refresh_token`, as far as that is remembered.
    pub fn knows(&self, refresh_token: Fingerprint) -> bool {
        let current = self.tokens.as_ref().and_then(|tokens| tokens.refresh_token.as_ref());
        let held = current.into_iter().chain(&self.previous_refresh_token).map(Secret::fingerprint);
        let came_with = self.imported.as_ref().and_then(|imported| imported.refresh_token);
        held.chain(came_with).chain(self.refused.iter().copied()).any(|known| known == refresh_token)
    }

    /// Whether the copy that this login came from is as good as when it came.
    pub fn check_undoable(&self) -> Result<&Imported, NotUndoable> {
        let imported = self.imported.as_ref().ok_or(NotUndoable::NotImported)?;
        if self.generation != imported.generation {
            return Err(NotUndoable::Changed);
        }
        if self.attempt.is_some() || self.answer_lost.is_some() {
            return Err(NotUndoable::InDoubt);
        }
        if self.ended.is_some() || !self.refused.is_empty() {
            return Err(NotUndoable::Refused);
        }
        Ok(imported)
    }
}
