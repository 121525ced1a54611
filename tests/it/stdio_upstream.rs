//! `everfresh stdio` and the server: sessions, streams and cancellation, legacy and modern.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use everfresh_e2e::{Asked, Detached, Reply, Scripted, StdioClient, World, until};
use serde_json::{Value, json};
use tokio::sync::mpsc::{UnboundedSender, unbounded_channel};

const LIMIT: Duration = Duration::from_secs(20);
const MODERN: &str = "2026-07-28";

/// Where a test speaks on a stream that it holds open.
type Streams = Arc<Mutex<Vec<UnboundedSender<String>>>>;

/// The same, by the id of the request.
type Answers = Arc<Mutex<Vec<(Value, UnboundedSender<String>)>>>;

fn opened(asked: &Asked, session: usize) -> Reply {
    let result = json!({ "protocolVersion": asked.message["params"]["protocolVersion"] });
    let answer = json!({ "jsonrpc": "2.0", "id": asked.message["id"], "result": result });
    let headers = [
        "content-type: application/json\r\nmcp-session-id: s-0\r\n",
        "content-type: application/json\r\nmcp-session-id: s-1\r\n",
    ];
    Reply::Whole(200, headers[session], answer.to_string())
}

fn held(streams: &Streams) -> Reply {
    let (sender, events) = unbounded_channel();
    streams.lock().unwrap().push(sender);
    Reply::Stream(events)
}

fn event(id: usize, data: &Value) -> String {
    format!("id: {id}\r\ndata: {data}\r\n\r\n")
}

async fn bridge(scripted: &Scripted) -> (World, Detached, StdioClient) {
    let world = World::with_lifetime(Duration::from_secs(600)).await;
    world.configure(&format!("listen = \"127.0.0.1:0\"\n[servers.scripted]\nurl = \"{}\"\n", scripted.url));
    let (detached, client) = (Detached::of(world.folder()), StdioClient::start(world.folder(), "scripted"));
    (world, detached, client)
}

