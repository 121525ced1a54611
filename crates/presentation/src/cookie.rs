//! The page's cookie: signed with a key made from the local key's hash, which is never written down.
//!
//! It outlives the daemon, so that a reload after a restart shows the page, and it ends with the local
//! key. Nothing about it is kept.

use std::time::Duration;

use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use everfresh_application::ports::Entropy;
use everfresh_domain::Timestamp;
use hmac::{Hmac, KeyInit, Mac};
use http::HeaderMap;
use http::header::COOKIE;
use sha2::Sha256;

/// How long a cookie is good.
pub(crate) const LIFETIME: Duration = Duration::from_secs(30 * 24 * 3600);

/// What a MAC is for: the key of cookies, their name, and each cookie.
const KEY: &str = "everfresh page: key";
const NAME: &str = "everfresh page: name";
const COOKIE_ITSELF: &str = "everfresh page: cookie";

/// Bytes of the MAC that are part of the cookie's name.
const NAME_BYTES: usize = 4;

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

    /// A value for `Set-Cookie`.
    pub(crate) fn issue(&self, now: Timestamp, entropy: &dyn Entropy) -> String {
        let nonce = BASE64_URL_SAFE_NO_PAD.encode(entropy.bytes());
        let signed = format!("{}.{nonce}", now.after(LIFETIME).as_millis());
        let tag = BASE64_URL_SAFE_NO_PAD.encode(mac(&self.key, COOKIE_ITSELF, &signed).finalize().into_bytes());
        let (name, age) = (&self.name, LIFETIME.as_secs());
        format!("{name}={signed}.{tag}; Path=/; HttpOnly; SameSite=Strict; Max-Age={age}")
    }

    /// Whether a good one is among the headers.
    pub(crate) fn admits(&self, now: Timestamp, headers: &HeaderMap) -> bool {
        let lines = headers.get_all(COOKIE).iter().filter_map(|value| value.to_str().ok());
        let mut pairs = lines.flat_map(|line| line.split(';')).filter_map(|pair| pair.trim().split_once('='));
        pairs.any(|(name, value)| name == self.name && self.is_good(now, value))
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
        let set = PageCookies::of(key).issue(at, &Fixed(7));
        set.split(';').next().unwrap().to_owned()
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
