//! Local keys that open less than all: which logins, and what of them.
//!
//! The full local key has no scope and is not described here. A limited key is its owner's way to
//! give a program no more than it needs.

use std::collections::BTreeSet;
use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

use crate::ids::{AccountName, GrantId, KeyName};
use crate::secret::Fingerprint;
use crate::time::Timestamp;

/// What every limited key begins with, so that people, secret scanners and everfresh itself tell it
/// from the full one.
pub const LIMITED_PREFIX: &str = "efk_";

/// All that is kept of a key: its SHA-256. Compared in constant time.
#[derive(Clone, Copy)]
pub struct KeyHash([u8; Self::LENGTH]);

impl KeyHash {
    /// Bytes of the digest.
    pub const LENGTH: usize = 32;

    /// The hash of a key's text.
    pub fn of(key: &str) -> Self {
        Self(Sha256::digest(key.as_bytes()).into())
    }

    /// The digest, to make other keys from.
    pub fn bytes(&self) -> &[u8; Self::LENGTH] {
        &self.0
    }

    /// By what the key may be spoken of: the fingerprint of its text as a [`Secret`](crate::Secret).
    pub fn fingerprint(&self) -> Fingerprint {
        let mut kept = [0; Fingerprint::LENGTH];
        kept.copy_from_slice(&self.0[..Fingerprint::LENGTH]);
        Fingerprint::from_bytes(kept)
    }

    fn parse(text: &str) -> Option<Self> {
        let mut bytes = [0; Self::LENGTH];
        if text.len() != Self::LENGTH * 2 || !text.is_ascii() {
            return None;
        }
        for (index, byte) in bytes.iter_mut().enumerate() {
            *byte = u8::from_str_radix(&text[index * 2..index * 2 + 2], 16).ok()?;
        }
        Some(Self(bytes))
    }
}

impl PartialEq for KeyHash {
    fn eq(&self, other: &Self) -> bool {
        self.0.ct_eq(&other.0).into()
    }
}

impl Eq for KeyHash {}

impl fmt::Debug for KeyHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("KeyHash")
    }
}

impl Serialize for KeyHash {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let text: String = self.0.iter().map(|byte| format!("{byte:02x}")).collect();
        serializer.serialize_str(&text)
    }
}

impl<'de> Deserialize<'de> for KeyHash {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = <std::borrow::Cow<'de, str>>::deserialize(deserializer)?;
        Self::parse(&text).ok_or_else(|| serde::de::Error::custom("not a SHA-256"))
    }
}

/// What a limited key may do with the logins it opens.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum KeyRight {
    /// Send requests through the data plane. Tokens stay with everfresh.
    #[default]
    DataPlane,
    /// The same, and be handed access tokens: see these logins, and refresh them.
    Tokens,
}

/// A scope that contradicts itself.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "the key is for the account {account}, and {grant} names another; name the server alone, or leave the account out"
)]
pub struct InvalidScope {
    /// The account that the key is bound to.
    pub account: AccountName,
    /// The login that is of another.
    pub grant: GrantId,
}

/// What a limited key opens.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeyScope {
    /// These logins; all where it is empty.
    servers: BTreeSet<GrantId>,
    /// Whose logins: under a server's bare name this account of it is served.
    account: Option<AccountName>,
    /// What may be done with them.
    right: KeyRight,
}

impl KeyScope {
    /// A scope over `servers`, or over all where there are none. With an account, a server's bare
    /// name stands for that account of it.
    pub fn new(
        servers: impl IntoIterator<Item = GrantId>,
        account: Option<AccountName>,
        right: KeyRight,
    ) -> Result<Self, InvalidScope> {
        let bound = |grant: GrantId| match &account {
            None => Ok(grant),
            Some(account) => as_of(&grant, account).ok_or_else(|| InvalidScope { account: account.clone(), grant }),
        };
        let servers = servers.into_iter().map(bound).collect::<Result<_, _>>()?;
        Ok(Self { servers, account, right })
    }

    /// The same account and right over other logins: over `servers`, or over all where there are none.
    pub fn over(&self, servers: impl IntoIterator<Item = GrantId>) -> Result<Self, InvalidScope> {
        Self::new(servers, self.account.clone(), self.right)
    }

    /// The login that serves a request for `asked`; `None` where this key does not open it.
    pub fn grant(&self, asked: &GrantId) -> Option<GrantId> {
        let served = match &self.account {
            Some(account) => as_of(asked, account)?,
            None => asked.clone(),
        };
        (self.servers.is_empty() || self.servers.contains(&served)).then_some(served)
    }

    /// Whether `grant`, under its full name, is among those that this key opens.
    pub fn opens(&self, grant: &GrantId) -> bool {
        self.grant(grant).as_ref() == Some(grant)
    }

    /// The logins it is limited to; none where it is limited to none.
    pub fn servers(&self) -> impl Iterator<Item = &GrantId> {
        self.servers.iter()
    }

