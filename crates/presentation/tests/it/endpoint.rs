//! HTTP+SSE servers (MCP 2024-11-05): their endpoint leads through here, and nowhere else.

use bytes::Bytes;
use http::Method;
use http_body_util::{BodyExt, Full};
use serde_json::json;

use crate::home::{Home, KEY, within};
use crate::stub::{Stub, ok};
use crate::wire::{Answer, Message, Wire, call, head};

const STREAM: &str = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n";

/// An upstream whose streams are this text, with its own origin in the place of `{origin}`, and
/// which takes whatever is posted.
async fn legacy(stream: impl Into<String>) -> Stub {
    let stream: String = stream.into();
    Stub::start(move |_, mut wire, teller| {
        let stream = stream.clone();
        async move {
            while let Some(request) = wire.request().await {
                let is_stream = request.head.starts_with("GET ");
                let stream = stream.replace("{origin}", &format!("http://{}", request.values("host")[0]));
                drop(teller.send(request));
                if is_stream {
                    let length = stream.len();
                    wire.write(format!("{STREAM}content-length: {length}\r\n\r\n{stream}")).await;
                } else {
                    wire.write("HTTP/1.1 202 Accepted\r\ncontent-length: 0\r\n\r\n").await;
                }
            }
        }
    })
    .await
}

fn endpoint(url: &str) -> String {
    format!("event: endpoint\ndata: {url}\n\n")
}

/// The endpoint that a client reads in the stream at `path`.
async fn announced(home: &Home, path: &str) -> String {
    let answer = home.get(path).await;
    let text = String::from_utf8(answer.body.to_vec()).unwrap();
    assert_eq!(answer.header("content-length"), None, "the length is another");
    let data = text.strip_prefix("event: endpoint\ndata: ").and_then(|rest| rest.strip_suffix("\n\n"));
    data.unwrap_or_else(|| panic!("{text:?}")).to_owned()
}

async fn post(home: &Home, path: &str) -> Answer {
    home.post(path, &call(1, "add")).await
}

fn request_line(message: &Message) -> &str {
    message.head.lines().next().unwrap()
}

#[tokio::test]
async fn a_client_posts_through_here_wherever_the_endpoint_is() {
    let home = Home::start().await;
    for (number, (url, announces, asked)) in [
        ("/sse", "/messages?sessionId=7&x=%20", "/messages?sessionId=7&x=%20"),
        ("/sse", "messages/7", "/messages/7"),
        ("/a/sse?tenant=1", "?session=7", "/a/sse?session=7"),
        ("/a/sse", "../b%2Fc/m", "/b%2Fc/m"),
        ("/sse", "{origin}/deep/messages?s=7", "/deep/messages?s=7"),
        ("", "/", "/"),
    ]
    .into_iter()
    .enumerate()
    {
        let (name, stub) = (format!("legacy-{number}"), legacy(endpoint(announces)).await);
        home.add(&name, &format!("{}{url}", stub.origin)).await;
        let path = announced(&home, &format!("/mcp/{name}")).await;
        assert!(path.starts_with(&format!("/mcp/{name}/.endpoint/")), "{path}");
        assert_eq!(path.split_once('?').map(|(_, query)| query), asked.split_once('?').map(|(_, query)| query));
        stub.next().await;
        assert_eq!(post(&home, &path).await.status, 202, "{announces}");
        let posted = stub.next().await;
        assert_eq!(request_line(&posted), format!("POST {asked} HTTP/1.1"), "{announces}");
        assert_eq!(posted.values("authorization").len(), 1, "the token is added");
        assert_eq!(posted.body, call(1, "add").to_string().into_bytes());
    }
}

