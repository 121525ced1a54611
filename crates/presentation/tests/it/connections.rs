//! Connections to upstreams: kept, found dead, and never the reason for a second execution.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use everfresh_testkit::provider::Behaviour;
use http::Method;
use http_body_util::Full;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::sync::Notify;

use crate::home::{Home, KEY, quick};
use crate::stub::{Stub, ok};
use crate::wire::{Message, Wire, head};

/// An upstream that ends each connection after `each` answers, and tells when it has.
async fn short_lived(each: usize) -> Stub {
    Stub::start(move |_, mut wire, teller| async move {
        for _ in 0..each {
            let Some(request) = wire.request().await else { return };
            drop(teller.send(request));
            wire.write(ok("served")).await;
        }
        drop(wire);
        drop(teller.send(Message::default()));
    })
    .await
}

#[tokio::test]
async fn a_connection_serves_many_requests() {
    let home = Home::logged_in().await;
    let mut wire = Wire::connect(&home).await;
    for _ in 0..10 {
        wire.write(head(&home, "DELETE /mcp/demo", "")).await;
        assert_eq!(wire.answer().await.status(), 200);
    }
    assert_eq!(home.dialer.dials(), 1);
}

#[tokio::test]
async fn a_connection_that_the_upstream_closed_meanwhile_costs_nobody_a_request() {
    let home = Home::start().await;
    let stub = short_lived(1).await;
    home.add("demo", &stub.origin).await;
    let mut wire = Wire::connect(&home).await;
    for number in 1..=5 {
        wire.write(head(&home, "POST /mcp/demo", "content-length: 2\r\n")).await;
        wire.write("{}").await;
        assert_eq!(wire.answer().await.text(), "served");
        assert_eq!(stub.next().await.text(), "{}");
        // The connection is closed before the next request is sent.
        stub.next().await;
        assert_eq!(home.dialer.dials(), number);
    }
}

#[tokio::test]
async fn a_connection_whose_end_was_announced_is_not_kept() {
    let home = Home::start().await;
    let stub = Stub::replying("HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 0\r\n\r\n").await;
    home.add("demo", &stub.origin).await;
    let mut wire = Wire::connect(&home).await;
    for number in 1..=3 {
        wire.write(head(&home, "GET /mcp/demo", "")).await;
        assert_eq!(wire.answer().await.values("connection"), Vec::<&str>::new(), "theirs is not ours");
        assert_eq!(home.dialer.dials(), number);
    }
}

#[tokio::test]
async fn what_breaks_on_a_kept_connection_is_tried_again_only_where_twice_is_as_good_as_once() {
    let home = Home::start().await;
    // The second request of a connection is read, and gets no answer.
    let stub = Stub::start(|_, mut wire, teller| async move {
        drop(teller.send(wire.request().await.unwrap()));
        wire.write(ok("served")).await;
        if let Some(request) = wire.request().await {
            drop(teller.send(request));
        }
    })
    .await;
    home.add("demo", &stub.origin).await;
    let mut wire = Wire::connect(&home).await;
    let mut ask = async |method: &str| {
        wire.write(head(&home, &format!("{method} /mcp/demo"), "content-length: 2\r\n")).await;
        wire.write("{}").await;
        wire.answer().await
    };
    assert_eq!(ask("POST").await.text(), "served");
    assert_eq!(ask("PUT").await.text(), "served", "once more on a fresh connection");
    let broken = ask("POST").await;
    assert_eq!(broken.status(), 502, "{}", broken.text());
    let mut seen = Vec::new();
    while stub.pending().await > 0 {
        seen.push(stub.next().await.head.split(' ').next().unwrap().to_owned());
    }
    assert_eq!(seen, ["POST", "PUT", "PUT", "POST"]);
}

#[tokio::test]
async fn words_on_an_idle_connection_are_not_taken_for_an_answer() {
    let home = Home::start().await;
    let stub = Stub::start(|_, mut wire, teller| async move {
        drop(teller.send(wire.request().await.unwrap()));
        wire.write([ok("served"), b"HTTP/1.1 408 Request Timeout\r\ncontent-length: 5\r\n\r\nstale".to_vec()].concat())
            .await;
        wire.rest().await;
    })
    .await;
    home.add("demo", &stub.origin).await;
    let mut wire = Wire::connect(&home).await;
    for _ in 0..3 {
        wire.write(head(&home, "GET /mcp/demo", "")).await;
        assert_eq!(wire.answer().await.text(), "served");
    }
}

#[tokio::test]
async fn a_change_of_settings_leaves_old_connections_behind() {
    let home = Home::logged_in().await;
    assert_eq!(home.call("demo", "echo").await.status, 200);
    let name = "demo".parse().unwrap();
    home.application.set_enabled(&name, false).await.unwrap();
    home.application.set_enabled(&name, true).await.unwrap();
    assert_eq!(home.call("demo", "echo").await.status, 200);
    assert_eq!(home.dialer.dials(), 2);
}

