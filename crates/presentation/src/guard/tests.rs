//! The guard, asked directly.

use everfresh_application::LocalKey;
use everfresh_domain::Secret;
use everfresh_testkit::clock::VirtualClock;
use everfresh_testkit::memory::MemoryKeys;
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

fn guard_with(rule: KeyRule) -> Guard {
    let (local, entropy) = (LocalKey::Kept(Secret::new("the-key")), Arc::new(Counting(Mutex::new(100))));
    let ring = KeyRing::open(&local, Arc::new(MemoryKeys::default()), Arc::new(VirtualClock::default()), entropy);
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    Guard::new(Arc::new(runtime.block_on(ring)), rule, vec!["proxy.test".to_owned()])
}

fn guard() -> Guard {
    guard_with(KeyRule::Required)
}

fn admits(guard: &Guard, headers: &HeaderMap) -> bool {
    guard.known_by_key(None, headers).unwrap().is_some()
}

fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
    let header =
        |(name, value): &(&'static str, &str)| (HeaderName::from_static(name), HeaderValue::from_str(value).unwrap());
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
        assert!(admits(&guard(), &headers(&[pair])), "{pair:?}");
    }
    for pair in [
        ("x-everfresh-key", "other"),
        ("authorization", "Basic the-key"),
        ("authorization", "the-key"),
        ("x-a", "the-key"),
    ] {
        assert!(!admits(&guard(), &headers(&[pair])), "{pair:?}");
    }
    assert!(admits(&guard_with(KeyRule::Off), &headers(&[])));
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
    let opened = guard.redeem(NOW, &link, &entropy).unwrap();
    let cookie = opened.cookie.expose().split(';').next().unwrap();
    let page = [("cookie", cookie), ("x-everfresh-page", opened.proof.expose())];
    let with = |site: &str| headers(&[page[0], page[1], ("sec-fetch-site", site)]);
    let caller = |site: &str| guard.caller(NOW, &with(site)).ok();
    assert!(matches!(caller("same-origin"), Some(Caller::Page)));
    assert!(caller("same-site").is_none(), "another port of this machine");
    assert!(caller("cross-site").is_none());
    assert!(guard.caller(NOW, &headers(&page)).is_err(), "a browser always says where from");
    let stolen = headers(&[("cookie", cookie), ("sec-fetch-site", "same-origin")]);
    assert!(guard.caller(NOW, &stolen).is_err(), "whoever listens at another port is sent the cookie");
    let forged = format!("{}=0", cookie.split_once('=').unwrap().0);
    let forged = headers(&[("cookie", &forged), page[1], ("sec-fetch-site", "same-origin")]);
    assert!(guard.caller(NOW, &forged).is_err());
    let late = NOW.after(crate::cookie::LIFETIME);
    assert!(guard.caller(late, &with("same-origin")).is_err());
}

#[test]
fn links_do_not_pile_up() {
    let (guard, entropy) = (guard(), Counting(Mutex::new(0)));
    for _ in 0..REMEMBERED_MAX * 2 {
        guard.new_link(NOW, &entropy);
    }
    assert_eq!(guard.lock().links.len(), REMEMBERED_MAX);
}

#[test]
fn another_local_key_closes_what_was_opened_with_the_one_before() {
    let (guard, entropy) = (guard(), Counting(Mutex::new(0)));
    let link = guard.new_link(NOW, &entropy);
    let opened = guard.redeem(NOW, &link, &entropy).unwrap();
    let open = guard.new_link(NOW, &entropy);
    let cookie = headers(&[("cookie", opened.cookie.expose().split(';').next().unwrap())]);
    assert!(guard.has_cookie(NOW, &cookie));
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let new = runtime.block_on(guard.keys().rotate_local()).unwrap();
    assert!(!guard.has_cookie(NOW, &cookie));
    assert!(guard.redeem(NOW, &open, &entropy).is_none());
    assert!(!admits(&guard, &headers(&[("x-everfresh-key", "the-key")])));
    assert!(admits(&guard, &headers(&[("x-everfresh-key", new.expose())])));
}
