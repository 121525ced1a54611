//! Where a URL that somebody else wrote may lead (MCP security best practices, "SSRF").
//!
//! Metadata is written by strangers. For an upstream on the internet, nothing it names may be on
//! this machine, in this network, or a cloud's metadata service; that is checked on the addresses
//! that names resolve to, at the moment of connecting.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;

use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use url::{Host, Url};

use super::CONNECT_TIMEOUT;

/// Which addresses calls on behalf of an upstream may reach.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Reach {
    /// Only the internet.
    Public,
    /// Any over TLS: the upstream is this host of this network.
    Network(String),
    /// Any: the upstream is on this machine.
    Machine,
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
        let Some(host) = url.host() else { return Self::Public };
        let named = host.to_string();
        if is_loopback_host(&named) {
            return Self::Machine;
        }
        let private = match host {
            Host::Ipv4(ip) => !is_public(ip.into()),
            Host::Ipv6(ip) => !is_public(ip.into()),
            Host::Domain(name) => {
                let lookup = tokio::time::timeout(CONNECT_TIMEOUT, tokio::net::lookup_host((name, port))).await;
                let found: Vec<SocketAddr> = lookup.ok().and_then(Result::ok).into_iter().flatten().collect();
                all_private(&found)
            }
        };
        if private { Self::Network(named) } else { Self::Public }
    }

    /// What holds connections to it, where anything does.
    pub(super) fn resolver(&self) -> Option<Arc<GuardedResolver>> {
        match self {
            Self::Public => Some(Arc::new(GuardedResolver { private: None })),
            Self::Network(host) => Some(Arc::new(GuardedResolver { private: Some(host.clone()) })),
            Self::Machine => None,
        }
    }
}

fn all_private(addresses: &[SocketAddr]) -> bool {
    !addresses.is_empty() && addresses.iter().all(|address| !is_public(address.ip()))
}

/// Whether `host` is this machine by its very name.
pub(crate) fn is_loopback_host(host: &str) -> bool {
    let bare = host.trim_start_matches('[').trim_end_matches(']').trim_end_matches('.');
    let named = bare.eq_ignore_ascii_case("localhost") || bare.to_ascii_lowercase().ends_with(".localhost");
    named || bare.parse::<IpAddr>().is_ok_and(|ip| ip.to_canonical().is_loopback())
}

/// Checks a URL before anything is sent there: `https`, or `http` on this machine for an upstream
/// that is here as well. The error is a fragment for people.
pub(crate) fn check_url(url: &str, reach: &Reach) -> Result<Url, String> {
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
        ("http", Reach::Machine) if here => {}
        ("http", _) => return Err("it is not https".to_owned()),
        (scheme, _) => return Err(format!("its scheme is {scheme}, not https")),
    }
    if !parsed.username().is_empty() || parsed.password().is_some() {
        return Err("a name or password stands before its host".to_owned());
    }
    let private = here || literal.is_some_and(|ip| !is_public(ip));
    if *reach == Reach::Public && private {
        return Err("it leads into this machine or network, and its server is on the internet".to_owned());
    }
    Ok(parsed)
}

/// Resolves names to the addresses that are then connected to, and to no others: public ones, or
/// for an upstream that counts as private, private ones. A name that changes sides between two
/// lookups leads nowhere.
pub(crate) struct GuardedResolver {
    private: Option<String>,
}

impl GuardedResolver {
    fn allows(&self, name: &str, ip: IpAddr) -> bool {
        match &self.private {
            None => is_public(ip),
            Some(host) => !name.eq_ignore_ascii_case(host) || !is_public(ip),
        }
    }
}

