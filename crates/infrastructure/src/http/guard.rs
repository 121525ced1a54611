//! Where a URL that somebody else wrote may lead (MCP security best practices, "SSRF").
//!
//! Metadata is written by strangers. For an upstream on the internet, nothing it names may be on
//! this machine, in this network, or a cloud's metadata service; that is checked on the addresses
//! that names resolve to, at the moment of connecting.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use http::Uri;
use hyper_util::client::proxy::matcher::Matcher;
use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use url::{Host, Url};

use super::CONNECT_TIMEOUT;

/// Which addresses calls on behalf of an upstream may reach.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Reach {
    /// Only the internet.
    Public,
    /// Any: the upstream itself is on this machine or in this network.
    Anywhere,
}

impl Reach {
    /// What `upstream` may reach: a place that is not on the internet may name its neighbours.
    ///
    /// A name counts as private only if each of its addresses is: one private address among public
    /// ones is how a stranger's name would open this network. A name that does not resolve in time
    /// is on the internet; looking it up here must not eat the time of the request.
    pub(crate) async fn of(upstream: &str) -> Self {
        let Ok(url) = Url::parse(upstream) else { return Self::Public };
        let port = url.port_or_known_default().unwrap_or(443);
        let private = match url.host() {
            None => false,
            Some(Host::Ipv4(ip)) => !is_public(ip.into()),
            Some(Host::Ipv6(ip)) => !is_public(ip.into()),
            Some(Host::Domain(name)) => {
                is_loopback_host(name) || {
                    let lookup = tokio::time::timeout(CONNECT_TIMEOUT, tokio::net::lookup_host((name, port))).await;
                    let found: Vec<SocketAddr> = lookup.ok().and_then(Result::ok).into_iter().flatten().collect();
                    all_private(&found)
                }
            }
        };
        if private { Self::Anywhere } else { Self::Public }
    }
}

fn all_private(addresses: &[SocketAddr]) -> bool {
    !addresses.is_empty() && addresses.iter().all(|address| !is_public(address.ip()))
}

/// Whether `host` is this machine by its very name.
pub(crate) fn is_loopback_host(host: &str) -> bool {
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    let named = bare.eq_ignore_ascii_case("localhost") || bare.to_ascii_lowercase().ends_with(".localhost");
    named || bare.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

/// Checks a URL before anything is sent there: `https`, or `http` on this machine for an upstream
/// that is here as well. The error is a fragment for people.
pub(crate) fn check_url(url: &str, reach: Reach) -> Result<Url, String> {
    let parsed = Url::parse(url).map_err(|error| format!("it is not a URL: {error}"))?;
    let host = parsed.host().ok_or("it names no host")?;
    let literal = match &host {
        Host::Ipv4(ip) => Some(IpAddr::V4(*ip)),
        Host::Ipv6(ip) => Some(IpAddr::V6(*ip)),
        Host::Domain(_) => None,
    };
    let here = is_loopback_host(&host.to_string());
    match (parsed.scheme(), reach) {
        ("https", _) => {}
        ("http", Reach::Anywhere) if here => {}
        ("http", _) => return Err("it is not https".to_owned()),
        (scheme, _) => return Err(format!("its scheme is {scheme}, not https")),
    }
    let private = here || literal.is_some_and(|ip| !is_public(ip));
    if reach == Reach::Public && private {
        return Err("it leads into this machine or network, and its server is on the internet".to_owned());
    }
    Ok(parsed)
}

/// Resolves names to public addresses only, but for the system's own proxies: those are the user's
/// choice, and mostly in this very network.
pub(crate) struct PublicResolver {
    proxies: Vec<String>,
}

impl PublicResolver {
    /// A resolver that lets the proxies of the system be where they are.
    pub(crate) fn from_system() -> Self {
        Self::beside(&Matcher::from_system())
    }

    fn beside(matcher: &Matcher) -> Self {
        let anywhere = ["https://proxied.invalid", "http://proxied.invalid"].map(Uri::from_static);
        let proxies = anywhere.iter().filter_map(|uri| matcher.intercept(uri));
        Self { proxies: proxies.filter_map(|proxy| proxy.uri().host().map(str::to_owned)).collect() }
    }
}

impl Resolve for PublicResolver {
    fn resolve(&self, name: Name) -> Resolving {
        let is_proxy = self.proxies.iter().any(|proxy| proxy.eq_ignore_ascii_case(name.as_str()));
        Box::pin(async move {
            let found: Vec<SocketAddr> = tokio::net::lookup_host((name.as_str(), 0)).await?.collect();
            let allowed = |address: &SocketAddr| is_proxy || is_public(address.ip());
            let public: Vec<SocketAddr> = found.into_iter().filter(allowed).collect();
            if public.is_empty() {
                let error = io::Error::new(
                    io::ErrorKind::PermissionDenied,
                    format!("{} leads into this machine or network", name.as_str()),
                );
                return Err(error.into());
            }
            Ok(Box::new(public.into_iter()) as Addrs)
        })
    }
}

/// Whether an address is on the internet (IANA special-purpose registries, RFC 6890).
fn is_public(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(ip) => is_public_v4(ip),
        IpAddr::V6(ip) => match embedded_v4(ip) {
            Some(ip) => is_public_v4(ip),
            None => is_public_v6(ip),
        },
    }
}

