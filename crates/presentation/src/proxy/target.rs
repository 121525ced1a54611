//! From a request's path to a server's name and the upstream's path, byte for byte.

use bytes::Bytes;
use http::uri::PathAndQuery;
use http::{HeaderValue, Uri};
use url::Url;

/// A data-plane path, taken apart.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct DataPath<'a> {
    /// The key of the path form.
    pub(super) key: Option<&'a str>,
    /// `name` or `name@account`.
    pub(super) name: &'a str,
    /// What follows the name, empty or with a slash first.
    pub(super) tail: &'a str,
}

/// Takes `/mcp/{name}[/tail]` or `/k/{key}/mcp/{name}[/tail]` apart; `None` for any other path.
pub(super) fn data_path(path: &str) -> Option<DataPath<'_>> {
    let (key, rest) = match path.strip_prefix("/k/") {
        Some(rest) => {
            let (key, rest) = rest.split_once('/')?;
            (Some(key), rest.strip_prefix("mcp/")?)
        }
        None => (None, path.strip_prefix("/mcp/")?),
    };
    let end = rest.find('/').unwrap_or(rest.len());
    let (name, tail) = rest.split_at(end);
    (!name.is_empty()).then_some(DataPath { key, name, tail })
}

/// Whether a path climbs, by whatever spelling an upstream may read: it could leave what the server's URL
/// stands for. Escapes are read as often as there are any, an escaped or backward slash is one, and what
/// follows a semicolon is no part of a segment.
pub(super) fn climbs(tail: &str) -> bool {
    let dots = |segment: &str| matches!(segment.split(';').next(), Some("." | ".."));
    if !tail.contains('%') {
        return tail.contains('\\') || tail.split('/').any(dots);
    }
    let mut plain = tail.to_ascii_lowercase();
    while plain.contains("%25") {
        plain = plain.replace("%25", "%");
    }
    let plain = plain.replace("%2e", ".").replace("%2f", "/").replace("%5c", "\\").replace("%3b", ";");
    tail.contains('\\') || plain.split(['/', '\\']).any(dots)
}

/// A path with the client's query, as both came.
pub(super) fn path_and_query(path: &str, query: Option<&str>) -> Option<PathAndQuery> {
    let text = query.map_or_else(|| path.to_owned(), |query| format!("{path}?{query}"));
    PathAndQuery::from_maybe_shared(Bytes::from(text)).ok()
}

/// An upstream's URL, ready to have a tail and a query added.
#[derive(Clone, Debug)]
pub(super) struct UpstreamUrl {
    /// The `Host` header.
    pub(super) host: HeaderValue,
    /// The URL's own path and query.
    whole: PathAndQuery,
    /// The URL itself.
    url: Url,
}

impl UpstreamUrl {
    pub(super) fn parse(url: &str) -> Option<Self> {
        let uri: Uri = url.parse().ok()?;
        let authority = uri.authority()?.as_str();
        let host = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
        let whole = uri.path_and_query().cloned().unwrap_or_else(|| PathAndQuery::from_static("/"));
        Some(Self { host: HeaderValue::from_str(host).ok()?, whole, url: Url::parse(url).ok()? })
    }

    /// The URL of a request for `path`, as a proof names it (RFC 9449 section 4.2, `htu`): without
    /// query, and its authority in the one form that servers compare (RFC 3986 section 6.2).
    pub(super) fn htu(&self, path: &str) -> String {
        format!("{}{path}", self.url.origin().ascii_serialization())
    }

    /// The path and query to send, with the client's `tail` and `query` added as they came.
    pub(super) fn path_and_query(&self, tail: &str, query: Option<&str>) -> Option<PathAndQuery> {
        if tail.is_empty() && query.is_none() {
            return Some(self.whole.clone());
        }
        let path = self.whole.path();
        let base = if tail.is_empty() { path } else { path.trim_end_matches('/') };
        let mut text = String::with_capacity(base.len() + tail.len() + query.map_or(0, str::len) + 2);
        text.push_str(base);
        text.push_str(tail);
        for (part, separator) in self.whole.query().into_iter().chain(query).zip(['?', '&']) {
            text.push(separator);
            text.push_str(part);
        }
        PathAndQuery::from_maybe_shared(Bytes::from(text)).ok()
    }

    /// The `Location` of an answer to the request for `asked`, as clients must read it, who know
    /// this upstream as `place`. `None`: as it is.
    ///
    /// Followed as it is, a redirect within the upstream would lead past us, without the token, and
    /// a relative one to nowhere.
    pub(super) fn location(&self, place: &str, asked: &PathAndQuery, location: &str) -> Option<String> {
        let target = self.resolve(asked, location)?;
        let within = if self.is_same_origin(&target) { self.tail_of(target.path()) } else { None };
        let Some(tail) = within else {
            return Url::parse(location).is_err().then(|| target.into());
        };
        let query = target.query().map_or_else(String::new, |query| format!("?{query}"));
        let fragment = target.fragment().map_or_else(String::new, |fragment| format!("#{fragment}"));
        Some(format!("{place}{tail}{query}{fragment}"))
    }

