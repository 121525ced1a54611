//! Configurations that are right, and every way of being wrong with its words.

use std::time::Duration;

use everfresh_testkit::corporate::Authority;
use proptest::prelude::*;

use everfresh_application::{LoginWay, OfflineAccess, ProfileSetting, SecretSource};

use super::*;

const EXAMPLE: &str = r#"
listen = "127.0.0.1:7411"
local_key = "required"
store = "sled"

[refresh]
threshold = 0.8
min_spacing = "10s"
backoff_base = "10s"
backoff_cap = "5m"
attempt_timeout = "60s"
park_timeout = "30s"

[login]
client_id_metadata_url = ""

[servers.linear]
url = "https://mcp.linear.app/mcp"
enabled = true

[servers.internal]
url = "https://api.example.com/v1"
headers = { "X-Tenant" = "acme" }
[servers.internal.oauth]
issuer = "https://login.example.com"
client_id = "abc"
client_secret = { env = "CLIENT_SECRET" }
scopes = ["read"]
resource = "auto"
extra_params = { audience = "..." }
idle_limit = "90d"
absolute_limit = "365d"
profile = "entra"
"#;

fn problems(text: &str) -> Vec<String> {
    match parse(text, Path::new("/etc/everfresh")) {
        Ok(config) => panic!("accepted: {config:?}"),
        Err(problems) => problems.iter().map(ToString::to_string).collect(),
    }
}

#[test]
fn the_example_of_the_manual_is_read_whole() {
    let text = EXAMPLE;
    let config = parse(text, Path::new("/etc/everfresh")).unwrap();
    assert_eq!(config.policy, everfresh_domain::Policy::default());
    let names: Vec<&str> = config.servers.iter().map(|server| server.name.as_str()).collect();
    assert_eq!(names, ["internal", "linear"]);
    let oauth = &config.servers[0].oauth;
    assert_eq!(oauth.client_secret, Some(SecretSource::Env("CLIENT_SECRET".into())));
    assert_eq!(oauth.extra_params["audience"], "...");
    assert_eq!(oauth.limits.idle, Some(Duration::from_secs(90 * 86_400)));
    assert_eq!(oauth.limits.absolute, Some(Duration::from_secs(365 * 86_400)));
    assert_eq!(oauth.profile, ProfileSetting::Named("entra".into()));
    assert_eq!(config.servers[0].headers["X-Tenant"], "acme");
    assert!(config.listen_is_chosen);
}

#[test]
fn how_a_person_logs_in_is_taken_over() {
    let text = "[login]\nredirect_host = \"localhost\"\n[servers.a]\nurl = \"https://a\"\n[servers.a.oauth]\n\
                grant = \"device_code\"\noffline_access = \"never\"\nredirect_uri = \"http://localhost:3118/callback\"";
    let config = parse(text, Path::new("/etc/everfresh")).unwrap();
    assert_eq!(config.redirect_host.as_deref(), Some("localhost"));
    let oauth = &config.servers[0].oauth;
    assert_eq!((oauth.login_way, oauth.offline_access), (LoginWay::Device, OfflineAccess::Never));
    assert_eq!(oauth.redirect_uri.as_deref(), Some("http://localhost:3118/callback"));
    let plain = parse("[servers.a]\nurl = \"https://a\"", Path::new("/etc/everfresh")).unwrap();
    let oauth = &plain.servers[0].oauth;
    assert_eq!(
        (oauth.login_way, oauth.offline_access, &oauth.redirect_uri),
        (LoginWay::Browser, OfflineAccess::Auto, &None)
    );
}

#[test]
fn an_empty_file_means_the_defaults() {
    assert_eq!(parse("", Path::new("/")).unwrap(), Config::default());
}

#[test]
fn times_and_numbers_are_taken_over() {
    let config = parse("[refresh]\nmin_spacing = \"500ms\"\nendpoint_concurrency = 4\n", Path::new("/")).unwrap();
    assert_eq!(config.policy.min_spacing, Duration::from_millis(500));
    assert_eq!(config.policy.endpoint_concurrency, 4);
}

