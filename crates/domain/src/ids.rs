//! Names and numbers by which grants, token sets and attempts are known.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// The longest server or account name: it is part of URLs, file names and metric labels.
pub const NAME_LENGTH_MAX: usize = 64;

/// The account a grant belongs to when none is named.
pub const DEFAULT_ACCOUNT: &str = "default";

/// A name that cannot be used for a server or an account.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "the name {0:?} is not usable: use 1 to {NAME_LENGTH_MAX} of the characters a-z, 0-9, '.', '_' and '-', \
     beginning with a letter or a digit"
)]
pub struct InvalidName(pub String);

fn parse_name(text: &str) -> Result<Arc<str>, InvalidName> {
    let fits = (1..=NAME_LENGTH_MAX).contains(&text.len())
        && text.starts_with(|c: char| c.is_ascii_lowercase() || c.is_ascii_digit())
        && text.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '.' | '_' | '-'));
    if fits { Ok(text.into()) } else { Err(InvalidName(text.chars().take(NAME_LENGTH_MAX).collect())) }
}

macro_rules! name {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(Arc<str>);

        impl $name {
            /// The name as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl FromStr for $name {
            type Err = InvalidName;

            fn from_str(text: &str) -> Result<Self, InvalidName> {
                parse_name(text).map(Self)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(&self.0)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = <std::borrow::Cow<'de, str>>::deserialize(deserializer)?;
                text.parse().map_err(serde::de::Error::custom)
            }
        }
    };
}

name! {
    /// The configured name of an upstream, for example `linear`.
    ServerName
}

name! {
    /// Whose login it is; [`DEFAULT_ACCOUNT`] unless named.
    AccountName
}

name! {
    /// By what a local key is known that opens less than all.
    KeyName
}

impl Default for AccountName {
    fn default() -> Self {
        Self(DEFAULT_ACCOUNT.into())
    }
}

/// One login: a server and an account. Written `linear`, or `github@work`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct GrantId {
    /// The server that is logged in to.
    pub server: ServerName,
    /// Whose login it is.
    pub account: AccountName,
}

impl GrantId {
    /// The grant of `server`'s default account.
    pub fn of(server: ServerName) -> Self {
        Self { server, account: AccountName::default() }
    }

    /// A number that is spread evenly over grants and the same in every run, for jitter.
    pub fn spread(&self) -> Spread {
        const FNV_OFFSET: u64 = 0xcbf2_9ce4_8422_2325;
        const FNV_PRIME: u64 = 0x0000_0100_0000_01b3;
        let bytes = self.server.as_str().bytes().chain(std::iter::once(b'@')).chain(self.account.as_str().bytes());
        let hash = bytes.fold(FNV_OFFSET, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(FNV_PRIME));
        Spread(hash ^ (hash >> 32))
    }
}

impl fmt::Display for GrantId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.account.as_str() == DEFAULT_ACCOUNT {
            write!(f, "{}", self.server)
        } else {
            write!(f, "{}@{}", self.server, self.account)
        }
    }
}

impl fmt::Debug for GrantId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for GrantId {
    type Err = InvalidName;

    fn from_str(text: &str) -> Result<Self, InvalidName> {
        match text.split_once('@') {
            Some((server, account)) => Ok(Self { server: server.parse()?, account: account.parse()? }),
            None => Ok(Self::of(text.parse()?)),
        }
    }
}

impl Serialize for GrantId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for GrantId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = <std::borrow::Cow<'de, str>>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

/// A grant's own share of any jitter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Spread(pub u64);

impl Spread {
    /// A fraction in `[0, 1)`.
    pub fn fraction(self) -> f64 {
        const BITS: u32 = 32;
        (self.0 & ((1 << BITS) - 1)) as f64 / f64::from(BITS).exp2()
    }
}

/// A counter on a grant that only grows; every stored token set, login and logout has its own.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Generation(pub u64);

impl Generation {
    /// The generation after this one.
    pub fn next(self) -> Self {
        Self(self.0.saturating_add(1))
    }
}

impl fmt::Display for Generation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// One refresh request to a token endpoint, in every log line about it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AttemptId {
    /// Drawn once for each start of the process.
    pub run: u32,
    /// Counts the attempts of that run.
    pub number: u64,
}

impl fmt::Display for AttemptId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:08x}-{}", self.run, self.number)
    }
}

impl fmt::Debug for AttemptId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Text that is not an attempt id.
#[derive(Debug, thiserror::Error)]
#[error("not an attempt id")]
pub struct InvalidAttemptId;

impl FromStr for AttemptId {
    type Err = InvalidAttemptId;

    fn from_str(text: &str) -> Result<Self, InvalidAttemptId> {
        let (run, number) = text.split_once('-').ok_or(InvalidAttemptId)?;
        Ok(Self {
            run: u32::from_str_radix(run, 16).map_err(|_| InvalidAttemptId)?,
            number: number.parse().map_err(|_| InvalidAttemptId)?,
        })
    }
}

impl Serialize for AttemptId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for AttemptId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = <std::borrow::Cow<'de, str>>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_grant_is_written_with_its_account_only_where_one_was_named() {
        for text in ["linear", "github@work"] {
            assert_eq!(text.parse::<GrantId>().unwrap().to_string(), text);
        }
        assert_eq!("linear@default".parse::<GrantId>().unwrap().to_string(), "linear");
    }

    #[test]
    fn names_that_could_leave_a_folder_or_a_url_are_refused() {
        for text in ["", "..", "a/b", "-a", "A", "a@b@c", "a b", "é", &"a".repeat(65)] {
            assert!(text.parse::<GrantId>().is_err(), "{text:?}");
        }
    }

    #[test]
    fn spreads_of_similar_names_lie_apart() {
        let spreads: Vec<f64> =
            (0..20).map(|n| format!("server-{n}").parse::<GrantId>().unwrap().spread().fraction()).collect();
        let low = spreads.iter().filter(|f| **f < 0.5).count();
        assert!((4..=16).contains(&low), "{spreads:?}");
    }
}
