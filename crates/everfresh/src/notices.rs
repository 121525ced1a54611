//! The ways by which notices leave, made from the configuration.

use std::collections::BTreeSet;
use std::sync::Arc;

use everfresh_application::ports::{Clock, Notifier, Secrets};
use everfresh_application::{Application, NoticeSettings, SecretSource};
use everfresh_infrastructure::http::HttpFactory;
use everfresh_infrastructure::notices::{CommandNotifier, DesktopNotifier, WebhookNotifier};
use everfresh_infrastructure::system::SystemEntropy;
use everfresh_presentation::Guard;

use crate::config::Config;

/// Variables of the daemon that hold its own keys.
const KEYS: [&str; 2] = ["EVERFRESH_KEY", "EVERFRESH_MASTER_KEY"];

/// What the ways out are made with.
#[derive(Clone)]
pub(crate) struct Ways {
    pub(crate) factory: Arc<HttpFactory>,
    pub(crate) secrets: Arc<dyn Secrets>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) application: Application,
    pub(crate) guard: Arc<Guard>,
    /// Where this daemon is.
    pub(crate) base_url: String,
}

impl Ways {
    /// What is told, and where to, as `config` says.
    pub(crate) fn settings(&self, config: &Config) -> NoticeSettings {
        let notify = &config.notify;
        let mut sinks: Vec<Arc<dyn Notifier>> = Vec::new();
        if notify.desktop {
            sinks.push(Arc::new(DesktopNotifier::new(self.page_opener(notify.browser.clone()))));
        }
        if let Some(command) = &notify.command {
            let withheld = withheld(config);
            sinks.push(Arc::new(CommandNotifier::new(command.run.clone(), command.limit, withheld)));
        }
        if let Some(webhook) = &notify.webhook {
            let (secrets, clock) = (Arc::clone(&self.secrets), Arc::clone(&self.clock));
            let factory = Arc::clone(&self.factory);
            sinks.push(Arc::new(WebhookNotifier::new(webhook.clone(), factory, secrets, clock)));
        }
        let page = format!("{}/", self.base_url);
        NoticeSettings { kinds: notify.kinds.clone(), policy: notify.policy.clone(), page, sinks }
    }

    /// Opens the page, for a person who clicked: nothing here does so by itself.
    fn page_opener(&self, browser: Option<String>) -> Arc<dyn Fn() + Send + Sync> {
        let Self { application, guard, base_url, .. } = self.clone();
        Arc::new(move || {
            let link = guard.new_link(application.now(), &SystemEntropy);
            if let Err(error) = everfresh_browser::open(browser.as_deref(), &format!("{base_url}/?once={link}")) {
                tracing::warn!(error, "the page cannot be opened; `everfresh open` tells more");
            }
        })
    }
}

/// The variables that no command gets: keys, and what the configuration takes secrets from.
fn withheld(config: &Config) -> Vec<String> {
    let webhook = config.notify.webhook.iter().flat_map(|webhook| &webhook.secrets);
    let servers = config.servers.iter().flat_map(|server| {
        let oauth = &server.oauth;
        let provider = oauth.identity_provider.as_ref();
        let provided =
            provider.into_iter().flat_map(|provider| provider.client_secret.iter().chain([&provider.id_token]));
        oauth.client_secret.iter().chain(&oauth.private_key).chain(&oauth.assertion).chain(provided)
    });
    let variable = |source: &SecretSource| match source {
        SecretSource::Env(name) => Some(name.clone()),
        SecretSource::File(_) | SecretSource::Command(_) => None,
    };
    let names: BTreeSet<String> = webhook.chain(servers).filter_map(variable).collect();
    KEYS.map(str::to_owned).into_iter().chain(names).collect()
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    #[test]
    fn a_command_gets_no_variable_that_holds_a_secret() {
        let text = "[servers.a]\nurl = \"https://a\"\n[servers.a.oauth]\nclient_id = \"c\"\n\
                    client_secret = { env = \"CLIENT_SECRET\" }\n[notify.webhook]\nurl = \"https://b\"\n\
                    secret = [{ env = \"HOOK_SECRET\" }, { file = \"f\" }]";
        let config = crate::config::parse(text, Path::new("/")).unwrap();
        assert_eq!(withheld(&config), ["EVERFRESH_KEY", "EVERFRESH_MASTER_KEY", "CLIENT_SECRET", "HOOK_SECRET"]);
    }
}
