//! Streams: nothing is held back, and whoever goes away is missed at once.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use everfresh_application::RefreshOutcome;
use futures_util::stream;
use http::Method;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::{Frame, Incoming};
use tokio::sync::{Notify, mpsc};

use crate::home::{Home, until, within};
use crate::stub::Stub;
use crate::wire::{Message, Wire, head};

async fn data(body: &mut Incoming) -> Option<Bytes> {
    let frame = within("a frame", body.frame()).await?;
    Some(frame.unwrap().into_data().unwrap())
}

#[tokio::test]
async fn an_answer_passes_as_it_comes() {
    let home = Home::start().await;
    let go_on = Arc::new(Notify::new());
    let told = Arc::clone(&go_on);
    let stub = Stub::start(move |_, mut wire, _| {
        let told = Arc::clone(&told);
        async move {
            wire.request().await.unwrap();
            wire.write("HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n")
                .await;
            for number in 0..3 {
                told.notified().await;
                wire.write(format!("9\r\ndata: {number}\n\n\r\n")).await;
            }
            told.notified().await;
            wire.write("0\r\n\r\n").await;
        }
    })
    .await;
    home.add("demo", &stub.origin).await;
    // The head comes before any byte of the body; each piece before the next is written.
    let mut body = home.open(home.keyed(Method::POST, "/mcp/demo").body(Full::from("{}")).unwrap()).await.into_body();
    for number in 0..3 {
        go_on.notify_one();
        assert_eq!(data(&mut body).await.unwrap(), format!("data: {number}\n\n"));
    }
    go_on.notify_one();
    assert_eq!(data(&mut body).await, None);
}

#[tokio::test]
async fn a_request_passes_as_it_comes() {
    let home = Home::start().await;
    let stub = Stub::start(|_, mut wire, teller| async move {
        let head = wire.head().await.unwrap();
        loop {
            let body = wire.chunk().await;
            let last = body.is_empty();
            drop(teller.send(Message { head: head.clone(), body }));
            if last {
                return wire.write("HTTP/1.1 202 Accepted\r\ncontent-length: 0\r\n\r\n").await;
            }
        }
    })
    .await;
    home.add("demo", &stub.origin).await;
    let (sender, pieces) = mpsc::channel::<Result<Frame<Bytes>, Infallible>>(1);
    let pieces = stream::unfold(pieces, |mut pieces| async { Some((pieces.recv().await?, pieces)) });
    let request = home.keyed(Method::POST, "/mcp/demo").body(StreamBody::new(Box::pin(pieces))).unwrap();
    let answer = async { home.send(request).await };
    let sending = async {
        for piece in ["first", "second"] {
            sender.send(Ok(Frame::data(Bytes::from_static(piece.as_bytes())))).await.unwrap();
            assert_eq!(stub.next().await.text(), piece);
        }
        drop(sender);
    };
    let (answer, ()) = within("both", async { tokio::join!(answer, sending) }).await;
    assert_eq!(answer.status, 202);
}

#[tokio::test]
async fn a_client_that_goes_away_closes_its_stream_at_the_upstream() {
    let home = Home::logged_in().await;
    let request = home.keyed(Method::GET, "/mcp/demo").header("accept", "text/event-stream");
    let response = home.open(request.body(Full::<Bytes>::default()).unwrap()).await;
    assert_eq!(response.headers()["content-type"], "text/event-stream");
    let mut body = response.into_body();
    assert_eq!(data(&mut body).await.unwrap(), ": open\n\n");
    assert_eq!(home.counters().streams_open, 1);
    drop(body);
    until("the stream's end", || (home.counters().streams_closed == 1).then_some(())).await;
    assert_eq!(home.counters().streams_open, 0);
}

#[tokio::test]
async fn a_client_that_goes_away_from_a_silent_stream_closes_it_too() {
    let home = Home::start().await;
    let stub = Stub::start(|_, mut wire, teller| async move {
        wire.request().await.unwrap();
        wire.write("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\none\r\n").await;
        drop(teller.send(Message { body: wire.rest().await, ..Message::default() }));
    })
    .await;
    home.add("demo", &stub.origin).await;
    let mut body = home.open(home.keyed(Method::GET, "/mcp/demo").body(Full::<Bytes>::default()).unwrap()).await;
    assert_eq!(data(body.body_mut()).await.unwrap(), "one");
    drop(body);
    assert_eq!(stub.next().await.body, b"");
}

