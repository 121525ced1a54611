//! A command and a webhook: what they get, and what they can do wrong.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use everfresh_application::SecretSource;
use everfresh_application::ports::{Again, Delivered, NotDelivered, NoticeMessage, NoticeStore, Notifier};
use everfresh_domain::notice::ledger::Ledger;
use everfresh_domain::{Concern, HealthAction, Notice, NoticeId, NoticeKind, Reason, Timestamp};
use everfresh_infrastructure::http::HttpFactory;
use everfresh_infrastructure::notices::{CommandNotifier, WebhookNotifier, WebhookSettings};
use everfresh_testkit::clock::{START, VirtualClock};
use everfresh_testkit::secrets::Variables;
use hyper_util::client::proxy::matcher::Matcher;
use ring::hmac;

use crate::raw::{Raw, Reply};
use crate::store::open;

const LIMIT: Duration = Duration::from_secs(10);

/// That `linear` needs a login.
pub(crate) fn message() -> NoticeMessage {
    let concern = Concern {
        kind: NoticeKind::LoginNeeded,
        reason: Reason::RefreshTokenRejected,
        summary: "Refresh token <expired> & gone".into(),
        detail: String::new(),
        action: HealthAction::Login,
        ends_at: None,
        warning: 0,
        login: None,
    };
    let concerns = vec![("linear".parse().unwrap(), concern)];
    let notice = Notice { id: NoticeId(7), kind: NoticeKind::LoginNeeded, at: Timestamp::EPOCH, concerns };
    NoticeMessage { notice, json: "{\"type\":\"login_needed\"}".into() }
}

/// A shell script as the command: `$1` is the folder that it may write to.
async fn script(script: &str, folder: &Path, limit: Duration) -> Result<Delivered, NotDelivered> {
    let words = ["sh", "-c", script, "sh", folder.to_str().unwrap()].map(str::to_owned).into();
    CommandNotifier::new(words, limit, vec!["HOME".into()]).deliver(&message()).await
}

#[tokio::test]
async fn a_command_gets_the_notice_as_json_and_as_variables_and_no_secret() {
    let folder = tempfile::tempdir().unwrap();
    let told = script("cat > $1/json; env > $1/env", folder.path(), LIMIT).await.unwrap();
    assert!(matches!(&told, Delivered::Done(what) if what.contains("exit status: 0")), "{told:?}");
    let read = |name: &str| std::fs::read_to_string(folder.path().join(name)).unwrap();
    assert_eq!(read("json"), message().json);
    let env = read("env");
    let expected = [
        "EVERFRESH_EVENT=login_needed",
        "EVERFRESH_SERVER=linear",
        "EVERFRESH_REASON=refresh_token_rejected",
        "EVERFRESH_TITLE=linear: login needed",
        "EVERFRESH_NOTICE_ID=msg_00000000000000000000000000000007",
    ];
    for line in expected {
        assert!(env.lines().any(|found| found == line), "{line} in {env}");
    }
    assert!(env.contains("PATH=") && !env.contains("\nHOME="), "{env}");
}

