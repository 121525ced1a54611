//! What passes: method, path, query, headers and bodies, byte for byte, in both directions.

use bytes::Bytes;
use everfresh_application::ServerSettings;
use futures_util::{StreamExt, stream};
use http::Method;
use http_body_util::{Full, StreamBody};
use hyper::body::Frame;
use sha2::{Digest, Sha256};

use crate::home::{Home, KEY};
use crate::stub::{Stub, ok};
use crate::wire::{Wire, head};

#[tokio::test]
async fn method_path_and_query_arrive_as_they_were_sent() {
    let home = Home::start().await;
    home.add("demo", &format!("{}/api/v1", home.upstream.origin())).await;
    let cases = [
        ("GET", ""),
        ("GET", "/"),
        ("POST", "/a/b?x=1&y=%20+&&z"),
        ("PUT", "/a%2Fb//c?q=%C3%A9&q=2"),
        ("DELETE", "/a;b=c/d,e?"),
        ("PATCH", "/~u/@x:y!$&'()*=?a[]=1&b=/?"),
        ("OPTIONS", "/x?only"),
        ("PROPFIND", "/dav/.hidden/..."),
    ];
    // All on one connection: each answer ends where the next begins.
    let mut wire = Wire::connect(&home).await;
    for (method, tail) in cases {
        wire.write(head(&home, &format!("{method} /mcp/demo{tail}"), "content-length: 0\r\n")).await;
        assert_eq!(wire.answer().await.status(), 200, "{method} {tail}");
    }
    let seen: Vec<String> = home.upstream.seen().into_iter().map(|seen| seen.target).collect();
    assert_eq!(seen, cases.map(|(method, tail)| format!("{method} /api/v1{tail}")));
}

#[tokio::test]
async fn every_header_passes_but_ours_and_hop_by_hop() {
    let home = Home::start().await;
    let stub = Stub::replying(ok("")).await;
    home.add("demo", &format!("{}/mcp", stub.origin)).await;
    let long = "l".repeat(20_000);
    let passing = [
        ("accept", "application/json, text/event-stream"),
        ("accept-encoding", "gzip, br"),
        ("content-encoding", "identity"),
        ("content-type", "application/json; charset=utf-8"),
        ("user-agent", "client/1"),
        ("mcp-protocol-version", "2026-07-28"),
        ("mcp-method", "tools/call"),
        ("mcp-name", "=?base64?w6k=?="),
        ("mcp-param-region", "eu west"),
        ("mcp-session-id", "s-1"),
        ("last-event-id", "7"),
        ("x-forwarded-for", "203.0.113.1"),
        ("forwarded", "for=203.0.113.1"),
        ("via", "1.1 before"),
        ("x-double", "first"),
        ("x-double", "second, third"),
        ("x-empty", ""),
        ("x-long", &long),
    ];
    let ours = [
        ("authorization", "Bearer the-clients-own"),
        ("origin", &format!("http://{}", home.address)),
        ("cookie", "everfresh=1; other=2"),
        ("connection", "keep-alive, x-hop-1"),
        ("x-hop-1", "1"),
        ("keep-alive", "timeout=5"),
        ("te", "trailers"),
        ("trailer", "x-late"),
        ("proxy-connection", "keep-alive"),
        ("proxy-authorization", "Basic eA=="),
        ("proxy-authenticate", "Basic"),
        ("upgrade", "h2c"),
    ];
    let lines: String = passing.iter().chain(&ours).map(|(name, value)| format!("{name}: {value}\r\n")).collect();
    let mut wire = Wire::connect(&home).await;
    wire.write(head(&home, "POST /mcp/demo", &format!("{lines}content-length: 2\r\n"))).await;
    wire.write("{}").await;
    assert_eq!(wire.answer().await.status(), 200);
    let seen = stub.next().await;
    for (name, _) in passing {
        let sent: Vec<&str> = passing.iter().filter(|(sent, _)| *sent == name).map(|(_, value)| *value).collect();
        assert_eq!(seen.values(name), sent, "{name}");
    }
    for (name, _) in ours.iter().filter(|(name, _)| *name != "authorization") {
        assert_eq!(seen.values(name), Vec::<&str>::new(), "{name}");
    }
    assert!(!seen.head.contains(KEY) && !seen.head.contains("the-clients-own"), "{}", seen.head);
    assert_eq!(seen.values("host"), [stub.origin.strip_prefix("http://").unwrap()]);
    assert_eq!(seen.values("content-length"), ["2"]);
    assert!(matches!(&seen.values("authorization")[..], [one] if one.starts_with("Bearer access-canary-")));
    let passed = passing.len() + ["host", "content-length", "authorization"].len();
    assert_eq!(seen.head.lines().count(), 1 + passed, "{}", seen.head);
}