#[tokio::test]
async fn a_client_that_goes_away_before_the_answer_ends_the_request() {
    let home = Home::start().await;
    let stub = Stub::start(|_, mut wire, teller| async move {
        drop(teller.send(wire.request().await.unwrap()));
        drop(teller.send(Message { body: wire.rest().await, ..Message::default() }));
    })
    .await;
    home.add("demo", &stub.origin).await;
    let mut wire = Wire::connect(&home).await;
    wire.write(head(&home, "POST /mcp/demo", "content-length: 2\r\n")).await;
    wire.write("{}").await;
    assert_eq!(stub.next().await.text(), "{}");
    drop(wire);
    assert_eq!(stub.next().await.body, b"", "the upstream sees the end");
}

#[tokio::test]
async fn half_an_upload_never_looks_whole() {
    let home = Home::start().await;
    let stub = Stub::start(|_, mut wire, teller| async move {
        let head = wire.head().await.unwrap();
        let body = wire.chunk().await;
        drop(teller.send(Message { head, body }));
        drop(teller.send(Message { body: wire.rest().await, ..Message::default() }));
    })
    .await;
    home.add("demo", &stub.origin).await;
    let mut wire = Wire::connect(&home).await;
    wire.write(head(&home, "POST /mcp/demo", "transfer-encoding: chunked\r\n")).await;
    wire.write("4\r\nhalf\r\n").await;
    assert_eq!(stub.next().await.text(), "half");
    drop(wire);
    assert_eq!(stub.next().await.body, b"", "no last chunk is made up");
}

#[tokio::test]
async fn half_an_answer_never_looks_whole() {
    let home = Home::start().await;
    let chunked = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n4\r\nhalf\r\n";
    let sized = "HTTP/1.1 200 OK\r\ncontent-length: 8\r\n\r\nhalf";
    for (name, answer) in [("chunked", chunked), ("sized", sized)] {
        let stub = Stub::start(move |_, mut wire, _| async move {
            wire.request().await.unwrap();
            wire.write(answer).await;
        })
        .await;
        home.add(name, &stub.origin).await;
        let mut wire = Wire::connect(&home).await;
        wire.write(head(&home, &format!("GET /mcp/{name}"), "")).await;
        // What came together with the end may be lost with it.
        let rest = String::from_utf8(wire.rest().await).unwrap();
        assert!(!rest.ends_with("0\r\n\r\n") && !rest.contains("content-length: 4"), "{name}: {rest:?}");
    }
}

#[tokio::test]
async fn an_open_stream_outlives_a_refresh() {
    let home = Home::logged_in().await;
    let request = home.keyed(Method::GET, "/mcp/demo").body(Full::<Bytes>::default()).unwrap();
    let mut body = home.open(request).await.into_body();
    assert_eq!(data(&mut body).await.unwrap(), ": open\n\n");
    let refreshed = home.application.refresh(&"demo".parse().unwrap()).await.unwrap();
    assert!(matches!(refreshed, RefreshOutcome::Refreshed(_)), "{refreshed:?}");
    for _ in 0..2 {
        assert_eq!(data(&mut body).await.unwrap(), ": alive\n\n");
    }
    assert_eq!((home.counters().streams_open, home.counters().streams_closed), (1, 0));
    assert_eq!(home.call("demo", "echo").await.status, 200);
}

#[tokio::test]
async fn a_shutdown_waits_for_answers_and_cuts_endless_streams() {
    let home = Home::logged_in().await;
    let go_on = Arc::new(Notify::new());
    let told = Arc::clone(&go_on);
    let stub = Stub::start(move |_, mut wire, teller| {
        let told = Arc::clone(&told);
        async move {
            drop(teller.send(wire.request().await.unwrap()));
            told.notified().await;
            wire.write("HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nlate").await;
        }
    })
    .await;
    home.add("slow", &stub.origin).await;
    let endless = home.open(home.keyed(Method::GET, "/mcp/demo").body(Full::<Bytes>::default()).unwrap()).await;
    let mut wire = Wire::connect(&home).await;
    wire.write(head(&home, "GET /mcp/slow", "")).await;
    stub.next().await;
    let address = home.address;
    let Home { server, provider, .. } = home;
    let shutdown = tokio::spawn(server.shutdown());
    let refused = async {
        while tokio::net::TcpStream::connect(address).await.is_ok() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    within("the listener's end", refused).await;
    go_on.notify_one();
    assert_eq!(wire.answer().await.text(), "late");
    within("the shutdown", shutdown).await.unwrap();
    drop(endless);
    until("the stream's end", || provider.with(|model| (model.counters.streams_open == 0).then_some(()))).await;
}
