//! What opens the page: a cookie and its proof, made with a key that comes from the local key's hash and
//! is never written down.
//!
//! Browsers send a cookie to every port of this machine, and so to whoever listens there; what a page has
//! stored they give to pages of the same port only. The cookie alone shows the document, which holds no
//! data. The API wants the proof beside it, which is told once, to the page that a link has opened.
//!
//! Both outlive the daemon, so that a reload after a restart shows the page, and end with the local key.
//! Nothing about them is kept.

use std::time::Duration;

use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use everfresh_application::ports::Entropy;
use everfresh_domain::{Secret, Timestamp};
use hmac::{Hmac, KeyInit, Mac};
use http::HeaderMap;
use http::header::COOKIE;
use sha2::Sha256;

/// How long a cookie is good.
pub(crate) const LIFETIME: Duration = Duration::from_secs(30 * 24 * 3600);

/// The header with the proof.
const PROOF_HEADER: &str = "x-everfresh-page";

/// What a MAC is for: the key of cookies, their name, each cookie, and its proof.
const KEY: &str = "everfresh page: key";
const NAME: &str = "everfresh page: name";
const COOKIE_ITSELF: &str = "everfresh page: cookie";
const PROOF: &str = "everfresh page: proof";

/// Bytes of the MAC that are part of the cookie's name.
const NAME_BYTES: usize = 4;

/// What a page that was just opened is given.
pub(crate) struct Opened {
    /// A value for `Set-Cookie`.
    pub(crate) cookie: Secret,
    /// What its scripts show beside the cookie.
    pub(crate) proof: Secret,
}

/// Issues cookies, and knows its own again.
#[derive(Clone)]
pub(crate) struct PageCookies {
    key: [u8; 32],
    /// Ports of one machine share their cookies: daemons with keys of their own do not overwrite each
    /// other's.
    name: String,
}

impl PageCookies {
    /// Those of the local key with this hash.
    pub(crate) fn of(local_key: &[u8]) -> Self {
        let key: [u8; 32] = mac(local_key, KEY, "").finalize().into_bytes().into();
        let digest = mac(&key, NAME, "").finalize().into_bytes();
        let name: String = digest[..NAME_BYTES].iter().map(|byte| format!("{byte:02x}")).collect();
        Self { key, name: format!("everfresh-{name}") }
    }

    /// A cookie and its proof.
    pub(crate) fn issue(&self, now: Timestamp, entropy: &dyn Entropy) -> Opened {
        let nonce = BASE64_URL_SAFE_NO_PAD.encode(entropy.bytes());
        let signed = format!("{}.{nonce}", now.after(LIFETIME).as_millis());
        let tag = BASE64_URL_SAFE_NO_PAD.encode(mac(&self.key, COOKIE_ITSELF, &signed).finalize().into_bytes());
        let (name, age, value) = (&self.name, LIFETIME.as_secs(), format!("{signed}.{tag}"));
        let proof = BASE64_URL_SAFE_NO_PAD.encode(mac(&self.key, PROOF, &value).finalize().into_bytes());
        Opened {
            cookie: Secret::new(format!("{name}={value}; Path=/; HttpOnly; SameSite=Strict; Max-Age={age}")),
            proof: Secret::new(proof),
        }
    }

    /// Whether a good one is among the headers.
    pub(crate) fn admits(&self, now: Timestamp, headers: &HeaderMap) -> bool {
        self.good_ones(now, headers).next().is_some()
    }

    /// Whether a good one is among the headers, and its proof.
    pub(crate) fn is_proven(&self, now: Timestamp, headers: &HeaderMap) -> bool {
        let shown = headers.get(PROOF_HEADER).and_then(|proof| BASE64_URL_SAFE_NO_PAD.decode(proof).ok());
        let proves = |proof: Vec<u8>| {
            self.good_ones(now, headers).any(|value| mac(&self.key, PROOF, value).verify_slice(&proof).is_ok())
        };
        shown.is_some_and(proves)
    }

    fn good_ones<'a>(&'a self, now: Timestamp, headers: &'a HeaderMap) -> impl Iterator<Item = &'a str> {
        let lines = headers.get_all(COOKIE).iter().filter_map(|value| value.to_str().ok());
        let pairs = lines.flat_map(|line| line.split(';')).filter_map(|pair| pair.trim().split_once('='));
        let own = pairs.filter(|(name, _)| *name == self.name).map(|(_, value)| value);
        own.filter(move |value| self.is_good(now, value))
    }

    fn is_good(&self, now: Timestamp, value: &str) -> bool {
        let Some((signed, tag)) = value.rsplit_once('.') else { return false };
        let Ok(tag) = BASE64_URL_SAFE_NO_PAD.decode(tag) else { return false };
        let until = signed.split('.').next().and_then(|until| until.parse().ok()).map(Timestamp::from_millis);
        let is_ours = mac(&self.key, COOKIE_ITSELF, signed).verify_slice(&tag).is_ok();
        // One that a clock far ahead has issued does not last until that clock is right.
        is_ours && until.is_some_and(|until| now < until && until <= now.after(LIFETIME))
    }
}