#[tokio::test]
async fn bytes_that_are_no_text_pass_in_a_header() {
    let home = Home::start().await;
    let stub = Stub::replying(b"HTTP/1.1 200 OK\r\nx-back: \xe9\xff\r\ncontent-length: 0\r\n\r\n").await;
    home.add("demo", &stub.origin).await;
    let mut wire = Wire::connect(&home).await;
    let plain = head(&home, "GET /mcp/demo", "x-bytes: @\r\n");
    let (before, after) = plain.split_once('@').unwrap();
    wire.write([before.as_bytes(), b"\xe9\xff", after.as_bytes()].concat()).await;
    let shown = String::from_utf8_lossy(b"\xe9\xff").into_owned();
    assert_eq!(wire.answer().await.values("x-back"), [&shown]);
    assert_eq!(stub.next().await.values("x-bytes"), [&shown]);
}

#[tokio::test]
async fn status_and_headers_of_the_answer_pass_but_hop_by_hop_and_challenges() {
    let home = Home::start().await;
    let answer = "HTTP/1.1 418 Short and stout\r\ncontent-type: application/json\r\nmcp-session-id: s-1\r\n\
                  x-accel-buffering: no\r\ncache-control: private\r\netag: \"e\"\r\nset-cookie: a=1\r\nset-cookie: b=2\r\n\
                  retry-after: 7\r\nserver: upstream\r\ndate: Mon, 23 Nov 2026 00:00:00 GMT\r\n\
                  connection: x-hop\r\nx-hop: 1\r\nkeep-alive: timeout=5\r\nproxy-authenticate: Basic\r\nupgrade: h2c\r\n\
                  www-authenticate: Bearer\r\nwww-authenticate: Basic realm=\"x\"\r\ncontent-length: 4\r\n\r\nbody";
    let stub = Stub::replying(answer).await;
    home.add("demo", &stub.origin).await;
    let mut wire = Wire::connect(&home).await;
    wire.write(head(&home, "GET /mcp/demo", "")).await;
    let answer = wire.answer().await;
    assert_eq!(answer.text(), "body");
    let mut lines: Vec<&str> = answer.head.lines().collect();
    assert_eq!(lines.remove(0), "HTTP/1.1 418 Short and stout");
    lines.sort_unstable();
    let expected = [
        "cache-control: private",
        "content-length: 4",
        "content-type: application/json",
        "date: Mon, 23 Nov 2026 00:00:00 GMT",
        "etag: \"e\"",
        "mcp-session-id: s-1",
        "retry-after: 7",
        "server: upstream",
        "set-cookie: a=1",
        "set-cookie: b=2",
        "x-accel-buffering: no",
    ];
    assert_eq!(lines, expected);
}

#[tokio::test]
async fn every_status_passes_but_401() {
    let home = Home::start().await;
    for status in [200, 201, 202, 206, 300, 307, 400, 402, 404, 405, 406, 409, 410, 429, 500, 501, 502, 503, 504, 599] {
        let stub = Stub::replying(format!("HTTP/1.1 {status} X\r\ncontent-length: 5\r\n\r\nwords")).await;
        let name = format!("s{status}");
        home.add_only(&name, &stub.origin).await;
        let answer = home.call(&name, "echo").await;
        assert_eq!((answer.status, &answer.body[..]), (status, &b"words"[..]));
    }
}

#[tokio::test]
async fn bodies_of_any_size_and_framing_arrive_whole() {
    let home = Home::start().await;
    home.add("demo", &format!("{}/api", home.upstream.origin())).await;
    for size in [0, 1, 65_537, 6 << 20] {
        let body: Vec<u8> = (0..size).map(|n: usize| (n % 251) as u8).collect();
        let digest: String = Sha256::digest(&body).iter().map(|byte| format!("{byte:02x}")).collect();
        let body = Bytes::from(body);
        let request = home.keyed(Method::POST, "/mcp/demo/sized").body(Full::new(body.clone())).unwrap();
        let sized = home.send(request).await.json();
        let chunks: Vec<Bytes> = body.chunks(10_007).map(Bytes::copy_from_slice).collect();
        let chunks = stream::iter(chunks).map(|chunk| Ok::<_, std::io::Error>(Frame::data(chunk)));
        let request = home.keyed(Method::PUT, "/mcp/demo/chunked").body(StreamBody::new(chunks)).unwrap();
        let chunked = home.send(request).await.json();
        for told in [sized, chunked] {
            assert_eq!(told["body_length"], size, "{told}");
            assert_eq!(told["body_sha256"], digest, "{told}");
        }
    }
    let framing = |name: &str| -> Vec<bool> {
        let has = |seen: &everfresh_testkit::mcp::Seen| seen.headers.iter().any(|(found, _)| found == name);
        home.upstream.seen().iter().map(has).collect()
    };
    // An empty body of this client is announced by neither.
    assert_eq!(framing("content-length"), [false, false, true, false, true, false, true, false]);
    assert_eq!(framing("transfer-encoding"), [false, true].repeat(4));
}