#[tokio::test]
async fn a_client_with_the_key_in_its_path_keeps_it_there() {
    let home = Home::start().await;
    let stub = legacy(endpoint("/messages?s=1")).await;
    home.add("demo", &format!("{}/sse", stub.origin)).await;
    let place = format!("/k/{KEY}/mcp/demo");
    let request = home.bare(Method::GET, &place).body(Full::<Bytes>::default()).unwrap();
    let text = String::from_utf8(home.send(request).await.body.to_vec()).unwrap();
    let path = text.lines().find_map(|line| line.strip_prefix("data: ")).unwrap();
    assert!(path.starts_with(&format!("{place}/.endpoint/")), "{path}");
    stub.next().await;
    let request = home.bare(Method::POST, path).body(Full::from("{}")).unwrap();
    assert_eq!(home.send(request).await.status, 202);
    assert_eq!(request_line(&stub.next().await), "POST /messages?s=1 HTTP/1.1");
}

#[tokio::test]
async fn the_endpoint_is_found_across_every_boundary_of_chunks() {
    let home = Home::start().await;
    let stream = "\u{feff}: hi\r\n\r\nevent: endpoint\r\ndata: /m\r\n\r\ndata: {}\r\n\r\n".as_bytes();
    let stub = Stub::start(move |_, mut wire, _| async move {
        let mut cut = 1;
        while wire.request().await.is_some() {
            let mut answer = format!("{STREAM}transfer-encoding: chunked\r\n\r\n").into_bytes();
            for piece in [&stream[..cut], &stream[cut..]] {
                answer.extend(format!("{:x}\r\n", piece.len()).bytes().chain(piece.iter().copied()).chain(*b"\r\n"));
            }
            answer.extend(b"0\r\n\r\n");
            wire.write(answer).await;
            cut += 1;
        }
    })
    .await;
    home.add("demo", &format!("{}/sse", stub.origin)).await;
    let whole = home.get("/mcp/demo").await.body;
    assert!(whole.starts_with("\u{feff}: hi\r\n\r\nevent: endpoint\r\ndata: /mcp/demo/.endpoint/".as_bytes()));
    assert!(whole.ends_with(b"\r\n\r\ndata: {}\r\n\r\n"), "{whole:?}");
    for cut in 2..stream.len() {
        assert_eq!(home.get("/mcp/demo").await.body, whole, "cut at {cut}");
    }
}

#[tokio::test]
async fn the_endpoint_comes_at_once_and_the_rest_as_it_comes() {
    let home = Home::start().await;
    let stub = Stub::start(|_, mut wire, teller| async move {
        wire.request().await.unwrap();
        wire.write(format!("{STREAM}transfer-encoding: chunked\r\n\r\n1d\r\nevent: endpoint\ndata: /m?s=1\n\r\n"))
            .await;
        wire.write("1\r\n\n\r\n").await;
        drop(teller.send(Message::default()));
        wire.write("9\r\ndata: {}\n\r\n").await;
        drop(teller.send(Message { body: wire.rest().await, ..Message::default() }));
    })
    .await;
    home.add("demo", &stub.origin).await;
    let mut body = home.open(home.keyed(Method::GET, "/mcp/demo").body(Full::<Bytes>::default()).unwrap()).await;
    let mut next = async || within("a frame", body.body_mut().frame()).await.unwrap().unwrap().into_data().unwrap();
    assert!(next().await.starts_with(b"event: endpoint\ndata: /mcp/demo/.endpoint/"));
    assert_eq!(next().await, "data: {}\n");
    stub.next().await;
    drop(body);
    assert_eq!(stub.next().await.body, b"", "the upstream sees the end");
}

#[tokio::test]
async fn an_endpoint_of_another_origin_reaches_nobody() {
    let home = Home::start().await;
    let others =
        ["https://evil.example/m", "//evil.example/m", "\\\\evil.example/m", "ftp://127.0.0.1/", "http://", "data:x"];
    for (number, other) in others.into_iter().enumerate() {
        let stub = legacy(format!(": hi\n\n{}", endpoint(other))).await;
        let name = format!("legacy-{number}");
        home.add(&name, &format!("{}/sse", stub.origin)).await;
        let mut wire = Wire::connect(&home).await;
        wire.write(head(&home, &format!("GET /mcp/{name}"), "")).await;
        let text = String::from_utf8(wire.rest().await).unwrap();
        // What came together with the cut may be lost with it, and the head too.
        assert!(text.is_empty() || text.starts_with("HTTP/1.1 200"), "{other}: {text}");
        assert!(!text.contains("event: endpoint") && !text.ends_with("0\r\n\r\n"), "{other}: {text}");
        assert!(request_line(&stub.next().await).starts_with("GET /sse"), "{other}");
    }
}

