//! Who may talk to everfresh: by `Host`, by `Origin`, by the local key, by the page's cookie.
//!
//! The enemy is a web page in a browser on the same machine. It can send requests here (simple
//! POSTs, images, navigations), it can make its own name resolve to this machine, and it can be
//! served by another program on another port of this machine. It cannot forge `Host`, `Origin` or
//! `Sec-Fetch-Site`, and it does not know the key.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use everfresh_application::ports::Entropy;
use everfresh_domain::Timestamp;
use http::header::{AUTHORIZATION, COOKIE, HOST, ORIGIN};
use http::{HeaderMap, HeaderValue, StatusCode, Uri};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

use crate::problem::Problem;

/// The header for clients whose `Authorization` is taken.
pub const KEY_HEADER: &str = "x-everfresh-key";

/// The page's cookie.
const COOKIE_NAME: &str = "everfresh";

/// How long a one-time link is good.
const LINK_LIFETIME: Duration = Duration::from_secs(10 * 60);
/// How long the page's cookie is good.
const COOKIE_LIFETIME: Duration = Duration::from_secs(30 * 24 * 3600);
/// Links and cookies that are remembered, each.
const REMEMBERED_MAX: usize = 64;

type Hash = [u8; 32];

fn hash(text: &str) -> Hash {
    Sha256::digest(text.as_bytes()).into()
}

/// The local key, of which only the hash is kept.
#[derive(Clone)]
pub struct LocalKey(Hash);

impl LocalKey {
    /// Keeps the hash of `key`.
    pub fn new(key: &str) -> Self {
        Self(hash(key))
    }

    fn matches(&self, shown: &str) -> bool {
        self.0.ct_eq(&hash(shown)).into()
    }
}

#[derive(Default)]
struct Sessions {
    links: BTreeMap<Hash, Timestamp>,
    cookies: BTreeMap<Hash, Timestamp>,
}

/// How a request is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Caller {
    /// By the local key, or none is required.
    Key,
    /// By the page's cookie, from the page itself.
    Page,
}

/// The one guard of all surfaces.
pub struct Guard {
    /// `None` where the configuration says `local_key = "off"`.
    key: Option<LocalKey>,
    hosts: Vec<String>,
    sessions: Mutex<Sessions>,
}

