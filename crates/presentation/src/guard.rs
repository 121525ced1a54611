//! Who may talk to everfresh: by `Host`, by `Origin`, by the local key, by the page's cookie.
//!
//! The enemy is a web page in a browser on the same machine. It can send requests here (simple
//! POSTs, images, navigations), it can make its own name resolve to this machine, and it can be
//! served by another program on another port of this machine. It cannot forge `Host`, `Origin` or
//! `Sec-Fetch-Site`, and it does not know the key.
//!
//! A program may have a limited key. What that opens is decided in `caller`, and nowhere else.

mod caller;

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use everfresh_application::ports::Entropy;
use everfresh_application::{KeyRing, Shown};
use everfresh_domain::{KeyHash, Timestamp};
use http::header::{AUTHORIZATION, HOST, ORIGIN};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, Uri};
use sha2::{Digest, Sha256};

use crate::cookie::{Opened, PageCookies};
use crate::problem::Problem;
pub use caller::{Caller, Purpose};

/// The header for clients whose `Authorization` is taken.
pub const KEY_HEADER: &str = "x-everfresh-key";

/// The same, and what browsers say of a request, ready to be looked up: a text is parsed each time.
static KEY_NAME: HeaderName = HeaderName::from_static(KEY_HEADER);
static SEC_FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");

/// How long a one-time link is good.
const LINK_LIFETIME: Duration = Duration::from_secs(10 * 60);
/// Links that are remembered.
const REMEMBERED_MAX: usize = 64;

type Hash = [u8; 32];

fn hash(text: &str) -> Hash {
    Sha256::digest(text.as_bytes()).into()
}

/// Whether a key must be shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyRule {
    /// By everybody.
    Required,
    /// By nobody. Whoever shows a limited key is limited all the same.
    Off,
}

/// One-time links by their hashes, and until when each is good.
struct Sessions {
    /// The local key under which they were made. Another one ends them all.
    opened_under: KeyHash,
    links: BTreeMap<Hash, Timestamp>,
}

impl Sessions {
    fn under(key: KeyHash) -> Self {
        Self { opened_under: key, links: BTreeMap::new() }
    }
}

/// The one guard of all surfaces.
pub struct Guard {
    keys: Arc<KeyRing>,
    rule: KeyRule,
    hosts: Vec<String>,
    sessions: Mutex<Sessions>,
}

impl Guard {
    /// A guard that knows `keys`, and lets in requests to this machine by name and to `hosts`.
    pub fn new(keys: Arc<KeyRing>, rule: KeyRule, hosts: Vec<String>) -> Self {
        let sessions = Mutex::new(Sessions::under(keys.local()));
        Self { keys, rule, hosts, sessions }
    }

    /// The keys it knows.
    pub fn keys(&self) -> &KeyRing {
        &self.keys
    }

    /// Refuses requests under a name that is not ours (DNS rebinding) or from another origin.
    pub fn check_place(&self, uri: &Uri, headers: &HeaderMap) -> Result<(), Problem> {
        let refused = |detail: String| Problem::new(StatusCode::FORBIDDEN, "forbidden", "Forbidden", detail);
        let mut hosts = headers.get_all(HOST).iter();
        let (host, more) = (hosts.next().and_then(|host| host.to_str().ok()), hosts.next());
        let host = uri.authority().map(http::uri::Authority::as_str).or(host);
        let Some(host) = host.filter(|_| more.is_none()) else {
            return Err(refused("the request names no host, or several".to_owned()));
        };
        if !self.is_ours(name_in(host)) {
            let detail = "the request is for another host; use 127.0.0.1 or localhost, or add it to allowed_hosts";
            return Err(refused(detail.to_owned()));
        }
        for origin in headers.get_all(ORIGIN) {
            let authority = origin.to_str().ok().and_then(|origin| origin.split_once("://")).map(|(_, rest)| rest);
            if authority != Some(host) {
                return Err(refused("the request comes from a web page of another origin".to_owned()));
            }
        }
        Ok(())
    }

    /// Refuses what a page of another site causes without an `Origin`: images, scripts, links. For
    /// everything but what browsers are sent to.
    pub fn check_site(headers: &HeaderMap) -> Result<(), Problem> {
        match headers.get(&SEC_FETCH_SITE).map(HeaderValue::as_bytes) {
            None | Some(b"same-origin" | b"none") => Ok(()),
            Some(_) => {
                let detail = "the request comes from a web page of another site";
                Err(Problem::new(StatusCode::FORBIDDEN, "forbidden", "Forbidden", detail))
            }
        }
    }