#[tokio::test]
async fn only_what_was_announced_to_this_login_can_be_posted_to() {
    let home = Home::start().await;
    let (stub, other) = (legacy(endpoint("/messages")).await, legacy(endpoint("/messages")).await);
    home.add("demo", &format!("{}/sse", stub.origin)).await;
    home.add("other", &format!("{}/sse", other.origin)).await;
    let path = announced(&home, "/mcp/demo").await;
    stub.next().await;
    let sealed = path.rsplit('/').next().unwrap();
    let mut forged = sealed.to_owned();
    forged.replace_range(..1, if sealed.starts_with('A') { "B" } else { "A" });
    let longer = format!("{sealed}AAAA");
    for sealed in ["", "AAAA", "L2FkbWlu", &forged, &longer, &sealed[..20], "%2e%2e"] {
        post(&home, &format!("/mcp/demo/.endpoint/{sealed}")).await.expect_problem(410, "endpoint-gone");
    }
    post(&home, &format!("/mcp/other/.endpoint/{sealed}")).await.expect_problem(410, "endpoint-gone");
    home.get(&path).await.expect_problem(410, "endpoint-gone");
    assert_eq!((stub.pending().await, other.pending().await), (0, 0), "nothing was sent anywhere");
    assert_eq!(post(&home, &path).await.status, 202);
}

#[tokio::test]
async fn who_posts_to_an_endpoint_without_a_token_learns_it_from_the_status() {
    let home = Home::start().await;
    let stub = legacy(endpoint("/messages")).await;
    home.add("demo", &format!("{}/sse", stub.origin)).await;
    let path = announced(&home, "/mcp/demo").await;
    home.application.logout(&"demo".parse().unwrap()).await.unwrap();
    // The answer to a post is read by nobody but for its status: answers come over the stream.
    post(&home, &path).await.expect_problem(503, "login-needed");
}

#[tokio::test]
async fn other_answers_are_not_looked_at() {
    let home = Home::start().await;
    let event = endpoint("/messages");
    let types = ["text/plain", "text/event-streams", "application/json", "text/event-stream\r\ncontent-encoding: br"];
    for (number, content_type) in types.into_iter().enumerate() {
        let (name, length) = (format!("plain-{number}"), event.len());
        let answer =
            format!("HTTP/1.1 200 OK\r\ncontent-type: {content_type}\r\ncontent-length: {length}\r\n\r\n{event}");
        home.add(&name, &Stub::replying(answer).await.origin).await;
        let answer = home.get(&format!("/mcp/{name}")).await;
        assert_eq!((answer.body, answer.headers["content-length"].to_str().unwrap()), (event.clone().into(), "33"));
    }
    let stub = Stub::replying(format!("{STREAM}content-length: 33\r\n\r\n{event}")).await;
    home.add("posted", &stub.origin).await;
    assert_eq!(home.post("/mcp/posted", &json!({})).await.body, event);
}

#[tokio::test]
async fn a_stream_is_asked_for_in_the_clear() {
    let home = Home::start().await;
    let stub = Stub::replying(ok("")).await;
    home.add("demo", &stub.origin).await;
    for (method, accept, encoding) in [
        (Method::GET, "text/event-stream", "identity"),
        (Method::GET, "application/json, text/event-stream;q=0.5", "identity"),
        (Method::GET, "application/json", "gzip, br"),
        (Method::POST, "text/event-stream", "gzip, br"),
    ] {
        let request = home.keyed(method, "/mcp/demo").header("accept", accept).header("accept-encoding", "gzip, br");
        home.send(request.body(Full::<Bytes>::default()).unwrap()).await;
        assert_eq!(stub.next().await.values("accept-encoding"), [encoding], "{accept}");
    }
}