impl Guard {
    /// A guard that wants `key`, and lets in requests to this machine by name and to `hosts`.
    pub fn new(key: Option<LocalKey>, hosts: Vec<String>) -> Self {
        Self { key, hosts, sessions: Mutex::default() }
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
        match headers.get("sec-fetch-site").map(HeaderValue::as_bytes) {
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

    /// Whether `shown`, from the path form, is the local key.
    pub fn admits_key(&self, shown: &str) -> bool {
        self.key.as_ref().is_none_or(|key| key.matches(shown))
    }

    /// Whether the headers carry the local key. Does not say which of them did.
    pub fn admits_headers(&self, headers: &HeaderMap) -> bool {
        let Some(key) = &self.key else { return true };
        let bearer = headers.get(AUTHORIZATION).and_then(|value| value.to_str().ok());
        let bearer =
            bearer.and_then(|value| value.split_once(' ')).filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"));
        let own = headers.get(KEY_HEADER).and_then(|value| value.to_str().ok());
        own.into_iter().chain(bearer.map(|(_, key)| key.trim())).any(|shown| key.matches(shown))
    }

    /// How the caller of an API route is known; the problem says how to be.
    pub fn caller(&self, now: Timestamp, headers: &HeaderMap) -> Result<Caller, Problem> {
        if self.admits_headers(headers) {
            return Ok(Caller::Key);
        }
        if self.has_cookie(now, headers) && is_from_own_page(headers) {
            return Ok(Caller::Page);
        }
        Err(Self::key_needed())
    }

    /// What a caller without the key is told. Never 401: clients would start their own OAuth.
    pub fn key_needed() -> Problem {
        let detail = "this needs the local key: send it as X-Everfresh-Key or Authorization: Bearer, or use the URL that \
                      `everfresh url NAME` prints";
        Problem::new(StatusCode::FORBIDDEN, "key-needed", "Local key needed", detail)
    }

    /// A text that opens the page once.
    pub fn new_link(&self, now: Timestamp, entropy: &dyn Entropy) -> String {
        let text = random(entropy);
        let mut sessions = self.lock();
        remember(&mut sessions.links, now, hash(&text), LINK_LIFETIME);
        text
    }

    /// Takes a one-time link, and gives the `Set-Cookie` for the page.
    pub fn redeem(&self, now: Timestamp, link: &str, entropy: &dyn Entropy) -> Option<String> {
        let mut sessions = self.lock();
        let until = sessions.links.remove(&hash(link))?;
        if now >= until {
            return None;
        }
        let text = random(entropy);
        remember(&mut sessions.cookies, now, hash(&text), COOKIE_LIFETIME);
        let age = COOKIE_LIFETIME.as_secs();
        Some(format!("{COOKIE_NAME}={text}; Path=/; HttpOnly; SameSite=Strict; Max-Age={age}"))
    }

    /// Whether the page's cookie is there and good.
    pub fn has_cookie(&self, now: Timestamp, headers: &HeaderMap) -> bool {
        let sessions = self.lock();
        let cookies = headers.get_all(COOKIE).iter().filter_map(|value| value.to_str().ok());
        let mut ours = cookies.flat_map(|line| line.split(';')).filter_map(|pair| pair.trim().split_once('='));
        ours.any(|(name, value)| {
            name == COOKIE_NAME && sessions.cookies.get(&hash(value)).is_some_and(|until| now < *until)
        })
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Sessions> {
        self.sessions.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A cookie says who the browser is, not which page sent it: ports of one machine share cookies.
fn is_from_own_page(headers: &HeaderMap) -> bool {
    let site = headers.get("sec-fetch-site").and_then(|value| value.to_str().ok());
    matches!(site, Some("same-origin" | "none"))
}

fn random(entropy: &dyn Entropy) -> String {
    entropy.bytes().iter().map(|byte| format!("{byte:02x}")).collect()
}

fn remember(kept: &mut BTreeMap<Hash, Timestamp>, now: Timestamp, hash: Hash, lifetime: Duration) {
    kept.retain(|_, until| now < *until);
    while kept.len() >= REMEMBERED_MAX {
        let Some(oldest) = kept.iter().min_by_key(|(_, until)| **until).map(|(hash, _)| *hash) else { break };
        kept.remove(&oldest);
    }
    kept.insert(hash, now.after(lifetime));
}

/// The name in `name:port` or `[address]:port`.
fn name_in(authority: &str) -> &str {
    match authority.strip_prefix('[') {
        Some(rest) => rest.split(']').next().unwrap_or(rest),
        None => authority.rsplit_once(':').map_or(authority, |(name, _)| name),
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderName;

    use super::*;

    struct Counting(Mutex<u8>);

    impl Entropy for Counting {
        fn bytes(&self) -> [u8; 32] {
            let mut next = self.0.lock().unwrap();
            *next += 1;
            [*next; 32]
        }
    }

    const NOW: Timestamp = Timestamp::from_millis(1_795_000_000_000);

    fn guard() -> Guard {
        Guard::new(Some(LocalKey::new("the-key")), vec!["proxy.test".to_owned()])
    }

    fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
        let header = |(name, value): &(&'static str, &str)| {
            (HeaderName::from_static(name), HeaderValue::from_str(value).unwrap())
        };
        pairs.iter().map(header).collect()
    }

    fn place(pairs: &[(&'static str, &str)]) -> bool {
        guard().check_place(&Uri::from_static("/mcp/linear"), &headers(pairs)).is_ok()
    }

    #[test]
    fn only_names_of_this_machine_are_served() {
        for host in ["127.0.0.1:7411", "localhost:7411", "LOCALHOST", "[::1]:7411", "127.0.0.1", "proxy.test:80"] {
            assert!(place(&[("host", host)]), "{host}");
        }
        for host in ["evil.example", "evil.example:7411", "127.0.0.1.evil.example", "10.0.0.1:7411", "", "[fe80::1]"] {
            assert!(!place(&[("host", host)]), "{host}");
        }
        assert!(!place(&[]));
        assert!(!place(&[("host", "localhost"), ("host", "evil.example")]));
    }

    #[test]
    fn only_pages_of_the_same_origin_may_call() {
        assert!(place(&[("host", "localhost:7411"), ("origin", "http://localhost:7411")]));
        let others =
            ["null", "http://evil.example", "http://localhost:3000", "http://127.0.0.1:7411", "localhost:7411", ""];
        for origin in others {
            assert!(!place(&[("host", "localhost:7411"), ("origin", origin)]), "{origin}");
        }
    }

    #[test]
    fn the_key_comes_in_either_header() {
        for pair in
            [("x-everfresh-key", "the-key"), ("authorization", "Bearer the-key"), ("authorization", "bearer the-key")]
        {
            assert!(guard().admits_headers(&headers(&[pair])), "{pair:?}");
        }
        for pair in [
            ("x-everfresh-key", "other"),
            ("authorization", "Basic the-key"),
            ("authorization", "the-key"),
            ("x-a", "the-key"),
        ] {
            assert!(!guard().admits_headers(&headers(&[pair])), "{pair:?}");
        }
        assert!(Guard::new(None, vec![]).admits_headers(&headers(&[])));
    }

    #[test]
    fn a_link_opens_once_and_in_time() {
        let (guard, entropy) = (guard(), Counting(Mutex::new(0)));
        let link = guard.new_link(NOW, &entropy);
        assert!(guard.redeem(NOW, "something else", &entropy).is_none());
        assert!(guard.redeem(NOW, &link, &entropy).is_some());
        assert!(guard.redeem(NOW, &link, &entropy).is_none());
        let late = guard.new_link(NOW, &entropy);
        assert!(guard.redeem(NOW.after(LINK_LIFETIME), &late, &entropy).is_none());
    }

    #[test]
    fn the_cookie_counts_only_from_the_page_itself() {
        let (guard, entropy) = (guard(), Counting(Mutex::new(0)));
        let link = guard.new_link(NOW, &entropy);
        let cookie = guard.redeem(NOW, &link, &entropy).unwrap();
        let cookie = cookie.split(';').next().unwrap();
        let caller = |site: &str| guard.caller(NOW, &headers(&[("cookie", cookie), ("sec-fetch-site", site)])).ok();
        assert_eq!(caller("same-origin"), Some(Caller::Page));
        assert_eq!(caller("same-site"), None, "another port of this machine");
        assert_eq!(caller("cross-site"), None);
        assert!(guard.caller(NOW, &headers(&[("cookie", cookie)])).is_err(), "a browser always says where from");
        let forged = [("cookie", "everfresh=0000"), ("sec-fetch-site", "same-origin")];
        assert!(guard.caller(NOW, &headers(&forged)).is_err());
        let late = NOW.after(COOKIE_LIFETIME);
        assert!(guard.caller(late, &headers(&[("cookie", cookie), ("sec-fetch-site", "same-origin")])).is_err());
    }

    #[test]
    fn links_do_not_pile_up() {
        let (guard, entropy) = (guard(), Counting(Mutex::new(0)));
        for _ in 0..REMEMBERED_MAX * 2 {
            guard.new_link(NOW, &entropy);
        }
        assert_eq!(guard.lock().links.len(), REMEMBERED_MAX);
    }
}
