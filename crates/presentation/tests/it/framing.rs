//! Where one message ends and the next begins, as seen by a hostile or an old peer.

use crate::home::{Home, KEY};
use crate::stub::{Stub, ok};
use crate::wire::{Wire, exchange, head};

#[tokio::test]
async fn a_client_of_1996_is_served() {
    let home = Home::logged_in().await;
    home.add("files", home.upstream.origin()).await;
    let host = home.address;
    let lines = format!("host: {host}\r\nx-everfresh-key: {KEY}\r\n");
    let mut wire = Wire::connect(&home).await;
    wire.write(format!("GET /mcp/files/download/40000 HTTP/1.0\r\n{lines}\r\n")).await;
    let answer = wire.answer().await;
    assert!(answer.head.starts_with("HTTP/1.0 200"), "{}", answer.head);
    assert_eq!((answer.values("transfer-encoding"), answer.body.len()), (vec![], 49_152), "{}", answer.head);
    let answer = exchange(&home, format!("GET /mcp/demo HTTP/1.0\r\nx-everfresh-key: {KEY}\r\n\r\n")).await;
    assert_eq!(answer.status(), 403, "no host, no service");
}

#[tokio::test]
async fn a_length_beside_a_coding_is_not_believed() {
    let home = Home::start().await;
    let stub = Stub::replying(ok("served")).await;
    home.add("demo", &stub.origin).await;
    let smuggled = "GET /mcp/demo/smuggled HTTP/1.1\r\nx: y\r\n\r\n";
    for lines in
        ["content-length: 3\r\ntransfer-encoding: chunked\r\n", "transfer-encoding: chunked\r\ncontent-length: 3\r\n"]
    {
        let mut wire = Wire::connect(&home).await;
        wire.write(head(&home, "POST /mcp/demo/outer", lines)).await;
        wire.write(format!("{:x}\r\n{smuggled}\r\n0\r\n\r\n", smuggled.len())).await;
        assert_eq!(wire.answer().await.text(), "served");
        let seen = stub.next().await;
        assert_eq!((seen.text().as_str(), seen.values("content-length")), (smuggled, vec![]), "{}", seen.head);
        assert_eq!(wire.rest().await, b"", "such a connection is closed");
    }
    assert_eq!(stub.pending().await, 0);
}

#[tokio::test]
async fn requests_that_can_be_read_in_two_ways_are_refused() {
    let home = Home::start().await;
    let stub = Stub::replying(ok("served")).await;
    home.add("demo", &stub.origin).await;
    let line = "POST /mcp/demo";
    let ambiguous = [
        head(&home, line, "content-length: 3\r\ncontent-length: 4\r\n") + "abcd",
        head(&home, line, "content-length: 3, 3\r\n") + "abc",
        head(&home, line, "content-length: +3\r\n") + "abc",
        head(&home, line, "content-length: 0x3\r\n") + "abc",
        head(&home, line, "content-length: 99999999999999999999\r\n"),
        head(&home, line, "transfer-encoding: chunked, identity\r\n") + "0\r\n\r\n",
        head(&home, line, "transfer-encoding: xchunked\r\n") + "0\r\n\r\n",
        head(&home, line, "transfer-encoding : chunked\r\n") + "0\r\n\r\n",
        head(&home, line, "x-fold: a\r\n b\r\n"),
        head(&home, line, "bad name: 1\r\n"),
        head(&home, line, "x-nul: a\0b\r\n"),
        format!("POST /mcp/demo HTTP/1.0\r\nhost: {}\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n", home.address),
        "POST  /mcp/demo HTTP/1.1\r\n\r\n".to_owned(),
        "\x16\x03\x01\x02\r\n\r\n".to_owned(),
    ];
    for request in ambiguous {
        let mut wire = Wire::connect(&home).await;
        wire.write(&request).await;
        let answer = wire.answer_without_body().await;
        assert_eq!(answer.status(), 400, "{request:?}: {}", answer.head);
    }
    for chunk in ["-1\r\n", "fffffffffffffffff\r\n", "g\r\n", "1;x\ny\r\n", "2\r\nabc\r\n0\r\n\r\n"] {
        let mut wire = Wire::connect(&home).await;
        wire.write(head(&home, line, "transfer-encoding: chunked\r\n")).await;
        wire.write(chunk).await;
        let answer = String::from_utf8(wire.rest().await).unwrap();
        assert!(!answer.contains("served"), "{chunk:?}: {answer}");
    }
    assert_eq!(stub.pending().await, 0, "no whole request has reached the upstream");
}

#[tokio::test]
async fn a_head_that_is_too_long_is_refused() {
    let home = Home::logged_in().await;
    let cases = [
        (head(&home, "GET /mcp/demo", &format!("x: {}\r\n", "y".repeat(1 << 20))), 431),
        (head(&home, "GET /mcp/demo", &"x-many: 1\r\n".repeat(200)), 431),
        (head(&home, &format!("GET /mcp/demo/{}", "y".repeat(100_000)), ""), 414),
    ];
    for (request, status) in cases {
        let mut wire = Wire::connect(&home).await;
        wire.try_write(request.as_bytes()).await;
        // Where bytes are left unread, the answer may be lost with the connection.
        if let Some(head) = wire.head().await {
            assert!(head.starts_with(&format!("HTTP/1.1 {status}")), "{head}");
        }
    }
    assert_eq!(home.upstream.seen().len(), 0);
}