fn is_public_v4(ip: Ipv4Addr) -> bool {
    let [a, b, c, _] = ip.octets();
    let shared = a == 100 && (64..128).contains(&b);
    let benchmarks = a == 198 && (b == 18 || b == 19);
    let assignments = a == 192 && b == 0 && c == 0;
    !(a == 0
        || a >= 224
        || shared
        || benchmarks
        || assignments
        || ip.is_private()
        || ip.is_loopback()
        || ip.is_link_local()
        || ip.is_documentation())
}

/// Only 2000::/3 is assigned for the internet; in it 2001::/23 (protocols, Teredo among them) and
/// 2001:db8::/32 (documentation) lead elsewhere.
fn is_public_v6(ip: Ipv6Addr) -> bool {
    let [first, second, ..] = ip.segments();
    let global = first & 0xe000 == 0x2000;
    let special = first == 0x2001 && (second < 0x200 || second == 0xdb8);
    global && !special
}

/// The IPv4 address within a mapped, 6to4 or NAT64 address.
fn embedded_v4(ip: Ipv6Addr) -> Option<Ipv4Addr> {
    let segments = ip.segments();
    let v4 = |high: u16, low: u16| Ipv4Addr::from((u32::from(high) << 16) | u32::from(low));
    match segments {
        [0x2002, high, low, ..] => Some(v4(high, low)),
        [0x64, 0xff9b, 0, 0, 0, 0, high, low] => Some(v4(high, low)),
        _ => ip.to_ipv4_mapped(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_addresses_on_the_internet_are_public() {
        for ip in ["1.1.1.1", "8.8.8.8", "2606:4700::1111", "::ffff:8.8.8.8"] {
            assert!(is_public(ip.parse().unwrap()), "{ip}");
        }
        let here = [
            "127.0.0.1",
            "10.1.2.3",
            "172.16.0.1",
            "192.168.1.1",
            "169.254.169.254",
            "100.64.0.1",
            "0.0.0.0",
            "198.18.0.1",
            "192.0.0.1",
            "224.0.0.1",
            "255.255.255.255",
            "::1",
            "::",
            "fe80::1",
            "fd00::1",
            "ff02::1",
            "::ffff:127.0.0.1",
            "::ffff:10.0.0.1",
            "64:ff9b::a9fe:a9fe",
            "2002:7f00:1::",
            "2001:db8::1",
            "2001::1",
            "::127.0.0.1",
            "64:ff9b:1::a00:1",
            "fec0::1",
        ];
        for ip in here {
            assert!(!is_public(ip.parse().unwrap()), "{ip}");
        }
    }

    #[test]
    fn a_public_upstream_names_nothing_here_and_nothing_in_clear() {
        for url in ["https://as.example/token", "https://1.1.1.1/"] {
            assert!(check_url(url, Reach::Public).is_ok(), "{url}");
        }
        let refused = [
            "http://as.example/token",
            "https://localhost/token",
            "https://127.0.0.1/",
            "https://[::1]/",
            "https://169.254.169.254/latest/meta-data",
            "https://10.0.0.1/",
            "https://2130706433/",
            "https://0x7f.1/",
            "javascript:alert(1)",
            "file:///etc/passwd",
            "data:text/html,x",
            "",
            "https://",
        ];
        for url in refused {
            assert!(check_url(url, Reach::Public).is_err(), "{url}");
        }
    }

    #[test]
    fn an_upstream_on_this_machine_may_use_plain_http_on_this_machine_only() {
        assert!(check_url("http://127.0.0.1:9000/token", Reach::Anywhere).is_ok());
        assert!(check_url("http://localhost:9000/token", Reach::Anywhere).is_ok());
        assert!(check_url("https://10.0.0.1/token", Reach::Anywhere).is_ok());
        assert!(check_url("http://10.0.0.1/token", Reach::Anywhere).is_err());
        assert!(check_url("ftp://localhost/", Reach::Anywhere).is_err());
    }

    #[tokio::test]
    async fn an_upstream_on_this_machine_reaches_its_neighbours() {
        assert_eq!(Reach::of("http://127.0.0.1:8080/mcp").await, Reach::Anywhere);
        assert_eq!(Reach::of("http://localhost:8080/mcp").await, Reach::Anywhere);
        assert_eq!(Reach::of("https://1.1.1.1/mcp").await, Reach::Public);
        assert_eq!(Reach::of("not a url").await, Reach::Public);
    }

    #[tokio::test]
    async fn names_that_lead_here_do_not_resolve() {
        let name = "localhost".parse().unwrap();
        assert!(PublicResolver::beside(&Matcher::builder().build()).resolve(name).await.is_err());
    }

    #[tokio::test]
    async fn a_proxy_in_this_network_is_found() {
        let matcher = Matcher::builder().https("http://user:pass@LOCALHOST:3128").build();
        let name = "localhost".parse().unwrap();
        assert!(PublicResolver::beside(&matcher).resolve(name).await.is_ok());
    }

    #[test]
    fn one_private_address_among_public_ones_opens_nothing() {
        let at = |ip: &str| SocketAddr::new(ip.parse().unwrap(), 443);
        assert!(all_private(&[at("10.0.0.1"), at("fd00::1")]));
        assert!(!all_private(&[at("10.0.0.1"), at("1.1.1.1")]));
        assert!(!all_private(&[]));
    }
}