#[tokio::test]
async fn a_long_answer_arrives_whole() {
    let home = Home::start().await;
    home.add("demo", home.upstream.origin()).await;
    let answer = home.get("/mcp/demo/download/9437184").await;
    assert_eq!((answer.status, answer.body.len()), (200, 9 << 20));
    assert!(answer.body.iter().all(|byte| *byte == b'x'));
}

#[tokio::test]
async fn configured_headers_are_added_and_win() {
    let home = Home::start().await;
    let stub = Stub::replying(ok("")).await;
    let headers = [("X-Tenant".to_owned(), "acme".to_owned())].into();
    let settings = ServerSettings { headers, ..ServerSettings::new("demo".parse().unwrap(), &stub.origin) };
    home.application.add_server(settings).await.unwrap();
    let request = home.keyed(Method::GET, "/mcp/demo").header("x-tenant", "other").body(Full::default()).unwrap();
    assert_eq!(home.send(request).await.status, 200);
    assert_eq!(stub.next().await.values("x-tenant"), ["acme"]);
}

#[tokio::test]
async fn an_account_of_a_server_uses_its_own_token() {
    let home = Home::start().await;
    let stub = Stub::replying(ok("")).await;
    home.add("demo", &stub.origin).await;
    home.log_in("demo@work").await;
    for path in ["/mcp/demo", "/mcp/demo@work", "/mcp/demo%40work", "/mcp/demo@work"] {
        assert_eq!(home.get(path).await.status, 200, "{path}");
    }
    let mut tokens = Vec::new();
    for _ in 0..4 {
        tokens.push(stub.next().await.values("authorization")[0].to_owned());
    }
    assert_ne!(tokens[0], tokens[1]);
    assert_eq!(tokens[1..], [tokens[1].clone(), tokens[1].clone(), tokens[1].clone()]);
}

#[tokio::test]
async fn answers_without_a_body_keep_the_connection_in_step() {
    let home = Home::start().await;
    let answers = [
        b"HTTP/1.1 200 OK\r\ncontent-length: 1000\r\n\r\n".to_vec(),
        b"HTTP/1.1 204 No Content\r\n\r\n".to_vec(),
        b"HTTP/1.1 304 Not Modified\r\netag: \"e\"\r\n\r\n".to_vec(),
        b"HTTP/1.1 202 Accepted\r\ncontent-length: 0\r\n\r\n".to_vec(),
        ok("words"),
    ];
    let stub = Stub::replying_in_turn(answers).await;
    home.add("demo", &stub.origin).await;
    let mut wire = Wire::connect(&home).await;
    for (method, status, length) in
        [("HEAD", 200, vec!["1000"]), ("DELETE", 204, vec![]), ("GET", 304, vec![]), ("POST", 202, vec!["0"])]
    {
        wire.write(head(&home, &format!("{method} /mcp/demo"), "")).await;
        let answer = wire.answer_without_body().await;
        assert_eq!((answer.status(), answer.values("content-length")), (status, length), "{}", answer.head);
    }
    wire.write(head(&home, "GET /mcp/demo", "")).await;
    assert_eq!(wire.answer().await.text(), "words");
    assert!(home.dialer.dials() <= 2, "one connection for each thread is enough");
}

#[tokio::test]
async fn what_any_connection_line_names_stays_here() {
    let home = Home::start().await;
    let lines = "connection: x-a\r\nconnection: X-B , @, x-c\r\nx-a: 1\r\nx-b: 2\r\nx-c: 3\r\nx-d: 4\r\n";
    let answer = format!("HTTP/1.1 200 OK\r\n{lines}content-length: 0\r\n\r\n");
    let foreign = |text: &str| {
        let (before, after) = text.split_once('@').unwrap();
        [before.as_bytes(), b"\xff", after.as_bytes()].concat()
    };
    let stub = Stub::replying(foreign(&answer)).await;
    home.add("demo", &stub.origin).await;
    let mut wire = Wire::connect(&home).await;
    wire.write(foreign(&head(&home, "GET /mcp/demo", lines))).await;
    for message in [wire.answer().await, stub.next().await] {
        for name in ["connection", "x-a", "x-b", "x-c"] {
            assert_eq!(message.values(name), Vec::<&str>::new(), "{}", message.head);
        }
        assert_eq!(message.values("x-d"), ["4"]);
    }
}

