//! What an upstream says in `WWW-Authenticate`: a tolerant reader of foreign bytes.
//!
//! Syntax of RFC 9110 section 11.6.1, parameters of RFC 6750 section 3, RFC 9449 section 7.1 and
//! RFC 9728 section 5.1.
//! What it cannot make sense of it leaves out; it never fails and never panics.

use crate::ports::Challenge;

/// Longer values are not read: no honest challenge has them.
const LENGTH_MAX: usize = 8 * 1024;

/// How a token is sent (RFC 6750 section 2.1, RFC 9449 section 7.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scheme {
    /// By itself.
    Bearer,
    /// With a proof of the key that it is bound to.
    Dpop,
}

/// The first challenge of the scheme that `sent` tokens have, among the values of all
/// `WWW-Authenticate` headers: what is said of them comes first. Else the first of the other scheme.
pub fn parse_www_authenticate<'a>(values: impl IntoIterator<Item = &'a str>, sent: Scheme) -> Option<Challenge> {
    let readable = values.into_iter().filter(|value| value.len() <= LENGTH_MAX);
    let mut found: Vec<_> = readable.flat_map(challenges).collect();
    let of = |wanted: &str| found.iter().position(|(scheme, _)| scheme.eq_ignore_ascii_case(wanted));
    let (bearer, dpop) = (of("bearer"), of("dpop"));
    let place = match sent {
        Scheme::Bearer => bearer.or(dpop),
        Scheme::Dpop => dpop.or(bearer),
    }?;
    Some(Challenge { dpop: dpop.is_some(), ..challenge(found.swap_remove(place).1) })
}

type Parameters = Vec<(String, String)>;

fn challenge(parameters: Parameters) -> Challenge {
    let mut challenge = Challenge::default();
    for (name, value) in parameters {
        match name.to_ascii_lowercase().as_str() {
            "resource_metadata" if challenge.resource_metadata.is_none() => challenge.resource_metadata = Some(value),
            "scope" if challenge.scopes.is_empty() => {
                challenge.scopes = value.split_ascii_whitespace().map(str::to_owned).collect();
            }
            "error" if challenge.error.is_none() => challenge.error = Some(value),
            _ => {}
        }
    }
    challenge
}

/// Splits `Scheme a=b, c="d", Other e=f` into its challenges.
fn challenges(value: &str) -> Vec<(String, Parameters)> {
    let mut found: Vec<(String, Parameters)> = Vec::new();
    let mut rest = value;
    loop {
        rest = rest.trim_start_matches([' ', '\t', ',']);
        let (word, after) = token(rest);
        if word.is_empty() {
            // Not a token: skipped, so that what follows is still read.
            let mut chars = rest.chars();
            if chars.next().is_none() {
                return found;
            }
            rest = chars.as_str();
            continue;
        }
        let after = after.trim_start_matches([' ', '\t']);
        match (after.strip_prefix('='), found.last_mut()) {
            (Some(assigned), Some((_, parameters))) => {
                let (text, after) = parameter_value(assigned.trim_start_matches([' ', '\t']));
                parameters.push((word.to_owned(), text));
                rest = after;
            }
            (Some(assigned), None) => rest = assigned,
            (None, _) => {
                found.push((word.to_owned(), Vec::new()));
                rest = after;
            }
        }
    }
}

fn token(text: &str) -> (&str, &str) {
    let is_token = |c: char| c.is_ascii_alphanumeric() || "!#$%&'*+-.^_`|~".contains(c);
    let end = text.find(|c: char| !is_token(c)).unwrap_or(text.len());
    text.split_at(end)
}

/// A quoted string with its escapes resolved, or all up to the next comma or space.
fn parameter_value(text: &str) -> (String, &str) {
    let Some(quoted) = text.strip_prefix('"') else {
        let end = text.find([',', ' ', '\t']).unwrap_or(text.len());
        return (text[..end].to_owned(), &text[end..]);
    };
    let mut value = String::new();
    let mut chars = quoted.chars();
    while let Some(c) = chars.next() {
        match c {
            '"' => return (value, chars.as_str()),
            '\\' => value.extend(chars.next()),
            c => value.push(c),
        }
    }
    (value, "")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(value: &str, resource_metadata: Option<&str>, scopes: &[&str], error: Option<&str>) {
        let found = parse_www_authenticate([value], Scheme::Bearer);
        let expected = Challenge {
            resource_metadata: resource_metadata.map(str::to_owned),
            scopes: scopes.iter().map(|scope| (*scope).to_owned()).collect(),
            error: error.map(str::to_owned),
            dpop: value.contains("DPoP"),
        };
        assert_eq!(found, Some(expected), "{value}");
    }

    #[test]
    fn challenges_as_servers_write_them_are_read() {
        let url = "https://mcp.example/.well-known/oauth-protected-resource";
        check(&format!("Bearer resource_metadata=\"{url}\""), Some(url), &[], None);
        check(
            &format!("bearer  realm=\"a, b\" , resource_metadata={url}, scope=\"a b\""),
            Some(url),
            &["a", "b"],
            None,
        );
        check(
            "Basic realm=\"x\", Bearer error=\"insufficient_scope\", scope=\"w\"",
            None,
            &["w"],
            Some("insufficient_scope"),
        );
        check("Bearer", None, &[], None);
        check("Bearer error=\"a\\\"b\"", None, &[], Some("a\"b"));
        check("Bearer scope=\"unclosed", None, &["unclosed"], None);
        check("=x, Bearer scope=a", None, &["a"], None);
    }

    #[test]
    fn what_is_said_of_the_tokens_that_are_sent_comes_first() {
        check("DPoP algs=\"ES256\", Bearer scope=\"a\"", None, &["a"], None);
        let split = ["DPoP scope=\"d\", error=\"use_dpop_nonce\", algs=\"ES256 PS256\"", "Bearer scope=\"b\""];
        let told = parse_www_authenticate(split, Scheme::Bearer).unwrap();
        assert_eq!((told.scopes, told.error, told.dpop), (vec!["b".to_owned()], None, true));
        check("DPoP scope=\"d\"", None, &["d"], None);
        let told = parse_www_authenticate(split, Scheme::Dpop).unwrap();
        assert_eq!((told.scopes, told.error.as_deref()), (vec!["d".to_owned()], Some("use_dpop_nonce")));
        let bearer = parse_www_authenticate(["Bearer error=\"invalid_token\""], Scheme::Dpop).unwrap();
        assert_eq!((bearer.error.as_deref(), bearer.dpop), (Some("invalid_token"), false));
    }

    #[test]
    fn what_is_no_bearer_challenge_is_none() {
        for value in ["", "Basic realm=\"x\"", ",,,===", "Negotiate abc=="] {
            assert_eq!(parse_www_authenticate([value], Scheme::Bearer), None, "{value}");
        }
        assert_eq!(parse_www_authenticate([&*format!("Bearer {}", "a".repeat(9000))], Scheme::Bearer), None);
    }

    #[test]
    fn no_bytes_make_it_panic_or_run_for_ever() {
        let mut seed = 7_u64;
        for _ in 0..20_000 {
            let text: String = (0..seed % 24)
                .map(|n| {
                    seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(n | 1);
                    ['B', 'e', '=', '"', '\\', ',', ' ', 'é', '/', '\t'][(seed >> 33) as usize % 10]
                })
                .collect();
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            drop(parse_www_authenticate([text.as_str()], Scheme::Dpop));
        }
    }
}
