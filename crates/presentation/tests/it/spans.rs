//! What a proxied request puts into traces, and what a stranger does not.

use std::fmt::Debug;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use bytes::Bytes;
use everfresh_application::spans;
use http::Method;
use http::request::Builder;
use http_body_util::Full;
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Metadata, Subscriber};

use crate::home::{Home, KEY};

/// Every field of every span that was made in this process, as `name=value`.
static RECORDED: Mutex<Vec<String>> = Mutex::new(Vec::new());

/// Notes spans, and nothing else.
struct Noting(AtomicU64);

struct Note;

impl Visit for Note {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        RECORDED.lock().unwrap_or_else(PoisonError::into_inner).push(format!("{}={value:?}", field.name()));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        RECORDED.lock().unwrap_or_else(PoisonError::into_inner).push(format!("{}={value}", field.name()));
    }
}

impl Subscriber for Noting {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.target() == spans::TARGET
    }

    fn new_span(&self, span: &Attributes<'_>) -> Id {
        span.record(&mut Note);
        Id::from_u64(self.0.fetch_add(1, Ordering::Relaxed))
    }

    fn record(&self, _span: &Id, values: &Record<'_>) {
        values.record(&mut Note);
    }

    fn record_follows_from(&self, _span: &Id, _follows: &Id) {}

    fn event(&self, _event: &Event<'_>) {}

    fn enter(&self, _span: &Id) {}

    fn exit(&self, _span: &Id) {}
}

/// How often something was recorded that holds `text`.
fn recorded(text: &str) -> usize {
    let all = RECORDED.lock().unwrap_or_else(PoisonError::into_inner);
    all.iter().filter(|record| record.contains(text)).count()
}

async fn send(home: &Home, request: Builder) -> u16 {
    home.send(request.body(Full::<Bytes>::default()).unwrap()).await.status
}

/// The only test that may be here: a process has one subscriber.
#[tokio::test]
async fn an_admitted_request_is_a_span_and_a_stranger_leaves_no_name() {
    tracing::subscriber::set_global_default(Noting(AtomicU64::new(1))).unwrap();
    let home = Home::logged_in().await;
    home.add("traced", &home.upstream.url()).await;
    let by_login = recorded("everfresh.server=traced");
    let strangers = [
        home.bare(Method::POST, "/mcp/stranger-a"),
        home.bare(Method::POST, "/mcp/stranger-b/tail?stranger-c").header("x-everfresh-key", "wrong"),
        home.bare(Method::POST, "/k/stranger-d/mcp/traced"),
        home.bare(Method::from_bytes(b"STRANGER-E").unwrap(), "/mcp/traced"),
        home.bare(Method::POST, "/mcp/stranger-f").header("host", "stranger-g.example").header("x-everfresh-key", KEY),
        // Known to have a key, and there is no such server: the word is the client's alone.
        home.bare(Method::POST, "/mcp/stranger-h").header("x-everfresh-key", KEY),
    ];
    for stranger in strangers {
        assert!(send(&home, stranger).await >= 400);
    }
    assert_eq!((recorded("stranger"), recorded("STRANGER"), recorded("/mcp/traced")), (0, 0, 0));
    let admitted = |method: &[u8]| {
        let method = Method::from_bytes(method).unwrap();
        home.bare(method, "/mcp/traced/secret-tail?secret-query").header("x-everfresh-key", KEY)
    };
    send(&home, admitted(b"POST")).await;
    assert_eq!(recorded("everfresh.server=traced"), by_login + 1);
    assert_eq!(recorded("otel.name=POST /mcp/traced"), 1);
    assert!(recorded("http.request.method=POST") > 0 && recorded("http.response.status_code=") > 0);
    send(&home, admitted(b"INVENTED")).await;
    assert_eq!((recorded("otel.name=HTTP /mcp/traced"), recorded("INVENTED")), (1, 0));
    assert_eq!((recorded("secret-"), recorded(KEY)), (0, 0), "neither path, query nor key");
}
