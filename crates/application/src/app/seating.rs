//! Which grants have a seat, and what the engine knows of each: at start, and after every change of
//! the servers.

use everfresh_domain::{Event, GrantFacts, GrantId, GrantRecord};

use super::{AppError, Application};
use crate::access::moved;
use crate::ports::LoadedGrant;
use crate::settings::{DpopSetting, ServerSettings};
use crate::unattended::{as_configured, provisional_endpoint};

impl Application {
    /// Gives every grant its seat and tells the driver what is stored of it.
    pub(super) async fn seat_all(&self, loaded: Vec<LoadedGrant>) {
        let grants = self.inner.servers.grants();
        for (grant, settings) in &grants {
            self.inner.access.put_route(grant, settings);
        }
        let mut without_record = grants.clone();
        for grant in loaded {
            match grant {
                LoadedGrant::Record(record) => {
                    if let Some(settings) = without_record.remove(&record.id) {
                        self.seat(&settings, *record).await;
                    }
                }
                LoadedGrant::Unreadable { grant, cause } => {
                    let Some(settings) = without_record.remove(&grant) else { continue };
                    tracing::error!(server = %grant, cause, "a stored login cannot be read");
                    self.tell_loaded(&grant, &settings, None).await;
                    self.inner.mailbox.tell(Event::Unreadable { grant, cause }).await;
                }
            }
        }
        for (grant, settings) in without_record {
            self.tell_loaded(&grant, &settings, None).await;
        }
    }

    /// Seats one stored login, unless its server has moved since.
    pub(super) async fn seat(&self, settings: &ServerSettings, record: GrantRecord) {
        let limits = settings.limits(&record.binding.client.issuer);
        let record = as_configured(record.limited_by(limits), settings);
        let unfit = if settings.oauth.grant.is_unattended() {
            None
        } else {
            moved(&record.binding.upstream, &settings.url).or_else(|| unbound(&record, settings))
        };
        let record = match unfit {
            Some(detail) => record.misplaced(detail),
            None => {
                self.inner.access.publish_tokens(&record);
                record
            }
        };
        self.tell_loaded(&record.id, settings, Some(&record)).await;
        self.ask_where_reconfigured(settings, &record).await;
    }

    pub(super) async fn tell_loaded(&self, grant: &GrantId, settings: &ServerSettings, record: Option<&GrantRecord>) {
        let awaiting = || GrantFacts::awaiting(settings.oauth.grant, provisional_endpoint(settings));
        let facts = match record {
            Some(record) => Some(Box::new(record.facts())),
            None if settings.oauth.grant.is_unattended() => Some(Box::new(awaiting())),
            None => None,
        };
        self.inner.mailbox.tell(Event::Loaded { grant: grant.clone(), enabled: settings.enabled, facts }).await;
    }

    /// Brings seats and engine in line with the servers there are.
    pub(super) async fn sync(&self) -> Result<(), AppError> {
        let wanted = self.inner.servers.grants();
        for route in self.inner.access.routes() {
            if !wanted.contains_key(&route.grant) {
                self.unseat(&route.grant).await;
            }
        }
        for (grant, settings) in &wanted {
            let before = self.inner.access.route(&grant.to_string());
            if before.as_ref().is_some_and(|route| route.settings == *settings) {
                continue;
            }
            self.inner.access.put_route(grant, settings);
            let same_login = before.as_ref().is_some_and(|route| {
                let (old, new) = (&route.settings.oauth, &settings.oauth);
                let same_terms = old.dpop == new.dpop && old.limits == new.limits && old.profile == new.profile;
                same_terms && moved(&route.settings.url, &settings.url).is_none()
            });
            let same_grant = before.as_ref().is_some_and(|route| route.settings.oauth == settings.oauth);
            let unattended = |settings: &ServerSettings| settings.oauth.grant.is_unattended();
            let by_settings = unattended(settings) || before.as_ref().is_some_and(|route| unattended(&route.settings));
            if before.is_some() && by_settings && !same_grant {
                self.inner.logins.cancel(grant);
                self.reload(grant, settings).await?;
                self.want(grant).await;
            } else if same_login {
                let event = Event::Switched { grant: grant.clone(), enabled: settings.enabled };
                self.inner.mailbox.tell(event).await;
            } else {
                self.reload(grant, settings).await?;
            }
        }
        self.attendance().look();
        Ok(())
    }

    pub(super) async fn reload(&self, grant: &GrantId, settings: &ServerSettings) -> Result<(), AppError> {
        match self.inner.vault.read(grant).await {
            Ok(Some(record)) => self.seat(settings, record).await,
            Ok(None) => self.tell_loaded(grant, settings, None).await,
            Err(error) => {
                self.tell_loaded(grant, settings, None).await;
                let event = Event::Unreadable { grant: grant.clone(), cause: error.to_string() };
                self.inner.mailbox.tell(event).await;
            }
        }
        Ok(())
    }

    pub(super) async fn unseat(&self, grant: &GrantId) {
        self.inner.logins.cancel(grant);
        // First the route: whoever hears of the removal must not find it any more.
        self.inner.access.remove_route(grant);
        self.inner.mailbox.tell(Event::Removed { grant: grant.clone() }).await;
    }
}

/// Why a login is of no use to settings that demand tokens bound to a key, if it is not.
fn unbound(record: &GrantRecord, settings: &ServerSettings) -> Option<String> {
    let bearer = record.tokens.as_ref().is_some_and(|tokens| !tokens.is_dpop_bound());
    (bearer && settings.oauth.dpop == DpopSetting::Required)
        .then(|| "the login brought a bearer token, and oauth.dpop = \"required\" takes none".to_owned())
}