fn mac(key: &[u8], purpose: &str, text: &str) -> Hmac<Sha256> {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).expect("a MAC takes keys of any length");
    mac.update(purpose.as_bytes());
    mac.update(b"\n");
    mac.update(text.as_bytes());
    mac
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    struct Fixed(u8);

    impl Entropy for Fixed {
        fn bytes(&self) -> [u8; 32] {
            [self.0; 32]
        }
    }

    const NOW: Timestamp = Timestamp::from_millis(1_795_000_000_000);
    const SECOND: Duration = Duration::from_secs(1);

    fn issued(key: &[u8], at: Timestamp) -> String {
        let opened = PageCookies::of(key).issue(at, &Fixed(7));
        opened.cookie.expose().split(';').next().unwrap().to_owned()
    }

    fn admits(key: &[u8], now: Timestamp, cookie: &str) -> bool {
        let headers = [(COOKIE, HeaderValue::from_str(cookie).unwrap())].into_iter().collect();
        PageCookies::of(key).admits(now, &headers)
    }

    #[test]
    fn a_cookie_is_known_again_after_a_restart_among_those_of_others() {
        let cookie = issued(b"the-key", NOW);
        assert!(admits(b"the-key", NOW.after(SECOND), &cookie));
        assert!(admits(b"the-key", NOW, &format!("theme=dark; {cookie}; x=y")));
    }

    #[test]
    fn a_proof_is_of_one_cookie_and_of_one_key() {
        let cookies = PageCookies::of(b"the-key");
        let (one, two) = (cookies.issue(NOW, &Fixed(1)), cookies.issue(NOW, &Fixed(2)));
        let proven = |cookie: &Opened, proof: &str| {
            let value = |text: &str| HeaderValue::from_str(text).unwrap();
            let cookie = cookie.cookie.expose().split(';').next().unwrap();
            let headers = [(COOKIE, value(cookie)), (PROOF_HEADER.parse().unwrap(), value(proof))];
            cookies.is_proven(NOW, &headers.into_iter().collect())
        };
        let proof = one.proof.expose();
        assert!(proven(&one, proof));
        assert!(!proven(&two, proof), "the proof of another cookie");
        let other = PageCookies::of(b"rotated").issue(NOW, &Fixed(1));
        for wrong in ["", "AAAA", &proof[1..], other.proof.expose(), one.cookie.expose()] {
            assert!(!proven(&one, wrong), "{wrong}");
        }
        let tag = one.cookie.expose().split(';').next().unwrap().rsplit('.').next().unwrap();
        assert!(!proven(&one, tag), "what the cookie shows proves nothing");
        let headers = [(PROOF_HEADER.parse().unwrap(), HeaderValue::from_str(proof).unwrap())].into_iter().collect();
        assert!(!cookies.is_proven(NOW, &headers), "a proof without its cookie");
    }

    #[test]
    fn another_local_key_ends_every_cookie() {
        let cookie = issued(b"the-key", NOW);
        assert!(!admits(b"rotated", NOW, &cookie));
        let value = cookie.split_once('=').unwrap().1;
        let renamed = format!("{}={value}", PageCookies::of(b"rotated").name);
        assert!(!admits(b"rotated", NOW, &renamed), "the name alone is not what protects");
    }

    #[test]
    fn a_cookie_ends_in_time() {
        let cookie = issued(b"the-key", NOW);
        assert!(admits(b"the-key", NOW.after(LIFETIME).before(SECOND), &cookie));
        assert!(!admits(b"the-key", NOW.after(LIFETIME), &cookie));
        let ahead = issued(b"the-key", NOW.after(LIFETIME));
        assert!(!admits(b"the-key", NOW, &ahead), "a clock far ahead");
    }

    #[test]
    fn nothing_of_a_cookie_can_be_changed() {
        let cookie = issued(b"the-key", NOW);
        let (name, value) = cookie.split_once('=').unwrap();
        let parts: Vec<&str> = value.split('.').collect();
        let later = NOW.after(LIFETIME).before(SECOND).as_millis().to_string();
        let forged = [
            format!("{later}.{}.{}", parts[1], parts[2]),
            format!("{}.AAAA.{}", parts[0], parts[2]),
            format!("{}.{}.", parts[0], parts[1]),
            format!("{}.{}", parts[0], parts[1]),
            format!("{}.{}.{}", parts[0], parts[1], &parts[2][1..]),
            parts[0].to_owned(),
            String::new(),
        ];
        for value in forged {
            assert!(!admits(b"the-key", NOW, &format!("{name}={value}")), "{value}");
        }
    }
}