/// An upstream that redirects to where the request's `x-location` says.
async fn redirecting() -> Stub {
    Stub::start(|_, mut wire, _| async move {
        while let Some(request) = wire.request().await {
            let location = request.values("x-location")[0];
            wire.write(format!("HTTP/1.1 307 Temporary Redirect\r\nlocation: {location}\r\ncontent-length: 0\r\n\r\n"))
                .await;
        }
    })
    .await
}

#[tokio::test]
async fn a_redirect_within_the_upstream_leads_through_the_proxy_and_no_other_does() {
    let home = Home::start().await;
    let stub = redirecting().await;
    let origin = &stub.origin;
    home.add("demo", &format!("{origin}/v1/mcp")).await;
    home.add("root", origin).await;
    let within_key = format!("/k/{KEY}/mcp/demo");
    let cases = [
        ("/mcp/demo", "/v1/mcp/".to_owned(), "/mcp/demo/".to_owned()),
        (&within_key, "/v1/mcp/".to_owned(), format!("{within_key}/")),
        ("/mcp/demo", format!("{origin}/v1/mcp/"), "/mcp/demo/".to_owned()),
        ("/mcp/demo", format!("{origin}/v1/mcp/x%2Fy?z=%20#f"), "/mcp/demo/x%2Fy?z=%20#f".to_owned()),
        ("/mcp/demo/x", "/v1/mcp".to_owned(), "/mcp/demo".to_owned()),
        ("/mcp/demo", "/v1/mcp?a=b".to_owned(), "/mcp/demo?a=b".to_owned()),
        ("/mcp/demo/a/b?q=1", "c".to_owned(), "/mcp/demo/a/c".to_owned()),
        ("/mcp/demo", "mcp/".to_owned(), "/mcp/demo/".to_owned()),
        ("/mcp/demo", "/login".to_owned(), format!("{origin}/login")),
        ("/mcp/demo", "/v1/mcpother".to_owned(), format!("{origin}/v1/mcpother")),
        ("/mcp/demo", "..".to_owned(), format!("{origin}/")),
        ("/mcp/demo", "//elsewhere.example/x".to_owned(), "http://elsewhere.example/x".to_owned()),
        ("/mcp/demo", "https://Elsewhere.example".to_owned(), "https://Elsewhere.example".to_owned()),
        ("/mcp/demo", origin.replace("http:", "https:") + "/v1/mcp", origin.replace("http:", "https:") + "/v1/mcp"),
        ("/mcp/demo", "http://[no".to_owned(), "http://[no".to_owned()),
        ("/mcp/root", "/anything?x".to_owned(), "/mcp/root/anything?x".to_owned()),
        ("/mcp/root//x", "/".to_owned(), "/mcp/root/".to_owned()),
    ];
    for (path, location, expected) in cases {
        let request = home.keyed(Method::POST, path).header("x-location", &location).body(Full::default()).unwrap();
        let answer = home.send::<Full<Bytes>>(request).await;
        assert_eq!((answer.status, answer.header("location")), (307, Some(&*expected)), "{path} {location}");
    }
}

#[tokio::test]
async fn a_configured_header_cannot_break_the_framing() {
    let home = Home::start().await;
    let stub = Stub::replying(ok("")).await;
    let pairs =
        [("Content-Length", "1"), ("Transfer-Encoding", "chunked"), ("Connection", "close"), ("X-Tenant", "acme")];
    let headers = pairs.map(|(name, value)| (name.to_owned(), value.to_owned())).into();
    let settings = ServerSettings { headers, ..ServerSettings::new("demo".parse().unwrap(), &stub.origin) };
    home.application.add_server(settings).await.unwrap();
    let request = home.keyed(Method::POST, "/mcp/demo").body(Full::from("the body")).unwrap();
    assert_eq!(home.send(request).await.status, 200);
    let seen = stub.next().await;
    assert_eq!(
        (seen.text().as_str(), seen.values("content-length"), seen.values("x-tenant")),
        ("the body", vec!["8"], vec!["acme"])
    );
    assert_eq!((seen.values("transfer-encoding"), seen.values("connection")), (vec![], vec![]));
}