    /// The account it is bound to.
    pub fn account(&self) -> Option<&AccountName> {
        self.account.as_ref()
    }

    /// What it may do.
    pub fn right(&self) -> KeyRight {
        self.right
    }
}

/// `grant` for whoever is bound to `account`.
fn as_of(grant: &GrantId, account: &AccountName) -> Option<GrantId> {
    let is_bare = grant.account == AccountName::default();
    (is_bare || grant.account == *account).then(|| GrantId { server: grant.server.clone(), account: account.clone() })
}

/// As a person reads it: `send requests to linear and github@work`.
impl fmt::Display for KeyScope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.right {
            KeyRight::DataPlane => "send requests to ",
            KeyRight::Tokens => "send requests to, and read tokens of, ",
        })?;
        let named: Vec<String> = self.servers.iter().map(GrantId::to_string).collect();
        match (named.split_last(), &self.account) {
            (None, None) => f.write_str("every server"),
            (None, Some(account)) => write!(f, "every server as {account}"),
            (Some((only, [])), _) => f.write_str(only),
            (Some((last, first)), _) => write!(f, "{} and {last}", first.join(", ")),
        }
    }
}

/// Who holds a key, for whom it was made.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "HolderText")]
pub struct KeyHolder {
    client: String,
    file: String,
}

/// A holder as it is kept.
#[derive(Deserialize)]
struct HolderText {
    client: String,
    file: String,
}

/// What is no holder's name or file.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{what} of a key's holder is empty, longer than {max} bytes, or holds control characters", max = KeyHolder::TEXT_MAX)]
pub struct InvalidHolder {
    what: &'static str,
}

impl KeyHolder {
    /// The longest name and the longest path, in bytes.
    pub const TEXT_MAX: usize = 4096;

    /// The client by that name, which has its key in that file.
    pub fn new(client: String, file: String) -> Result<Self, InvalidHolder> {
        for (what, text) in [("the client", &client), ("the file", &file)] {
            if text.is_empty() || text.len() > Self::TEXT_MAX || text.chars().any(char::is_control) {
                return Err(InvalidHolder { what });
            }
        }
        Ok(Self { client, file })
    }

    /// The client, as `everfresh connect` knows it.
    pub fn client(&self) -> &str {
        &self.client
    }

    /// The file of that client in which the key is.
    pub fn file(&self) -> &str {
        &self.file
    }
}

impl TryFrom<HolderText> for KeyHolder {
    type Error = InvalidHolder;

    fn try_from(text: HolderText) -> Result<Self, InvalidHolder> {
        Self::new(text.client, text.file)
    }
}

/// A limited key, without its secret.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LimitedKey {
    /// By what it is known.
    pub name: KeyName,
    /// What it opens.
    pub scope: KeyScope,
    /// The hash of its secret.
    pub hash: KeyHash,
    /// When that secret was made.
    pub created_at: Timestamp,
    /// When it ends, if ever.
    pub expires_at: Option<Timestamp>,
    /// The client that it was made for; `None` for one that its owner made by hand.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub holder: Option<KeyHolder>,
}

impl LimitedKey {
    /// Whether its time is over.
    pub fn is_over(&self, now: Timestamp) -> bool {
        self.expires_at.is_some_and(|end| now >= end)
    }

