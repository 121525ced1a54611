//! Logins that other programs made: moved here, and back for as long as that is possible.

use std::sync::Arc;

use everfresh_domain::status::RefreshState;
use everfresh_domain::{Event, Fingerprint, Generation, GrantId, GrantRecord, Imported, Secret};

use super::{AppError, Application, RefreshOutcome, check_url};
use crate::access::moved;
use crate::foreign::{ForeignLogin, ImportError, MoveTerms};
use crate::ports::StoreError;
use crate::settings::ServerSettings;

/// A login that is here.
#[derive(Clone, Debug)]
pub struct Moved {
    /// What came of it.
    pub outcome: MoveOutcome,
    /// Whether its server was added for it.
    pub added_server: bool,
    /// Whether the refresh token is another one than it came with: the copy it came from is dead.
    pub rotated: bool,
}

/// What came of a login that was moved here. In every case it is stored.
#[derive(Clone, Debug)]
pub enum MoveOutcome {
    /// It was left as it came.
    Left,
    /// It has no refresh token: it lasts as long as its access token.
    WithoutRefreshToken,
    /// It was refreshed at once, or that was tried.
    Refresh(RefreshOutcome),
}

impl Application {
    /// Moves a login here: stored before anything of it is used, then refreshed at once, so that this
    /// is its only owner. An error means that nothing was changed and no token was sent.
    pub async fn move_in(&self, login: ForeignLogin, terms: MoveTerms) -> Result<Moved, AppError> {
        let _moving = self.inner.moving.lock().await;
        login.check()?;
        check_url(&login.url)?;
        let grant = login.grant()?;
        let (mut settings, is_new) = self.server_for(&grant, &login.url)?;
        let sent = login.refresh_token.as_ref().map(Secret::fingerprint);
        self.check_not_here(sent).await?;
        let before = self.check_free(&grant, terms).await?;
        let binding = self.inner.logins.bind(&mut settings, is_new, &login).await?;
        let limits = settings.limits(&binding.client.issuer);
        let generation = before.map_or(Generation(1), Generation::next);
        let imported = Imported { at: self.now(), generation, refresh_token: sent, added_server: is_new };
        let tokens = login.tokens(self.now());
        let record = GrantRecord::moved_in(grant.clone(), binding, tokens, imported).limited_by(limits);
        self.take_in(settings, is_new, before, &record).await?;
        tracing::info!(server = %grant, generation = %record.generation, "a login was imported");
        let outcome = match sent {
            None => MoveOutcome::WithoutRefreshToken,
            Some(_) if terms.leave => MoveOutcome::Left,
            Some(_) => MoveOutcome::Refresh(match self.refresh(&grant).await? {
                // It was due anyway, and has ended before anybody waited for it.
                RefreshOutcome::NotPossible(status) => {
                    self.just_made(&grant)?.unwrap_or(RefreshOutcome::NotPossible(status))
                }
                made @ (RefreshOutcome::Refreshed(_) | RefreshOutcome::Failed(_)) => made,
            }),
        };
        let now = self.inner.vault.read(&grant).await.ok().flatten();
        let held = now.and_then(|record| Some(record.tokens?.refresh_token?.fingerprint()));
        Ok(Moved { outcome, added_server: is_new, rotated: held.is_some() && held != sent })
    }

    /// Completes a move that was cut short before its first refresh, or met a provider that was away:
    /// whoever hands over the same login once more means that.
    pub async fn complete_move(&self, here: &GrantId, terms: MoveTerms) -> Result<(), AppError> {
        let status = self.server(here)?.status;
        if !terms.leave && status.last_success_at.is_none() && status.ended.is_none() {
            self.refresh(here).await?;
        }
        Ok(())
    }

    /// The settings of the login's server, and whether they are made for it.
    fn server_for(&self, grant: &GrantId, url: &str) -> Result<(ServerSettings, bool), AppError> {
        let Some(settings) = self.inner.servers.settings(&grant.server) else {
            return Ok((ServerSettings::new(grant.server.clone(), url), true));
        };
        if settings.oauth.grant.is_unattended() || moved(&settings.url, url).is_some() {
            let (name, url) = (settings.name.to_string(), settings.url.clone());
            return Err(ImportError::OtherServer { name, url }.into());
        }
        Ok(((*settings).clone(), false))
    }