    fn is_ours(&self, name: &str) -> bool {
        let loopback = name.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback());
        loopback
            || name.eq_ignore_ascii_case("localhost")
            || self.hosts.iter().any(|host| host.eq_ignore_ascii_case(name))
    }

    /// How the caller is known by the keys that it shows: in the path, where the request is of that
    /// form, else in the headers. `None` where it shows none.
    ///
    /// Nobody is more than the least key shown: a limited one limits also beside the full one.
    pub fn known_by_key(&self, in_path: Option<&str>, headers: &HeaderMap) -> Result<Option<Caller>, Problem> {
        let open = (self.rule == KeyRule::Off).then_some(Caller::Key);
        let mut known = match in_path.map(|key| self.keys.recognise(key)) {
            Some(Shown::Local) => Some(Caller::Key),
            Some(Shown::Limited(held)) => return Ok(Some(Caller::Limited(held))),
            Some(Shown::Over(held)) => return Err(caller::over(&held.key)),
            Some(Shown::Unknown) if open.is_none() => return Ok(None),
            Some(Shown::Unknown) | None => open,
        };
        for shown in keys_in(headers) {
            match self.keys.recognise(shown) {
                Shown::Local if in_path.is_none() => known = Some(Caller::Key),
                Shown::Local | Shown::Unknown => {}
                Shown::Limited(held) => return Ok(Some(Caller::Limited(held))),
                Shown::Over(held) => return Err(caller::over(&held.key)),
            }
        }
        Ok(known)
    }

    /// How the caller of an API route is known; the problem says how to be.
    pub fn caller(&self, now: Timestamp, headers: &HeaderMap) -> Result<Caller, Problem> {
        if let Some(caller) = self.known_by_key(None, headers)? {
            return Ok(caller);
        }
        if self.cookies().is_proven(now, headers) && is_from_own_page(headers) {
            return Ok(Caller::Page);
        }
        Err(Self::key_needed())
    }

    /// Refuses whoever shows a limited key what is open to all others: a program that tries has been
    /// given more to do than its key.
    pub fn check_unlimited(&self, headers: &HeaderMap) -> Result<(), Problem> {
        self.known_by_key(None, headers)?.map_or(Ok(()), |caller| caller.may(&Purpose::Owner))
    }

    /// What a caller without the key is told. Never 401: clients would start their own OAuth.
    pub fn key_needed() -> Problem {
        let detail = "this needs the local key: send it as X-Everfresh-Key or Authorization: Bearer, or use the URL that \
                      `everfresh url NAME` prints";
        Problem::new(StatusCode::FORBIDDEN, "key-needed", "Local key needed", detail)
    }

    /// A text that opens the page once.
    pub fn new_link(&self, now: Timestamp, entropy: &dyn Entropy) -> String {
        let text: String = entropy.bytes().iter().map(|byte| format!("{byte:02x}")).collect();
        remember(&mut self.lock().links, now, hash(&text));
        text
    }

    /// Takes a one-time link, and gives what keeps the page open.
    pub(crate) fn redeem(&self, now: Timestamp, link: &str, entropy: &dyn Entropy) -> Option<Opened> {
        let until = self.lock().links.remove(&hash(link))?;
        (now < until).then(|| self.cookies().issue(now, entropy))
    }

    /// Whether the page's cookie is there and good: enough for the document, which holds no data.
    pub fn has_cookie(&self, now: Timestamp, headers: &HeaderMap) -> bool {
        self.cookies().admits(now, headers)
    }

    fn cookies(&self) -> PageCookies {
        PageCookies::of(self.keys.local().bytes())
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Sessions> {
        let (mut sessions, key) = (self.sessions.lock().unwrap_or_else(PoisonError::into_inner), self.keys.local());
        if sessions.opened_under != key {
            *sessions = Sessions::under(key);
        }
        sessions
    }
}

/// The keys that headers may carry, known or not.
fn keys_in(headers: &HeaderMap) -> impl Iterator<Item = &str> {
    let bearer = headers.get(AUTHORIZATION).and_then(|value| value.to_str().ok());
    let bearer =
        bearer.and_then(|value| value.split_once(' ')).filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"));
    let own = headers.get(&KEY_NAME).and_then(|value| value.to_str().ok());
    own.into_iter().chain(bearer.map(|(_, key)| key.trim()))
}

/// A cookie says who the browser is, not which page sent it: ports of one machine share cookies.
fn is_from_own_page(headers: &HeaderMap) -> bool {
    let site = headers.get(&SEC_FETCH_SITE).and_then(|value| value.to_str().ok());
    matches!(site, Some("same-origin" | "none"))
}

fn remember(links: &mut BTreeMap<Hash, Timestamp>, now: Timestamp, hash: Hash) {
    links.retain(|_, until| now < *until);
    while links.len() >= REMEMBERED_MAX {
        let Some(oldest) = links.iter().min_by_key(|(_, until)| **until).map(|(hash, _)| *hash) else { break };
        links.remove(&oldest);
    }
    links.insert(hash, now.after(LINK_LIFETIME));
}

/// The name in `name:port` or `[address]:port`.
fn name_in(authority: &str) -> &str {
    match authority.strip_prefix('[') {
        Some(rest) => rest.split(']').next().unwrap_or(rest),
        None => authority.rsplit_once(':').map_or(authority, |(name, _)| name),
    }
}

#[cfg(test)]
mod tests;
