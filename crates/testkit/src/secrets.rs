//! Configured secrets in memory, which change when a test says so.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use everfresh_application::SecretSource;
use everfresh_application::ports::Secrets;
use everfresh_domain::Secret;

/// The variables of an environment that is none. Cloning shares it.
#[derive(Clone, Debug, Default)]
pub struct Variables {
    known: Arc<Mutex<BTreeMap<String, String>>>,
}

impl Variables {
    /// Sets one, or takes it away.
    pub fn set(&self, name: &str, value: Option<&str>) {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        match value {
            Some(value) => known.insert(name.to_owned(), value.to_owned()),
            None => known.remove(name),
        };
    }
}

#[async_trait]
impl Secrets for Variables {
    async fn resolve(&self, source: &SecretSource) -> Result<Secret, String> {
        let SecretSource::Env(name) = source else { return Err("there are only variables here".to_owned()) };
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.get(name).map(Secret::new).ok_or_else(|| format!("the environment variable {name} is not set"))
    }

    async fn resolve_whole(&self, source: &SecretSource) -> Result<Secret, String> {
        self.resolve(source).await
    }
}