#[test]
fn a_login_that_is_said_to_live_for_seconds_is_refused() {
    let text = "[servers.x]\nurl = \"https://x.example\"\n[servers.x.oauth]\nidle_limit = \"0s\"\n";
    let problems = problems(text);
    assert!(problems.len() == 1 && problems[0].contains("idle_limit must be at least 1 h"), "{problems:?}");
}

#[test]
fn every_error_is_told_at_once_with_its_line_and_the_fix() {
    let text = r#"
listen = "0.0.0.0:7411"
stoer = "sled"
[refresh]
min_spacing = 10
backof_base = "10s"
threshold = 2.0
[servers.Linear]
url = "https://mcp.linear.app/mcp"
[servers.other]
url = "ftp://x"
enabled = "yes"
[servers.secret]
url = "https://api.example.com"
[servers.secret.oauth]
client_id = "a"
client_secret = "hunter2-canary"
grant = "magic"
[servers.nothing]
"#;
    let found = problems(text);
    assert!(!found.join("\n").contains("canary"), "{found:#?}");
    insta::assert_snapshot!(found.join("\n"), @r#"
    2: listen = "0.0.0.0:7411" is open to the network; listen on 127.0.0.1, or set allow_remote = true
    3: stoer is not known; did you mean store?
    4: refresh.threshold must be between 0.5 and 0.95
    5: refresh.min_spacing must be a text in quotes, not a number
    6: refresh.backof_base is not known; did you mean backoff_base?
    8: servers.Linear: the name "Linear" is not usable: use 1 to 64 of the characters a-z, 0-9, '.', '_' and '-', beginning with a letter or a digit
    11: servers.other.url = "ftp://x" must begin with https:// (or http://) and name a host
    12: servers.other.enabled must be true or false, not a text
    17: servers.secret.oauth.client_secret must not stand in the configuration itself; write { env = "VARIABLE" }, { file = "..." } or { command = [...] }
    18: servers.secret.oauth.grant = "magic" is not known; use one of "authorization_code", "device_code", "client_credentials", "jwt_bearer", "enterprise_managed"
    19: servers.nothing.url is missing; add url = "https://..."
    "#);
}

#[test]
fn what_is_not_toml_is_told_with_its_line() {
    let found = problems("listen = \"127.0.0.1:7411\"\n[servers.linear\nurl = 7\n");
    assert!(found[0].starts_with("2: this is not TOML"), "{found:?}");
}

#[test]
fn single_mistakes_have_their_own_words() {
    let cases = [
        ("store = \"postgres://x\"", "PostgreSQL is not supported"),
        ("store = \"redis\"", "use \"sled\""),
        ("local_key = \"no\"", "\"required\" or \"off\""),
        ("allow_remote = true\nlocal_key = \"off\"", "to the network"),
        ("listen = \"7411\"", "not an address"),
        ("listen = 7411", "a text in quotes"),
        ("refresh = 1", "must be a table"),
        ("[refresh]\nmin_spacing = \"soon\"", "write it like"),
        ("[refresh]\nmin_spacing = \"1ms\"", "at least 100 ms"),
        ("[login]\nclient_id_metadata_url = \"http://x\"", "https URL"),
        ("[master_key]\nfile = \"a\"\nkeychain = false", "one of file"),
        (
            "[servers.a]\nurl = \"https://a\"\nca_file = \"no.pem\"",
            "file /etc/everfresh/no.pem cannot be used: there is no such file",
        ),
        ("[servers.a]\nurl = \"https://a\"\nclient_key_file = \"k.pem\"", "client_cert_file is missing"),
        (
            "[servers.a]\nurl = \"https://a\"\nclient_cert_file = \"c.pem\"",
            "the client certificate /etc/everfresh/c.pem cannot be used: there is no such file",
        ),
        ("[servers.a]\nurl = \"https://a\"\nheaders = { Authorization = \"x\" }", "everfresh sets this header"),
        ("[servers.a]\nurl = \"https://a\"\nheaders = { \"a b\" = \"x\" }", "not a valid header"),
        (
            "[servers.a]\nurl = \"https://a\"\n[servers.a.oauth]\nclient_secret = { env = \"X\" }",
            "client_id is missing",
        ),
        (
            "[servers.a]\nurl = \"https://a\"\n[servers.a.oauth]\nclient_id = \"c\"\nclient_secret = {}",
            "exactly one of",
        ),
        (
            "[servers.a]\nurl = \"https://a\"\n[servers.a.oauth]\nprofile = \"googel\"",
            "4: servers.a.oauth.profile: the profile \"googel\" is not known; use auto, none, or one of apify",
        ),
        ("servers = { a = 1 }", "must be a table"),
        ("[login]\nredirect_host = \"example.com\"", "not a name of this machine"),
        ("[servers.a]\nurl = \"https://a\"\n[servers.a.oauth]\ngrant = \"password\"", "\"device_code\""),
        ("[servers.a]\nurl = \"https://a\"\n[servers.a.oauth]\noffline_access = \"yes\"", "\"never\""),
        ("[servers.a]\nurl = \"https://a\"\n[servers.a.oauth]\nredirect_uri = \"http://b/cb\"", "name this machine"),
    ];
    for (text, expected) in cases {
        let found = problems(text).join("\n");
        assert!(found.contains(expected), "{text}: {found}");
    }
}

#[test]
fn certificates_and_keys_are_read_and_belong_to_each_other() {
    let folder = tempfile::tempdir().unwrap();
    let authority = Authority::new().unwrap();
    authority.write(&folder.path().join("ca.pem")).unwrap();
    authority.issue_client(folder.path(), "one").unwrap();
    authority.issue_client(folder.path(), "two").unwrap();
    std::fs::write(folder.path().join("prose.pem"), "no certificate").unwrap();
    let told = |lines: &str| parse(&format!("[servers.a]\nurl = \"https://a\"\n{lines}"), folder.path());
    for good in [
        "ca_file = \"ca.pem\"",
        "client_cert_file = \"one.pem\"\nclient_key_file = \"one-key.pem\"",
        "client_cert_file = \"one-both.pem\"",
    ] {
        assert!(told(good).is_ok(), "{good}: {:?}", told(good));
    }
    let bad = [
        ("ca_file = \"prose.pem\"", "3: servers.a.ca_file: the authority file", "it holds no certificate"),
        ("client_cert_file = \"one.pem\"", "3: servers.a.client_cert_file: ", "it holds no private key"),
        ("client_cert_file = \"one-key.pem\"", "the client certificate", "it holds no certificate"),
        (
            "client_cert_file = \"one.pem\"\nclient_key_file = \"two-key.pem\"",
            "the client certificate's key",
            "it does not belong to",
        ),
    ];
    for (lines, place, cause) in bad {
        let found = told(lines).unwrap_err()[0].to_string();
        assert!(found.contains(place) && found.contains(cause), "{lines}: {found}");
    }
}

proptest! {
    /// Whatever is cut out of a good configuration, put into it, or made up: an error, never a panic,
    /// and each in a line that is there.
    #[test]
    fn no_text_makes_it_panic(
        edits in prop::collection::vec((0_usize..900, 0_usize..40, "[a-z0-9\"'=\\[\\]{}.,#\\n -]{0,12}"), 1..6), strange in ".{0,200}",
    ) {
        let mut text = EXAMPLE.to_owned();
        for (at, cut, put) in edits {
            let at = at.min(text.len());
            text.replace_range(at..(at + cut).min(text.len()), &put);
        }
        for text in [text, strange] {
            if let Err(problems) = parse(&text, Path::new("/etc/everfresh")) {
                prop_assert!(!problems.is_empty());
                for problem in problems {
                    let told = problem.to_string();
                    let line = told.split_once(':').and_then(|(line, _)| line.parse::<usize>().ok());
                    prop_assert!(line.is_some_and(|line| (1..=text.lines().count() + 1).contains(&line)), "{told}");
                }
            }
        }
    }
}

#[test]
fn grants_that_need_no_person_are_read_whole() {
    let text = r#"
[servers.robot]
url = "https://api.example.com/v1"
[servers.robot.oauth]
grant = "client_credentials"
client_id = "abc"
private_key = { file = "key.pem" }
signing_alg = "PS256"
[servers.workload]
url = "https://api.example.com/v1"
[servers.workload.oauth]
grant = "jwt_bearer"
assertion = { file = "/var/run/token" }
[servers.staff]
url = "https://api.example.com/v1"
[servers.staff.oauth]
grant = "enterprise_managed"
client_id = "abc"
client_secret = { env = "SECRET" }
[servers.staff.oauth.identity_provider]
issuer = "https://idp.example.com"
client_id = "idp"
id_token = { command = ["id-token"] }
"#;
    let config = parse(text, Path::new("/etc/everfresh")).unwrap();
    let [robot, staff, workload] = &config.servers[..] else { panic!("{:?}", config.servers) };
    assert_eq!(robot.oauth.private_key, Some(SecretSource::File("/etc/everfresh/key.pem".into())));
    assert_eq!(robot.oauth.signing_alg, Some(everfresh_application::SigningAlgorithm::Ps256));
    assert_eq!(workload.oauth.assertion, Some(SecretSource::File("/var/run/token".into())));
    let provider = staff.oauth.identity_provider.as_ref().unwrap();
    assert_eq!(provider.id_token, SecretSource::Command(vec!["id-token".into()]));
    assert!(config.servers.iter().all(|server| server.oauth.grant.is_unattended()));
}

#[test]
fn a_grant_that_lacks_something_is_told_what() {
    let of =
        |oauth: &str| problems(&format!("[servers.a]\nurl = \"https://a\"\n[servers.a.oauth]\n{oauth}")).join("\n");
    let cases = [
        ("grant = \"client_credentials\"", "3: servers.a.oauth.client_id is missing"),
        ("grant = \"client_credentials\"\nclient_id = \"c\"", "client_secret is missing; this grant needs it"),
        ("grant = \"jwt_bearer\"", "servers.a.oauth.assertion is missing"),
        ("grant = \"jwt_bearer\"\nassertion = \"canary\"", "5: servers.a.oauth.assertion must not stand"),
        ("assertion = { env = \"A\" }", "4: servers.a.oauth.assertion is for grant = \"jwt_bearer\" only"),
        ("grant = \"enterprise_managed\"\nclient_id = \"c\"", "identity_provider is missing"),
        (
            "grant = \"enterprise_managed\"\nclient_id = \"c\"\nidentity_provider = { id_token = { env = \"I\" } }",
            "6: servers.a.oauth.identity_provider needs an issuer or a token_endpoint",
        ),
        (
            "grant = \"enterprise_managed\"\nclient_id = \"c\"\nidentity_provider = { issuer = \"https://i\" }",
            "identity_provider.id_token is missing",
        ),
        ("client_id = \"c\"\nsigning_alg = \"ES256\"", "signing_alg is of no use without a private_key"),
        (
            "client_id = \"c\"\nprivate_key = { file = \"k\" }\nsigning_alg = \"HS256\"",
            "signing_alg = \"HS256\" is not known; use ES256",
        ),
        (
            "client_id = \"c\"\nprivate_key = { file = \"k\" }\nclient_secret = { file = \"s\" }",
            "5: servers.a.oauth.private_key and client_secret exclude each other",
        ),
    ];
    for (oauth, expected) in cases {
        let found = of(oauth);
        assert!(found.contains(expected) && !found.contains("canary"), "{oauth}: {found}");
    }
}