#[tokio::test]
async fn a_command_that_hangs_is_killed_with_all_that_it_started() {
    let folder = tempfile::tempdir().unwrap();
    let began = Instant::now();
    let hanging = "sleep 600 & echo $! > $1/child; wait";
    let error = script(hanging, folder.path(), Duration::from_millis(500)).await.unwrap_err();
    assert_eq!(error.again, Again::Never);
    assert!(error.cause.contains("did not end within 500ms"), "{error}");
    assert!(began.elapsed() < LIMIT);
    let child = std::fs::read_to_string(folder.path().join("child")).unwrap();
    let stat = format!("/proc/{}/stat", child.trim());
    // Without a reaper, what is dead may stay as a zombie.
    let is_alive = || std::fs::read_to_string(&stat).is_ok_and(|stat| !stat.contains(") Z "));
    while is_alive() {
        assert!(began.elapsed() < LIMIT, "{stat} is still there");
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn a_delivery_that_is_dropped_ends_its_command() {
    let folder = tempfile::tempdir().unwrap();
    let running = script("echo $$ > $1/pid.tmp; mv $1/pid.tmp $1/pid; sleep 600", folder.path(), LIMIT);
    let pid = async {
        loop {
            match std::fs::read_to_string(folder.path().join("pid")) {
                Ok(pid) => return pid,
                Err(_) => tokio::task::yield_now().await,
            }
        }
    };
    let pid = tokio::select! { pid = pid => pid, ended = running => panic!("{ended:?}") };
    let (began, stat) = (Instant::now(), format!("/proc/{}/stat", pid.trim()));
    while std::fs::read_to_string(&stat).is_ok_and(|stat| !stat.contains(") Z ")) {
        assert!(began.elapsed() < LIMIT, "{stat} is still there");
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn no_output_input_or_child_of_a_command_holds_anything_up() {
    let folder = tempfile::tempdir().unwrap();
    for fine in [
        "yes | head -c 5000000; yes | head -c 5000000 >&2",
        "exec 0<&-; true",
        "sleep 600 & echo $! >> $1/left; exit 0",
        "exec >&- 2>&-; sleep 0.1",
    ] {
        let began = Instant::now();
        script(fine, folder.path(), LIMIT).await.unwrap();
        assert!(began.elapsed() < LIMIT / 2, "{fine}: {:?}", began.elapsed());
    }
    let left = std::fs::read_to_string(folder.path().join("left")).unwrap();
    assert!(std::process::Command::new("kill").arg(left.trim()).status().unwrap().success(), "it may go on");
}

#[tokio::test]
async fn a_command_that_fails_is_told_and_not_run_again() {
    let folder = tempfile::tempdir().unwrap();
    let error = script("exit 3", folder.path(), LIMIT).await.unwrap_err();
    assert!(error.cause.contains("exit status: 3") && error.again == Again::Never, "{error:?}");
    let absent = CommandNotifier::new(vec!["/no/such/hook".into()], LIMIT, Vec::new());
    let error = absent.deliver(&message()).await.unwrap_err();
    assert!(error.cause.starts_with("/no/such/hook cannot be started"), "{error}");
}

/// A webhook to `path` of `server`, signed with these secrets.
fn webhook(url: String, secrets: &[&str]) -> WebhookNotifier {
    drop(rustls::crypto::ring::default_provider().install_default());
    let variables = Variables::default();
    let source = |(number, secret): (usize, &&str)| {
        let name = format!("SECRET_{number}");
        variables.set(&name, Some(secret));
        SecretSource::Env(name)
    };
    let secrets = secrets.iter().enumerate().map(source).collect();
    let settings = WebhookSettings { url, secrets, limit: LIMIT, ca_file: None };
    let factory = HttpFactory::with_proxies(Matcher::builder().build());
    WebhookNotifier::new(settings, factory, Arc::new(variables), Arc::new(VirtualClock::default()))
}

fn secret(byte: u8) -> String {
    format!("whsec_{}", BASE64_STANDARD.encode([byte; 32]))
}

fn header<'r>(request: &'r str, name: &str) -> &'r str {
    let lines = request.lines().filter_map(|line| line.split_once(": "));
    let mut found = lines.filter(|(found, _)| found.eq_ignore_ascii_case(name)).map(|(_, value)| value);
    found.next().unwrap_or_else(|| panic!("no {name} in {request}"))
}

#[tokio::test]
async fn a_webhook_is_signed_with_every_secret() {
    let server = Raw::start().await;
    server.at("/hook?key=hidden", Reply::http("204 No Content", "", ""));
    let notifier = webhook(format!("{}/hook?key=hidden", server.origin), &[&secret(1), &secret(2)]);
    let done = notifier.deliver(&message()).await.unwrap();
    assert_eq!(done, Delivered::Done("127.0.0.1 answered 204 No Content".into()));
    let requests = server.requests();
    let request = &requests[0];
    assert!(request.starts_with("POST /hook?key=hidden HTTP/1.1"), "{request}");
    assert_eq!(header(request, "content-type"), "application/json");
    let (id, timestamp) = (header(request, "webhook-id"), header(request, "webhook-timestamp"));
    assert_eq!((id, timestamp), ("msg_00000000000000000000000000000007", "1795000000"));
    let content = format!("{id}.{timestamp}.{}", message().json);
    let signatures: Vec<&str> = header(request, "webhook-signature").split(' ').collect();
    assert_eq!(signatures.len(), 2);
    for (signature, byte) in signatures.iter().zip([1, 2]) {
        let tag = BASE64_STANDARD.decode(signature.strip_prefix("v1,").unwrap()).unwrap();
        hmac::verify(&hmac::Key::new(hmac::HMAC_SHA256, &[byte; 32]), content.as_bytes(), &tag).unwrap();
    }
    assert!(request.ends_with(&message().json), "{request}");
}

#[tokio::test]
async fn what_a_webhook_answers_decides_whether_it_is_tried_again() {
    let server = Raw::start().await;
    let date = "retry-after: Wed, 18 Nov 2026 11:08:40 GMT\r\n";
    let cases = [
        (Reply::http("200 OK", "", "fine"), None),
        (Reply::http("302 Found", "location: /other\r\n", ""), Some(Again::Never)),
        (Reply::http("400 Bad Request", "", ""), Some(Again::Never)),
        (Reply::http("410 Gone", "", ""), Some(Again::Never)),
        (Reply::http("408 Request Timeout", "", ""), Some(Again::Later(None))),
        (Reply::http("429 Too Many Requests", "retry-after: 7\r\n", ""), Some(Again::Later(Some(LIMIT * 7 / 10)))),
        (Reply::http("429 Too Many Requests", date, ""), Some(Again::Later(Some(at("11:08:40"))))),
        (Reply::http("503 Service Unavailable", "", ""), Some(Again::Later(None))),
        (Reply::Close, Some(Again::Later(None))),
    ];
    for (number, (reply, expected)) in cases.into_iter().enumerate() {
        let path = format!("/{number}");
        server.at(&path, reply);
        let result = webhook(format!("{}{path}", server.origin), &[]).deliver(&message()).await;
        assert_eq!(result.err().map(|error| error.again), expected, "{path}");
    }
    assert!(!server.requests().iter().any(|request| request.contains("/other")), "no redirect is followed");
    assert!(!server.requests()[0].to_lowercase().contains("webhook-signature"), "nothing to sign with");
}

/// How long after [`START`], which is 11:06:40, this time of that day is.
fn at(time: &str) -> Duration {
    let at: Timestamp = format!("2026-11-18T{time}Z").parse().unwrap();
    at.since(START)
}

#[tokio::test]
async fn a_webhook_shows_no_secret_in_what_goes_wrong() {
    let closed = "http://127.0.0.1:9/services/T0/B0/very-secret-path".to_owned();
    let cases = [
        (closed, vec![secret(1)], "127.0.0.1"),
        ("http://127.0.0.1:9/very-secret-path".to_owned(), vec!["very-secret".to_owned()], "whsec_"),
        ("http://192.0.2.1.example.invalid/very-secret-path".to_owned(), vec![], "https"),
    ];
    for (url, secrets, expected) in cases {
        let secrets: Vec<&str> = secrets.iter().map(String::as_str).collect();
        let error = webhook(url, &secrets).deliver(&message()).await.unwrap_err();
        assert!(error.cause.contains(expected) && !error.cause.contains("very-secret"), "{error}");
    }
}

#[tokio::test]
async fn what_was_told_is_durable_and_no_login() {
    use everfresh_application::ports::TokenStore;

    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path()).unwrap();
    assert_eq!(store.notices().await.unwrap(), None);
    let mut ledger = Ledger::default();
    ledger.told(&message().notice, &["command".to_owned()].into());
    store.put_notices(&ledger).await.unwrap();
    drop(store);
    let store = open(folder.path()).unwrap();
    let json = |ledger: &Ledger| serde_json::to_string(ledger).unwrap();
    assert_eq!(store.notices().await.unwrap().map(|found| json(&found)), Some(json(&ledger)));
    assert!(store.load().await.unwrap().is_empty() && store.servers().await.unwrap().is_empty());
    assert!(store.warnings().is_empty(), "{:?}", store.warnings());
}