impl Resolve for GuardedResolver {
    fn resolve(&self, name: Name) -> Resolving {
        let guard = Self { private: self.private.clone() };
        Box::pin(async move {
            let found: Vec<SocketAddr> = tokio::net::lookup_host((name.as_str(), 0)).await?.collect();
            let allowed = found.into_iter().filter(|address| guard.allows(name.as_str(), address.ip()));
            let allowed: Vec<SocketAddr> = allowed.collect();
            if allowed.is_empty() {
                let side = if guard.private.is_none() { "into" } else { "out of" };
                let error = format!("{} leads {side} this machine or network", name.as_str());
                return Err(io::Error::new(io::ErrorKind::PermissionDenied, error).into());
            }
            Ok(Box::new(allowed.into_iter()) as Addrs)
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
    let relays = a == 192 && b == 88 && c == 99;
    !(a == 0
        || a >= 224
        || shared
        || benchmarks
        || assignments
        || relays
        || ip.is_private()
        || ip.is_loopback()
        || ip.is_link_local()
        || ip.is_documentation())
}

/// Only 2000::/3 is assigned for the internet; in it 2001::/23 (protocols, Teredo among them),
/// 2001:db8::/32 and 3fff::/20 (documentation) lead elsewhere.
fn is_public_v6(ip: Ipv6Addr) -> bool {
    let [first, second, ..] = ip.segments();
    let global = first & 0xe000 == 0x2000;
    let special = first == 0x2001 && (second < 0x200 || second == 0xdb8) || first == 0x3fff && second < 0x1000;
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
        for ip in [
            "1.1.1.1",
            "100.63.0.1",
            "100.128.0.1",
            "172.15.0.1",
            "172.32.0.1",
            "192.88.98.1",
            "2606:4700::1111",
            "::ffff:8.8.8.8",
            "64:ff9b::808:808",
            "3ffe::1",
        ] {
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
            "fd00:ec2::254",
            "::ffff:169.254.169.254",
            "::ffff:100.64.0.1",
            "64:ff9b::7f00:1",
            "64:ff9b::6440:1",
            "2002:a9fe:a9fe::",
            "192.88.99.1",
            "239.255.255.250",
            "ff05::2",
            "fe80::a9fe:a9fe",
            "3fff::1",
            "100.127.255.255",
            "172.31.255.255",
        ];
        for ip in here {
            assert!(!is_public(ip.parse().unwrap()), "{ip}");
        }
    }

    #[test]
    fn a_public_upstream_names_nothing_here_and_nothing_in_clear() {
        for url in ["https://as.example/token", "https://1.1.1.1/"] {
            assert!(check_url(url, &Reach::Public).is_ok(), "{url}");
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
            "https://127.0.0.1./",
            "https://localhost./",
            "https://[::ffff:10.0.0.1]/",
            "https://[64:ff9b::a9fe:a9fe]/",
            "https://[fd00:ec2::254]/",
            "https://100.64.0.1/",
            "https://0.0.0.0/",
            "https://login.example@evil.example/",
            "https://a:b@as.example/",
            "javascript:alert(1)",
            "file:///etc/passwd",
            "data:text/html,x",
            "",
            "https://",
        ];
        for url in refused {
            assert!(check_url(url, &Reach::Public).is_err(), "{url}");
        }
    }

    #[test]
    fn an_upstream_on_this_machine_may_use_plain_http_on_this_machine_only() {
        assert!(check_url("http://127.0.0.1:9000/token", &Reach::Machine).is_ok());
        assert!(check_url("http://localhost:9000/token", &Reach::Machine).is_ok());
        assert!(check_url("https://10.0.0.1/token", &Reach::Machine).is_ok());
        assert!(check_url("http://10.0.0.1/token", &Reach::Machine).is_err());
        assert!(check_url("ftp://localhost/", &Reach::Machine).is_err());
    }

    #[tokio::test]
    async fn an_upstream_on_this_machine_reaches_its_neighbours() {
        assert_eq!(Reach::of("http://127.0.0.1:8080/mcp").await, Reach::Machine);
        assert_eq!(Reach::of("http://localhost:8080/mcp").await, Reach::Machine);
        assert_eq!(Reach::of("https://[::1]:8080/mcp").await, Reach::Machine);
        assert_eq!(Reach::of("https://10.0.0.1/mcp").await, Reach::Network("10.0.0.1".into()));
        assert_eq!(Reach::of("https://1.1.1.1/mcp").await, Reach::Public);
        assert_eq!(Reach::of("not a url").await, Reach::Public);
    }

    #[test]
    fn an_upstream_of_this_network_names_neighbours_over_tls_only() {
        let reach = Reach::Network("mcp.corp.example".into());
        for url in ["https://10.0.0.1/token", "https://as.corp.example/", "https://as.example/"] {
            assert!(check_url(url, &reach).is_ok(), "{url}");
        }
        for url in ["http://127.0.0.1:6379/", "http://localhost/", "http://10.0.0.1/"] {
            assert!(check_url(url, &reach).is_err(), "{url}");
        }
    }

    #[tokio::test]
    async fn names_that_lead_here_do_not_resolve() {
        let resolver = Reach::Public.resolver().unwrap();
        let error = resolver.resolve("localhost".parse().unwrap()).await.err().unwrap();
        assert!(error.to_string().contains("leads into this machine"), "{error}");
    }

    #[tokio::test]
    async fn a_private_upstream_resolves_while_it_stays_private() {
        let resolver = Reach::Network("localhost".into()).resolver().unwrap();
        let found: Vec<SocketAddr> = resolver.resolve("localhost".parse().unwrap()).await.unwrap().collect();
        assert!(all_private(&found), "{found:?}");
    }

    #[test]
    fn a_name_that_counts_as_private_leads_to_no_public_address_later() {
        let guard = GuardedResolver { private: Some("rebound.example".into()) };
        assert!(guard.allows("rebound.example", "10.0.0.1".parse().unwrap()));
        assert!(!guard.allows("Rebound.example", "1.1.1.1".parse().unwrap()));
        assert!(guard.allows("as.example", "1.1.1.1".parse().unwrap()), "its neighbours may be anywhere");
        let guard = GuardedResolver { private: None };
        assert!(guard.allows("as.example", "1.1.1.1".parse().unwrap()));
        assert!(!guard.allows("as.example", "10.0.0.1".parse().unwrap()));
    }

    #[test]
    fn one_private_address_among_public_ones_opens_nothing() {
        let at = |ip: &str| SocketAddr::new(ip.parse().unwrap(), 443);
        assert!(all_private(&[at("10.0.0.1"), at("fd00::1")]));
        assert!(!all_private(&[at("10.0.0.1"), at("1.1.1.1")]));
        assert!(!all_private(&[]));
    }
}