#[tokio::test]
async fn an_upstream_that_says_nothing_sensible_is_a_bad_gateway() {
    let home = Home::start().await;
    let huge = format!("HTTP/1.1 200 OK\r\nx-huge: {}\r\ncontent-length: 0\r\n\r\n", "x".repeat(1 << 20));
    let many = format!("HTTP/1.1 200 OK\r\n{}content-length: 0\r\n\r\n", "x-many: 1\r\n".repeat(1000));
    let nonsense = [
        ("garbage", b"\x16\x03\x01\x02\x00\x01nonsense\r\n\r\n".to_vec()),
        ("empty", Vec::new()),
        ("torn", b"HTTP/1.1 200 O".to_vec()),
        ("lengths", b"HTTP/1.1 200 OK\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\nab".to_vec()),
        ("negative", b"HTTP/1.1 200 OK\r\ncontent-length: -1\r\n\r\n".to_vec()),
        ("huge", huge.into_bytes()),
        ("many", many.into_bytes()),
    ];
    for (name, answer) in nonsense {
        let stub = Stub::start(move |_, mut wire, _| {
            let answer = answer.clone();
            async move {
                wire.request().await;
                // What is not read to its end is closed upon.
                wire.try_write(&answer).await;
            }
        })
        .await;
        home.add_only(name, &stub.origin).await;
        let answer =
            home.send(home.keyed(Method::GET, &format!("/mcp/{name}")).body(Full::<bytes::Bytes>::default()).unwrap());
        answer.await.expect_problem(502, "upstream-unreachable");
    }
    assert_eq!(home.get("/healthz").await.status, 200);
}

/// A connection whose end shows only to whoever really waits for it, and not to a mere look.
struct Shy(TcpStream);

impl AsyncRead for Shy {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let polled = Pin::new(&mut self.0).poll_read(cx, buf);
        let is_end = polled.is_ready() && buf.filled().len() == before;
        // The waker that wakes nobody is the one without data.
        if is_end && cx.waker().data().is_null() { Poll::Pending } else { polled }
    }
}

impl AsyncWrite for Shy {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }
}

#[tokio::test]
async fn a_connection_that_ends_between_look_and_use_costs_nobody_a_request() {
    let home = Home::start().await;
    *home.dialer.wrap.lock().unwrap() = Some(|stream| Box::new(Shy(stream)));
    let end = Arc::new(Notify::new());
    let told = Arc::clone(&end);
    let stub = Stub::start(move |_, mut wire, teller| {
        let told = Arc::clone(&told);
        async move {
            drop(teller.send(wire.request().await.unwrap()));
            wire.write(ok("served")).await;
            told.notified().await;
            drop(wire);
            drop(teller.send(Message::default()));
        }
    })
    .await;
    home.add("demo", &stub.origin).await;
    let mut wire = Wire::connect(&home).await;
    for number in 1..=3 {
        for (method, body) in [("POST", "{}"), ("GET", "")] {
            let length = format!("content-length: {}\r\n", body.len());
            wire.write(head(&home, &format!("{method} /mcp/demo"), &length) + body).await;
            assert_eq!(wire.answer().await.text(), "served", "{method} {number}");
            assert_eq!(stub.next().await.text(), body);
            end.notify_one();
            stub.next().await;
        }
    }
}

#[tokio::test]
async fn an_upstream_that_hangs_up_is_a_bad_gateway_in_every_language() {
    let home = Home::start().await;
    let stub = Stub::start(|_, mut wire, teller| async move {
        drop(teller.send(wire.request().await.unwrap()));
    })
    .await;
    home.add("demo", &stub.origin).await;
    let problem = home.call("demo", "count").await.expect_problem(502, "upstream-unreachable");
    assert!(problem["detail"].as_str().unwrap().contains("broke before an answer"), "{problem}");
    stub.next().await;
    assert_eq!(stub.pending().await, 0, "a call that may have been executed is not sent again");
}

#[tokio::test]
async fn connections_do_not_outlive_a_sleep_of_this_machine() {
    let ten_years = Duration::from_secs(10 * 365 * 24 * 3600);
    let behaviour = Behaviour { access_lifetime: ten_years, ..Behaviour::default() };
    let home = Home::of(behaviour, Some(KEY), quick()).await;
    // A router on the way forgets the first connection, and tells nobody.
    let stub = Stub::start(|number, mut wire, teller| async move {
        while let Some(request) = wire.request().await {
            drop(teller.send(request));
            wire.write(ok("served")).await;
            if number == 0 {
                std::future::pending::<()>().await;
            }
        }
    })
    .await;
    home.add("demo", &stub.origin).await;
    let mut wire = Wire::connect(&home).await;
    for _ in 0..2 {
        wire.write(head(&home, "POST /mcp/demo", "content-length: 2\r\n") + "{}").await;
        assert_eq!(wire.answer().await.text(), "served");
        home.clock.sleep(Duration::from_secs(8 * 3600));
    }
    assert_eq!(home.counters().refreshes, 0);
}
