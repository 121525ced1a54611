//! Use cases of grants that need no person.

use everfresh_domain::engine::Trigger;
use everfresh_domain::status::RefreshState;
use everfresh_domain::timeline::Parting;
use everfresh_domain::{Event, GrantId, GrantRecord, LoginEnd};

use super::{AppError, Application, RefreshOutcome};
use crate::ports::StoreError;
use crate::settings::ServerSettings;
use crate::unattended::{as_configured, fits};

/// How often a record is written anew when it changes meanwhile.
const WRITE_TRIES: usize = 5;

impl Application {
    /// Asks for a token as a person wants it: also after a logout, and also with what was refused.
    ///
    /// Within the spacing of the last attempt, how that ended is the answer.
    pub(super) async fn ask(&self, grant: &GrantId, settings: &ServerSettings) -> Result<RefreshOutcome, AppError> {
        if !self.revive(grant, settings).await? {
            if let Some(outcome) = self.just_made(grant)? {
                return Ok(outcome);
            }
            self.want(grant).await;
        }
        match self.next_outcome(grant).await? {
            // It may have ended before anybody waited for it.
            RefreshOutcome::NotPossible(status) => {
                Ok(self.just_made(grant)?.unwrap_or(RefreshOutcome::NotPossible(status)))
            }
            made @ (RefreshOutcome::Refreshed(_) | RefreshOutcome::Failed(_)) => Ok(made),
        }
    }

    /// How an attempt within the spacing ended, if there was one.
    pub(super) fn just_made(&self, grant: &GrantId) -> Result<Option<RefreshOutcome>, AppError> {
        let status = Box::new((*self.route(grant)?.seat.status()).clone());
        let spacing = self.policy().min_spacing;
        let recent = status.last_attempt_at.is_some_and(|at| self.now().since(at) < spacing);
        let succeeded = status.last_failure.is_none() && status.tokens.is_some();
        Ok(match recent && status.state != RefreshState::Refreshing {
            true if succeeded => Some(RefreshOutcome::Refreshed(status)),
            true => Some(RefreshOutcome::Failed(status)),
            false => None,
        })
    }

    /// Gives a grant that was logged out, or whose record cannot be read, a new beginning. Returns
    /// whether there was need to.
    async fn revive(&self, grant: &GrantId, settings: &ServerSettings) -> Result<bool, AppError> {
        for _ in 0..WRITE_TRIES {
            let record = match self.inner.vault.read(grant).await {
                Ok(Some(record)) if record.ended == Some(LoginEnd::LoggedOut) => record,
                Err(StoreError::Unreadable { .. }) => {
                    self.inner.vault.erase(grant).await?;
                    self.tell_loaded(grant, settings, None).await;
                    return Ok(true);
                }
                Ok(_) => return Ok(false),
                Err(error) => return Err(error.into()),
            };
            let revived = record.revived().noted(self.now(), Parting::TokenWorks);
            match self.inner.vault.replace(Some(record.generation), &revived).await {
                Err(StoreError::Conflict { .. }) => {}
                written => {
                    written?;
                    let facts = Box::new(as_configured(revived, settings).facts());
                    let event = Event::LoggedIn { grant: grant.clone(), facts, unsaved: None };
                    self.inner.mailbox.tell(event).await;
                    return Ok(true);
                }
            }
        }
        Ok(false)
    }

    /// Asks anew where the stored tokens are not those that these settings would lead to.
    pub(super) async fn ask_where_reconfigured(&self, settings: &ServerSettings, record: &GrantRecord) {
        let stale = record.tokens.is_some() && !fits(&record.binding, settings);
        if settings.oauth.grant.is_unattended() && stale {
            self.want(&record.id).await;
        }
    }

    pub(super) async fn want(&self, grant: &GrantId) {
        let event = Event::RefreshWanted { grant: grant.clone(), trigger: Trigger::User };
        self.inner.mailbox.tell(event).await;
    }
}