    /// The same key with another secret, which lives as long as the one before did from its own start.
    pub fn rotated(&self, hash: KeyHash, now: Timestamp) -> Self {
        let lifetime = self.expires_at.map(|end| end.since(self.created_at));
        let expires_at = lifetime.map(|lifetime: Duration| now.after(lifetime));
        Self { hash, created_at: now, expires_at, ..self.clone() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp::from_millis(1_795_000_000_000);
    const DAY: Duration = Duration::from_secs(24 * 3600);

    fn grant(text: &str) -> GrantId {
        text.parse().unwrap()
    }

    fn scope(servers: &[&str], account: Option<&str>) -> KeyScope {
        let account = account.map(|account| account.parse().unwrap());
        KeyScope::new(servers.iter().map(|text| grant(text)), account, KeyRight::DataPlane).unwrap()
    }

    /// Checks by which login a request for `asked` is served; `-` stands for none.
    fn check(scope: &KeyScope, expected: &[(&str, &str)]) {
        for (asked, served) in expected {
            let told = scope.grant(&grant(asked)).map_or_else(|| "-".to_owned(), |grant| grant.to_string());
            assert_eq!(told, *served, "{asked} with {scope:?}");
        }
    }

    #[test]
    fn a_key_opens_the_logins_it_names_and_no_other_account_of_them() {
        check(&scope(&[], None), &[("linear", "linear"), ("github@work", "github@work")]);
        check(
            &scope(&["linear", "github@work"], None),
            &[
                ("linear", "linear"),
                ("linear@default", "linear"),
                ("github@work", "github@work"),
                ("github", "-"),
                ("github@home", "-"),
                ("linear@work", "-"),
                ("linea", "-"),
                ("linear2", "-"),
            ],
        );
    }

    #[test]
    fn an_account_serves_bare_names_and_shuts_out_all_others() {
        let everywhere = [("github", "github@work"), ("github@work", "github@work"), ("github@home", "-")];
        check(&scope(&[], Some("work")), &everywhere);
        check(&scope(&["github"], Some("work")), &everywhere);
        check(&scope(&["github@work"], Some("work")), &everywhere);
        check(&scope(&["github"], Some("work")), &[("linear", "-"), ("linear@work", "-")]);
        let bound = scope(&[], Some("work"));
        assert!(bound.opens(&grant("github@work")) && !bound.opens(&grant("github")));
    }

    #[test]
    fn a_scope_that_contradicts_itself_is_refused() {
        let wrong = KeyScope::new([grant("github@home")], Some("work".parse().unwrap()), KeyRight::DataPlane);
        assert!(wrong.unwrap_err().to_string().contains("account work, and github@home names another"));
    }

    #[test]
    fn a_scope_is_told_in_words() {
        let cases = [
            (scope(&[], None), "send requests to every server"),
            (scope(&[], Some("work")), "send requests to every server as work"),
            (scope(&["linear"], None), "send requests to linear"),
            (scope(&["a", "b", "c"], Some("work")), "send requests to a@work, b@work and c@work"),
            (
                KeyScope::new([grant("linear")], None, KeyRight::Tokens).unwrap(),
                "send requests to, and read tokens of, linear",
            ),
        ];
        for (scope, words) in cases {
            assert_eq!(scope.to_string(), words);
        }
    }

    #[test]
    fn another_scope_of_a_key_keeps_its_account_and_right() {
        let bound = KeyScope::new([grant("github")], Some("work".parse().unwrap()), KeyRight::Tokens).unwrap();
        let moved = bound.over([grant("linear")]).unwrap();
        assert_eq!(moved.to_string(), "send requests to, and read tokens of, linear@work");
        assert!(bound.over([grant("linear@home")]).is_err());
    }

    #[test]
    fn a_holder_is_told_in_one_line() {
        let long = "x".repeat(KeyHolder::TEXT_MAX + 1);
        for (client, file, what) in
            [("", "/f", "the client"), ("a\nb", "/f", "the client"), ("a", "", "the file"), ("a", &long, "the file")]
        {
            let error = KeyHolder::new(client.to_owned(), file.to_owned()).unwrap_err();
            assert!(error.to_string().starts_with(what), "{error}");
        }
        assert!(serde_json::from_str::<KeyHolder>(r#"{"client":"a","file":"\u001b"}"#).is_err());
    }

    #[test]
    fn a_rotated_key_lives_as_long_again() {
        let (name, scope, hash) = ("ci".parse().unwrap(), scope(&[], None), KeyHash::of("a"));
        let key = LimitedKey { name, scope, hash, created_at: NOW, expires_at: Some(NOW.after(DAY)), holder: None };
        assert!(!key.is_over(NOW.after(DAY - Duration::from_millis(1))) && key.is_over(NOW.after(DAY)));
        let later = NOW.after(DAY * 3);
        let rotated = key.rotated(KeyHash::of("b"), later);
        assert_eq!((rotated.created_at, rotated.expires_at), (later, Some(later.after(DAY))));
        assert!(rotated.hash == KeyHash::of("b") && rotated.hash != key.hash);
        let endless = LimitedKey { expires_at: None, ..key };
        assert!(!endless.is_over(Timestamp::from_millis(i64::MAX)));
        assert_eq!(endless.rotated(KeyHash::of("b"), later).expires_at, None);
    }

    #[test]
    fn a_stored_key_comes_back_as_it_was_and_shows_no_hash() {
        let (name, scope) = ("ci".parse().unwrap(), scope(&["github@work"], None));
        let holder = KeyHolder::new("cursor".to_owned(), "/u/.cursor/mcp.json".to_owned()).ok();
        let key = LimitedKey { name, scope, hash: KeyHash::of("a"), created_at: NOW, expires_at: None, holder };
        let text = serde_json::to_string(&key).unwrap();
        assert_eq!(serde_json::from_str::<LimitedKey>(&text).unwrap(), key);
        assert!(!format!("{key:?}").contains("ca978112"), "{key:?}");
        assert_eq!(key.hash.fingerprint(), crate::Secret::new("a").fingerprint());
        let of_nobody = LimitedKey { holder: None, ..key };
        let text = serde_json::to_string(&of_nobody).unwrap();
        assert!(!text.contains("holder"), "{text}");
        assert_eq!(serde_json::from_str::<LimitedKey>(&text).unwrap(), of_nobody);
        for wrong in ["\"\"", "\"zz\"", &format!("\"{}\"", "g".repeat(64)), &format!("\"{}\"", "é".repeat(32))] {
            assert!(serde_json::from_str::<KeyHash>(wrong).is_err(), "{wrong}");
        }
    }
}