    /// Where a reference leads that stands in the answer to the request for `asked`.
    pub(super) fn resolve(&self, asked: &PathAndQuery, reference: &str) -> Option<Url> {
        let mut base = self.url.clone();
        base.set_path(asked.path());
        base.set_query(asked.query());
        base.join(reference).ok()
    }

    /// A server behind a proxy that does TLS may not know that it is reached by https.
    pub(super) fn is_same_origin(&self, target: &Url) -> bool {
        let same_scheme =
            target.scheme() == self.url.scheme() || (target.scheme(), self.url.scheme()) == ("http", "https");
        same_scheme && target.host_str() == self.url.host_str() && target.port() == self.url.port()
    }

    /// What follows the URL's own path in `path`.
    fn tail_of<'a>(&self, path: &'a str) -> Option<&'a str> {
        if path == self.url.path() && path != "/" {
            return Some("");
        }
        let tail = path.strip_prefix(self.url.path().trim_end_matches('/'))?;
        tail.starts_with('/').then_some(tail)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_names_its_server_and_keeps_its_tail() {
        let plain = |name, tail| Some(DataPath { key: None, name, tail });
        assert_eq!(data_path("/mcp/linear"), plain("linear", ""));
        assert_eq!(data_path("/mcp/linear/"), plain("linear", "/"));
        assert_eq!(data_path("/mcp/github@work/a%2Fb/c"), plain("github@work", "/a%2Fb/c"));
        assert_eq!(data_path("/k/KEY/mcp/linear/x"), Some(DataPath { key: Some("KEY"), name: "linear", tail: "/x" }));
        for path in ["/", "/mcp", "/mcp/", "/k/KEY", "/k/KEY/api/v1", "/api/v1/servers", "/k//x"] {
            assert_eq!(data_path(path), None, "{path}");
        }
    }

    #[test]
    fn tail_and_query_are_added_as_they_came() {
        let cases = [
            ("https://a.example/mcp", "", None, "/mcp"),
            ("https://a.example", "", None, "/"),
            ("https://a.example/mcp/", "", None, "/mcp/"),
            ("https://a.example/mcp/", "/x", None, "/mcp/x"),
            ("https://a.example", "/a%2Fb", Some("q=%20+&&"), "/a%2Fb?q=%20+&&"),
            ("https://a.example/v1?tenant=1", "/x", Some("q=2"), "/v1/x?tenant=1&q=2"),
            ("https://a.example/v1?tenant=1", "", None, "/v1?tenant=1"),
            ("https://a.example/v1?tenant=1", "/x", None, "/v1/x?tenant=1"),
        ];
        for (url, tail, query, expected) in cases {
            let upstream = UpstreamUrl::parse(url).unwrap();
            assert_eq!(upstream.path_and_query(tail, query).unwrap().as_str(), expected, "{url} {tail} {query:?}");
        }
    }

    #[test]
    fn the_host_is_the_upstreams_without_credentials() {
        assert_eq!(UpstreamUrl::parse("https://a.example:8443/x").unwrap().host, "a.example:8443");
        assert_eq!(UpstreamUrl::parse("https://u:p@a.example/x").unwrap().host, "a.example");
        assert!(UpstreamUrl::parse("/only/a/path").is_none());
    }

    #[test]
    fn a_proof_names_origin_and_path_as_they_are_sent() {
        for (url, expected) in [
            ("https://A.example:443/v1?tenant=1", "https://a.example/v1/a%2Fb"),
            ("http://127.0.0.1:8080", "http://127.0.0.1:8080/a%2Fb"),
        ] {
            let upstream = UpstreamUrl::parse(url).unwrap();
            let sent = upstream.path_and_query("/a%2Fb", Some("q=1")).unwrap();
            assert_eq!(upstream.htu(sent.path()), expected);
        }
    }

    #[test]
    fn paths_that_climb_are_noticed() {
        for tail in [
            "/..",
            "/a/../b",
            "/%2e%2E/x",
            "/.",
            "/.%2e",
            "/a\\..\\b",
            "/a%2f..%2Fb",
            "/..%5Cb",
            "/%252e%252e/b",
            "/%25252e./b",
            "/..;/b",
            "/..;x=1/b",
            "/..%3b/b",
            "/x%2f%2e%2e%2fb",
        ] {
            assert!(climbs(tail), "{tail}");
        }
        for tail in ["", "/", "/a..b", "/...", "/.well-known/x", "/a/b", "/a%2Fb", "/a%2f..b", "/100%25", "/a;v=1/b"] {
            assert!(!climbs(tail), "{tail}");
        }
    }
}
