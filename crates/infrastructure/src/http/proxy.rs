//! Through which proxy a call goes: one decision for OAuth and for the data plane.

use std::io;

use http::{HeaderValue, Uri};
use hyper_util::client::proxy::matcher::Matcher;

use super::guard::is_loopback_host;

/// The proxies of this system: variables of the environment, else its settings.
pub(crate) struct Proxies(Matcher);

/// A proxy that a call goes through. Its URI holds no password.
#[derive(Clone)]
pub(crate) struct Via {
    pub(crate) uri: Uri,
    /// `Proxy-Authorization`, where the proxy's URL names a user.
    pub(crate) authorization: Option<HeaderValue>,
}

impl Via {
    /// The proxy's name, for messages.
    pub(crate) fn host(&self) -> &str {
        self.uri.host().unwrap_or_default()
    }
}

impl Proxies {
    /// `HTTPS_PROXY`, `HTTP_PROXY`, `ALL_PROXY` and `NO_PROXY` in either case, else what the
    /// system says. Read once.
    pub(crate) fn from_system() -> Self {
        Self(Matcher::from_system())
    }

    /// The proxies of `matcher`.
    pub(crate) fn of(matcher: Matcher) -> Self {
        Self(matcher)
    }

    /// The proxy for calls to `uri`; `None` goes straight. What is on this machine is never asked
    /// for at a proxy: plain HTTP is allowed here because it leaves this machine nowhere.
    pub(crate) fn via(&self, uri: &Uri) -> io::Result<Option<Via>> {
        if uri.host().is_some_and(is_loopback_host) {
            return Ok(None);
        }
        let Some(proxy) = self.0.intercept(uri) else { return Ok(None) };
        let via = Via { uri: without_user(proxy.uri())?, authorization: proxy.basic_auth().cloned() };
        match via.uri.scheme_str() {
            Some("http") => Ok(Some(via)),
            scheme => Err(io::Error::other(format!(
                "through the proxy {}: proxies that speak {} are not supported; set one that speaks http",
                via.host(),
                scheme.unwrap_or("nothing known")
            ))),
        }
    }
}

/// A proxy's URI without what stands before its host.
fn without_user(uri: &Uri) -> io::Result<Uri> {
    let authority = uri.authority().map_or("", |authority| authority.as_str());
    let bare = authority.rsplit_once('@').map_or(authority, |(_, bare)| bare);
    let built = Uri::builder().scheme(uri.scheme_str().unwrap_or_default()).authority(bare).path_and_query("/").build();
    built.map_err(|_| io::Error::other("the URL of the system's proxy cannot be used"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn via(proxies: &Proxies, url: &'static str) -> Option<String> {
        proxies.via(&Uri::from_static(url)).unwrap().map(|via| via.uri.to_string())
    }

    #[test]
    fn what_is_on_this_machine_is_never_asked_for_at_a_proxy() {
        let proxies = Proxies::of(Matcher::builder().all("http://proxy.example:3128").build());
        for here in ["http://localhost:9/", "http://127.0.0.1:9/", "http://[::1]:9/", "https://x.localhost/"] {
            assert_eq!(via(&proxies, here), None, "{here}");
        }
        assert_eq!(via(&proxies, "https://as.example/token").as_deref(), Some("http://proxy.example:3128/"));
    }

    #[test]
    fn names_that_are_excepted_go_straight() {
        let proxies = Proxies::of(Matcher::builder().all("http://proxy:1").no("corp.example,192.168.0.0/16").build());
        assert_eq!(via(&proxies, "https://mcp.corp.example/"), None);
        assert_eq!(via(&proxies, "https://192.168.7.1/"), None);
        assert!(via(&proxies, "https://mcp.example/").is_some());
    }

    #[test]
    fn a_proxy_of_another_kind_is_refused_without_its_password() {
        for kind in ["https", "socks5", "socks5h"] {
            let url = format!("{kind}://user:canary@proxy.example:1080");
            let proxies = Proxies::of(Matcher::builder().all(url).build());
            let error = proxies.via(&Uri::from_static("https://as.example/")).err().unwrap().to_string();
            assert!(error.contains(kind) && error.contains("proxy.example"), "{error}");
            assert!(!error.contains("canary"), "{error}");
        }
    }

    #[test]
    fn the_password_of_a_proxy_is_not_in_its_uri() {
        let proxies = Proxies::of(Matcher::builder().all("http://user:canary@proxy.example:3128").build());
        let via = proxies.via(&Uri::from_static("https://as.example/")).unwrap().unwrap();
        assert_eq!(via.uri, "http://proxy.example:3128/");
        assert!(via.authorization.is_some());
    }
}