    /// A refresh token that was here once is owned, spent or refused: it must not be sent again.
    async fn check_not_here(&self, sent: Option<Fingerprint>) -> Result<(), AppError> {
        let Some(sent) = sent else { return Ok(()) };
        for route in self.inner.access.routes() {
            let record = self.inner.vault.read(&route.grant).await.ok().flatten();
            if record.is_some_and(|record| record.knows(sent)) {
                return Err(ImportError::AlreadyHere(route.grant.clone()).into());
            }
        }
        Ok(())
    }

    /// The generation that is stored under that name, if what is there may be replaced.
    async fn check_free(&self, grant: &GrantId, terms: MoveTerms) -> Result<Option<Generation>, AppError> {
        let record = match self.inner.vault.read(grant).await {
            // It is set aside when the imported login takes its place.
            Err(StoreError::Unreadable { .. }) => None,
            read => read?,
        };
        let lives = record.as_ref().is_some_and(|record| record.ended.is_none() && record.tokens.is_some());
        if lives && !terms.replace {
            return Err(ImportError::LoggedIn(grant.clone()).into());
        }
        Ok(record.map(|record| record.generation))
    }

    /// Stores the server, then the login; only then is it known to anybody.
    async fn take_in(
        &self,
        settings: ServerSettings,
        is_new: bool,
        before: Option<Generation>,
        record: &GrantRecord,
    ) -> Result<(), AppError> {
        let grant = &record.id;
        let name = settings.name.clone();
        if is_new {
            self.add_server(settings.clone()).await?;
        }
        if let Err(error) = self.inner.vault.replace(before, record).await {
            if is_new {
                let _alone = self.inner.changing.lock().await;
                self.forget_server(&name).await?;
            }
            return Err(error.into());
        }
        if self.inner.access.route(&grant.to_string()).is_none() {
            let settings = self.inner.servers.settings(&name).unwrap_or_else(|| Arc::new(settings));
            self.inner.servers.add_account(grant);
            self.inner.access.put_route(grant, &settings);
            self.tell_loaded(grant, &settings, None).await;
        }
        self.inner.logins.cancel(grant);
        self.inner.access.publish_tokens(record);
        let facts = Box::new(record.facts());
        self.inner.mailbox.tell(Event::LoggedIn { grant: grant.clone(), facts, unsaved: None }).await;
        Ok(())
    }

    /// Takes a move back: the login is erased here and not revoked, so that the copy it came from
    /// stays good. The server goes as well where it was added for it.
    pub async fn move_back(&self, grant: &GrantId) -> Result<(), AppError> {
        let _moving = self.inner.moving.lock().await;
        let route = self.route(grant)?;
        // From here on the engine begins no attempt; one under way is waited for.
        self.inner.mailbox.tell(Event::Switched { grant: grant.clone(), enabled: false }).await;
        if route.seat.status().state == RefreshState::Refreshing {
            drop(self.inner.mailbox.next_attempt(grant).await);
        }
        let record = self.inner.vault.read(grant).await;
        let checked = match &record {
            Ok(Some(record)) => record.check_undoable().map(|imported| imported.added_server),
            Ok(None) | Err(_) => Err(everfresh_domain::NotUndoable::NotImported),
        };
        let added_server = match checked {
            Ok(added_server) => added_server,
            Err(why) => {
                let enabled = route.settings.enabled;
                self.inner.mailbox.tell(Event::Switched { grant: grant.clone(), enabled }).await;
                return Err(ImportError::NotUndoable { grant: grant.clone(), why }.into());
            }
        };
        let _alone = self.inner.changing.lock().await;
        self.erase(grant).await?;
        tracing::info!(server = %grant, "an import was undone; the copy that it came from is the login again");
        self.inner.servers.forget_account(grant);
        let others = self.inner.servers.grants_of(&grant.server).into_iter().filter(|other| other != grant);
        let mut alone = true;
        for other in others {
            alone &= matches!(self.inner.vault.read(&other).await, Ok(None));
        }
        if added_server && alone {
            return self.forget_server(&grant.server).await;
        }
        self.sync().await
    }
}