async fn seen(scripted: &Scripted, what: &str, times: usize) -> Asked {
    let look = || async {
        let found: Vec<Asked> = scripted.seen().into_iter().filter(|asked| asked.what() == what).collect();
        (found.len() >= times).then(|| found.last().unwrap().clone())
    };
    until(what, LIMIT, look).await.0
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_that_the_server_lost_is_opened_again_unseen() {
    let sessions = Arc::new(AtomicUsize::new(0));
    let current = Arc::clone(&sessions);
    let scripted = Scripted::start(move |asked| {
        let number = current.load(Ordering::SeqCst);
        if asked.what() == "POST initialize" {
            return opened(asked, number);
        }
        if asked.header("mcp-session-id") != Some(&*format!("s-{number}")) {
            return Reply::status(404);
        }
        match &*asked.method {
            "GET" => Reply::status(405),
            _ if asked.message["id"].is_null() => Reply::status(202),
            _ => Reply::result(asked, &json!({ "session": number })),
        }
    })
    .await;
    let (_world, _detached, mut client) = bridge(&scripted).await;
    client.open().await;
    assert_eq!(client.call(1, "tools/call", json!({})).await["result"], json!({ "session": 0 }));
    sessions.store(1, Ordering::SeqCst);
    for id in 2..12 {
        client.ask(id, "tools/call", json!({})).await;
    }
    let mut answered = Vec::new();
    for _ in 2..12 {
        let answer = client.hear().await;
        assert_eq!(answer["result"], json!({ "session": 1 }), "{answer}");
        answered.push(answer["id"].as_u64().unwrap());
    }
    answered.sort_unstable();
    assert_eq!(answered, (2..12).collect::<Vec<_>>());
    let openings: Vec<Asked> = scripted.seen().into_iter().filter(|asked| asked.what() == "POST initialize").collect();
    assert_eq!(openings.len(), 2, "one opens it for all");
    assert_eq!(openings[0].message["params"], openings[1].message["params"]);
    assert_eq!(openings[1].header("mcp-session-id"), None);
    let ready = seen(&scripted, "POST notifications/initialized", 2).await;
    assert_eq!(ready.header("mcp-session-id"), Some("s-1"));
    assert_eq!(client.end().await, 0);
    assert_eq!(scripted.seen().last().unwrap().header("mcp-session-id"), Some("s-1"), "the last one is ended");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_server_speaks_by_itself_and_is_answered() {
    let streams = Streams::default();
    let own = Arc::clone(&streams);
    let scripted = Scripted::start(move |asked| match &*asked.what() {
        "POST initialize" => opened(asked, 0),
        "GET" => held(&own),
        _ => Reply::status(202),
    })
    .await;
    let (_world, _detached, mut client) = bridge(&scripted).await;
    client.open().await;
    let listening = seen(&scripted, "GET", 1).await;
    assert_eq!((listening.header("mcp-session-id"), listening.header("last-event-id")), (Some("s-0"), None));
    let question = json!({ "jsonrpc": "2.0", "id": "q", "method": "elicitation/create", "params": {} });
    streams.lock().unwrap()[0].send(format!("retry: 10\n\n{}", event(41, &question))).unwrap();
    assert_eq!(client.hear().await, question);
    client.say(&json!({ "jsonrpc": "2.0", "id": "q", "result": { "action": "accept" } })).await;
    let answered = || async { scripted.seen().into_iter().find(|asked| asked.message["result"]["action"] == "accept") };
    let (answer, _) = until("the client's answer", LIMIT, answered).await;
    assert_eq!((answer.header("mcp-session-id"), &answer.message["id"]), (Some("s-0"), &json!("q")));
    // The stream breaks, and goes on where it was.
    streams.lock().unwrap().clear();
    assert_eq!(seen(&scripted, "GET", 2).await.header("last-event-id"), Some("41"));
    let changed = json!({ "jsonrpc": "2.0", "method": "notifications/tools/list_changed" });
    streams.lock().unwrap()[0].send(event(42, &changed)).unwrap();
    assert_eq!(client.hear().await, changed);
    assert_eq!(client.end().await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_whose_stream_broke_is_taken_up_where_it_was() {
    let streams = Streams::default();
    let own = Arc::clone(&streams);
    let scripted = Scripted::start(move |asked| match &*asked.what() {
        "POST initialize" => opened(asked, 0),
        "GET" if asked.header("last-event-id").is_none() => Reply::status(405),
        "GET" | "POST tools/call" => held(&own),
        _ => Reply::status(202),
    })
    .await;
    let (_world, detached, mut client) = bridge(&scripted).await;
    client.open().await;
    client.ask(1, "tools/call", json!({})).await;
    seen(&scripted, "POST tools/call", 1).await;
    let progress = json!({ "jsonrpc": "2.0", "method": "notifications/progress", "params": { "progress": 1 } });
    streams.lock().unwrap()[0].send(format!("retry: 10\nid: 6\ndata:\n\n{}", event(7, &progress))).unwrap();
    assert_eq!(client.hear().await, progress);
    // Not only the stream: the daemon as well.
    detached.kill().await;
    streams.lock().unwrap().clear();
    let resumed = || async { scripted.seen().into_iter().find(|asked| asked.header("last-event-id") == Some("7")) };
    until("the stream is taken up", LIMIT, resumed).await;
    let answer = json!({ "jsonrpc": "2.0", "id": 1, "result": { "done": true } });
    until("the stream", LIMIT, || async {
        streams.lock().unwrap().last().map(|stream| stream.send(event(8, &answer)).unwrap())
    })
    .await;
    assert_eq!(client.hear().await, answer);
    assert_eq!(scripted.story().iter().filter(|what| *what == "POST tools/call").count(), 1);
    assert_eq!(client.end().await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_modern_client_has_no_session_and_cancels_by_closing() {
    let streams = Streams::default();
    let own = Arc::clone(&streams);
    let tool = json!({ "name": "say", "inputSchema": { "properties": { "region": { "type": "string", "x-mcp-header": "Region" } } } });
    let scripted = Scripted::start(move |asked| match &*asked.what() {
        "POST tools/list" => Reply::result(asked, &json!({ "tools": [tool] })),
        "POST tools/call" => held(&own),
        "POST server/discover" => {
            let refused = json!({ "jsonrpc": "2.0", "id": null, "error": { "code": -32022, "message": "no", "data": { "supported": [MODERN] } } });
            Reply::Whole(400, "content-type: application/json\r\n", refused.to_string())
        }
        _ => Reply::status(500),
    })
    .await;
    let (_world, _detached, mut client) = bridge(&scripted).await;
    let meta = json!({ "io.modelcontextprotocol/protocolVersion": MODERN });
    let refused = client.call(1, "server/discover", json!({ "_meta": meta })).await;
    assert_eq!((&refused["error"]["code"], &refused["error"]["data"]["supported"]), (&json!(-32022), &json!([MODERN])));
    client.call(2, "tools/list", json!({ "_meta": meta })).await;
    let call = json!({ "_meta": meta, "name": "say", "arguments": { "region": "é" } });
    client.ask(3, "tools/call", call.clone()).await;
    client.ask("four", "tools/call", call).await;
    let asked = seen(&scripted, "POST tools/call", 2).await;
    for (name, value) in [
        ("mcp-protocol-version", Some(MODERN)),
        ("mcp-method", Some("tools/call")),
        ("mcp-name", Some("say")),
        ("mcp-param-region", Some("=?base64?w6k=?=")),
        ("mcp-session-id", None),
    ] {
        assert_eq!(asked.header(name), value, "{name}");
    }
    let cancelled = json!({ "jsonrpc": "2.0", "method": "notifications/cancelled", "params": { "requestId": 3 } });
    client.say(&cancelled).await;
    until("the stream's end", LIMIT, || async { (scripted.streams_closed() == 1).then_some(()) }).await;
    let late = json!({ "jsonrpc": "2.0", "id": "four", "result": { "content": [] } });
    for stream in streams.lock().unwrap().iter() {
        // The one that was cancelled has nobody to hear it.
        drop(stream.send(event(1, &late)));
    }
    assert_eq!(client.hear().await, late);
    assert_eq!(client.end().await, 0);
    let story = scripted.story();
    assert_eq!(
        story,
        ["POST server/discover", "POST tools/list", "POST tools/call", "POST tools/call"],
        "no GET, no DELETE"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_legacy_server_is_told_of_a_cancellation() {
    let streams = Streams::default();
    let own = Arc::clone(&streams);
    let scripted = Scripted::start(move |asked| match &*asked.what() {
        "POST initialize" => opened(asked, 0),
        "POST tools/call" => held(&own),
        "GET" => Reply::status(405),
        _ => Reply::status(202),
    })
    .await;
    let (_world, _detached, mut client) = bridge(&scripted).await;
    client.open().await;
    client.ask(1, "tools/call", json!({})).await;
    seen(&scripted, "POST tools/call", 1).await;
    client.say(&json!({ "jsonrpc": "2.0", "method": "notifications/cancelled", "params": { "requestId": 1 } })).await;
    let told = seen(&scripted, "POST notifications/cancelled", 1).await;
    assert_eq!((told.header("mcp-session-id"), &told.message["params"]["requestId"]), (Some("s-0"), &json!(1)));
    assert_eq!(client.end().await, 0, "and nobody waits for the answer");
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_are_under_way_side_by_side_and_bounded() {
    let streams = Answers::default();
    let own = Arc::clone(&streams);
    let scripted = Scripted::start(move |asked| {
        let (sender, events) = unbounded_channel();
        own.lock().unwrap().push((asked.message["id"].clone(), sender));
        Reply::Stream(events)
    })
    .await;
    let (_world, _detached, mut client) = bridge(&scripted).await;
    for id in 0..256 {
        client.ask(id, "tools/call", json!({})).await;
    }
    client.ask("one too many", "tools/call", json!({})).await;
    let refused = client.hear().await;
    assert_eq!((&refused["id"], &refused["error"]["code"]), (&json!("one too many"), &json!(-32001)), "{refused}");
    until("all of them", LIMIT, || async { (streams.lock().unwrap().len() == 256).then_some(()) }).await;
    let asked: Vec<_> = streams.lock().unwrap().drain(..).collect();
    // The last one is answered first.
    for (id, stream) in asked.iter().rev() {
        stream.send(event(1, &json!({ "jsonrpc": "2.0", "id": id, "result": {} }))).unwrap();
    }
    let mut answered = Vec::new();
    for _ in 0..256 {
        answered.push(client.hear().await["id"].as_u64().unwrap());
    }
    answered.sort_unstable();
    assert_eq!(answered, (0..256).collect::<Vec<u64>>());
    assert_eq!(client.end().await, 0);
}