#[tokio::test]
async fn whoever_asks_first_may_send_the_body() {
    let home = Home::start().await;
    home.add("demo", &format!("{}/api", home.upstream.origin())).await;
    let mut wire = Wire::connect(&home).await;
    wire.write(head(&home, "POST /mcp/demo", "content-length: 4\r\nexpect: 100-continue\r\n")).await;
    assert_eq!(wire.head().await.unwrap(), "HTTP/1.1 100 Continue\n");
    wire.write("body").await;
    assert!(wire.answer().await.text().contains("\"body_length\":4"));
    let mut wire = Wire::connect(&home).await;
    wire.write(format!(
        "POST /mcp/demo HTTP/1.1\r\nhost: {}\r\nexpect: 100-continue\r\ncontent-length: 4\r\n\r\n",
        home.address
    ))
    .await;
    assert_eq!(wire.answer().await.status(), 403, "the body of a stranger is not asked for");
}

#[tokio::test]
async fn news_before_an_answer_are_not_the_answer() {
    let home = Home::start().await;
    let early = "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nlink: </x>\r\n\r\n";
    let stub = Stub::replying([early.as_bytes(), &ok("served")].concat()).await;
    home.add("demo", &stub.origin).await;
    let answer = exchange(&home, head(&home, "GET /mcp/demo", "")).await;
    assert_eq!((answer.status(), answer.text().as_str()), (200, "served"));
}

#[tokio::test]
async fn an_answer_without_any_length_ends_with_its_connection() {
    let home = Home::start().await;
    let stub = Stub::start(|_, mut wire, _| async move {
        wire.request().await;
        wire.write("HTTP/1.1 200 OK\r\n\r\nall of it").await;
    })
    .await;
    home.add("demo", &stub.origin).await;
    assert_eq!(exchange(&home, head(&home, "GET /mcp/demo", "")).await.text(), "all of it");
}

#[tokio::test]
async fn requests_in_one_packet_are_answered_in_order() {
    let home = Home::start().await;
    home.add("demo", &format!("{}/api", home.upstream.origin())).await;
    let mut wire = Wire::connect(&home).await;
    let requests = ["/mcp/demo/1", "/mcp/nobody", "/healthz", "/mcp/demo/2"];
    wire.write(requests.map(|path| head(&home, &format!("GET {path}"), "")).concat()).await;
    for expected in ["/api/1", "no-such-server", "ok", "/api/2"] {
        let text = wire.answer().await.text();
        assert!(text.contains(expected), "{text}");
    }
}

#[tokio::test]
async fn web_sockets_are_refused_in_words() {
    let home = Home::logged_in().await;
    let upgrade = "connection: upgrade\r\nupgrade: websocket\r\nsec-websocket-version: 13\r\n";
    let answer = exchange(&home, head(&home, "GET /mcp/demo", upgrade)).await;
    assert_eq!((answer.status(), answer.values("content-type")), (501, vec!["application/problem+json"]));
    assert_eq!(home.upstream.seen().len(), 0);
}

#[tokio::test]
async fn strange_targets_break_nothing() {
    let home = Home::logged_in().await;
    let host = home.address;
    let lines = format!("host: {host}\r\nx-everfresh-key: {KEY}\r\ncontent-length: 0\r\n");
    for line in [
        "OPTIONS * HTTP/1.1",
        "CONNECT 127.0.0.1:7411 HTTP/1.1",
        "GET http://evil.example/mcp/demo HTTP/1.1",
        "GET //mcp/demo HTTP/1.1",
        "GET /mcp/demo/../../api/v1/servers HTTP/1.1",
        "GET /mcp/demo/%2e%2e/x HTTP/1.1",
        "GET /mcp/demo/a\\..\\b HTTP/1.1",
        "GET /mcp/%2e%2e/demo HTTP/1.1",
        "GET /mcp/demo%00 HTTP/1.1",
        "GET /mcp/demo@ HTTP/1.1",
        "GET /mcp/@ HTTP/1.1",
        "GET /mcp/demo@work@home HTTP/1.1",
        "GET /k//mcp/demo HTTP/1.1",
        "POST /api/v1/servers/%ff/login HTTP/1.1",
        "GET /api/v1/servers/demo/journal?limit=18446744073709551615 HTTP/1.1",
        "GET /api/v1/logins/ffffffffffffffffffffffff HTTP/1.1",
        "GET /?once=%ff HTTP/1.1",
    ] {
        let mut wire = Wire::connect(&home).await;
        wire.write(format!("{line}\r\n{lines}\r\n")).await;
        let status = wire.answer_without_body().await.status();
        assert!(status < 500, "{line}: {status}");
    }
    assert_eq!(home.upstream.seen().len(), 0);
    let absolute = exchange(&home, format!("DELETE http://{host}/mcp/demo/x HTTP/1.1\r\n{lines}\r\n")).await;
    assert_eq!(absolute.status(), 200);
}

#[tokio::test]
async fn a_length_beside_a_coding_of_an_answer_is_not_believed() {
    let home = Home::start().await;
    let chunks = "6\r\nserved\r\n0\r\n\r\n";
    for (name, lines) in [
        ("short", "content-length: 3\r\ntransfer-encoding: chunked\r\n"),
        ("long", "transfer-encoding: chunked\r\ncontent-length: 300\r\n"),
    ] {
        let stub = Stub::replying(format!("HTTP/1.1 200 OK\r\n{lines}\r\n{chunks}")).await;
        home.add(name, &stub.origin).await;
        let mut wire = Wire::connect(&home).await;
        for _ in 0..2 {
            wire.write(head(&home, &format!("GET /mcp/{name}"), "")).await;
            let answer = wire.answer().await;
            assert_eq!(
                (answer.text().as_str(), answer.values("content-length")),
                ("served", vec![]),
                "{}",
                answer.head
            );
        }
    }
}

#[tokio::test]
async fn a_length_that_is_told_twice_is_passed_on_once() {
    let home = Home::start().await;
    for (name, lines) in [("lines", "content-length: 6\r\ncontent-length: 6\r\n"), ("list", "content-length: 6, 6\r\n")]
    {
        let stub = Stub::replying(format!("HTTP/1.1 200 OK\r\n{lines}\r\nserved")).await;
        home.add(name, &stub.origin).await;
        let mut wire = Wire::connect(&home).await;
        for _ in 0..2 {
            wire.write(head(&home, &format!("GET /mcp/{name}"), "")).await;
            let answer = wire.answer().await;
            assert_eq!(
                (answer.text().as_str(), answer.values("content-length")),
                ("served", vec!["6"]),
                "{}",
                answer.head
            );
        }
    }
}

#[tokio::test]
async fn an_upstream_of_1996_is_passed_on_as_the_answer_of_a_proxy_of_today() {
    let home = Home::start().await;
    let endless = Stub::start(|_, mut wire, _| async move {
        wire.request().await;
        wire.write("HTTP/1.0 200 OK\r\n\r\nall of it").await;
    })
    .await;
    let sized = Stub::replying("HTTP/1.0 200 OK\r\ncontent-length: 9\r\nconnection: keep-alive\r\n\r\nall of it").await;
    home.add("endless", &endless.origin).await;
    home.add("sized", &sized.origin).await;
    let mut wire = Wire::connect(&home).await;
    for name in ["endless", "sized", "endless", "sized"] {
        wire.write(head(&home, &format!("GET /mcp/{name}"), "")).await;
        let answer = wire.answer().await;
        assert!(answer.head.starts_with("HTTP/1.1 200"), "{name}: {}", answer.head);
        assert_eq!((answer.text().as_str(), answer.values("connection")), ("all of it", vec![]), "{name}");
    }
}

#[tokio::test]
async fn methods_that_are_about_the_way_are_not_passed_on() {
    let home = Home::logged_in().await;
    for method in ["TRACE", "CONNECT"] {
        let answer = exchange(&home, head(&home, &format!("{method} /mcp/demo"), "")).await;
        assert_eq!(
            (answer.status(), answer.values("content-type")),
            (501, vec!["application/problem+json"]),
            "{method}"
        );
        assert!(!answer.text().contains("canary"));
    }
    assert_eq!(home.upstream.seen().len(), 0);
}

#[tokio::test]
async fn a_coding_that_is_not_undone_here_is_not_passed_on_as_if_it_were() {
    let home = Home::logged_in().await;
    for lines in ["transfer-encoding: gzip, chunked\r\n", "transfer-encoding: gzip\r\ntransfer-encoding: chunked\r\n"] {
        let request = head(&home, "POST /mcp/demo", lines) + "2\r\n\x1f\x7f\r\n0\r\n\r\n";
        let answer = exchange(&home, request).await;
        assert_eq!((answer.status(), answer.values("content-type")), (501, vec!["application/problem+json"]));
    }
    assert_eq!(home.upstream.seen().len(), 0);
}

#[tokio::test]
async fn an_upstream_that_switches_protocols_unasked_is_a_bad_gateway() {
    let home = Home::start().await;
    let stub = Stub::replying("HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: x\r\n\r\n").await;
    home.add("demo", &stub.origin).await;
    let mut wire = Wire::connect(&home).await;
    for _ in 0..2 {
        wire.write(head(&home, "GET /mcp/demo", "")).await;
        let answer = wire.answer().await;
        assert_eq!((answer.status(), answer.values("upgrade")), (502, vec![]), "{}", answer.head);
        assert!(answer.text().contains("demo"), "{}", answer.text());
    }
}
