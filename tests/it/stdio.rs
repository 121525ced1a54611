//! `everfresh stdio` and its daemon: found, started, killed, and come back.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use everfresh_e2e::{Daemon, Detached, Reply, Scripted, StdioClient, World, until};
use serde_json::{Value, json};
use tokio::sync::mpsc;

const LIMIT: Duration = Duration::from_secs(20);

/// A folder whose daemon listens on a free port and knows the protected server as `demo` and
/// `scripted` by that name.
async fn world(scripted: Option<&Scripted>) -> World {
    let world = World::with_lifetime(Duration::from_secs(600)).await;
    let more = scripted.map_or_else(String::new, |server| format!("[servers.scripted]\nurl = \"{}\"\n", server.url));
    world.configure(&format!("listen = \"127.0.0.1:0\"\n[servers.demo]\nurl = \"{}\"\n{more}", world.upstream.url()));
    world
}

/// A server that answers `echo` at once and `hang` never, in sessions that it never loses.
async fn patient() -> Scripted {
    let hanging: Mutex<Vec<mpsc::UnboundedSender<String>>> = Mutex::default();
    Scripted::start(move |asked| match (&*asked.method, asked.message["method"].as_str()) {
        ("POST", Some("initialize")) => {
            let version = asked.message["params"]["protocolVersion"].clone();
            let answer =
                json!({ "jsonrpc": "2.0", "id": asked.message["id"], "result": { "protocolVersion": version } });
            Reply::Whole(200, "content-type: application/json\r\nmcp-session-id: s-1\r\n", answer.to_string())
        }
        ("POST", Some("hang")) => {
            let (sender, events) = mpsc::unbounded_channel();
            hanging.lock().unwrap().push(sender);
            Reply::Stream(events)
        }
        ("POST", Some(_)) if asked.message["id"].is_null() => Reply::status(202),
        ("POST", Some(_)) => Reply::result(asked, &asked.message["params"]),
        ("GET", _) => Reply::status(405),
        _ => Reply::status(200),
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_daemon_is_started_and_outlives_the_client() {
    let scripted = patient().await;
    let world = world(Some(&scripted)).await;
    let detached = Detached::of(world.folder());
    let mut client = StdioClient::start(world.folder(), "demo");
    // Nobody has logged in: what the daemon says about it arrives as it is.
    let refused = client.call(7, "initialize", json!({ "protocolVersion": "2025-06-18" })).await;
    assert_eq!(refused["error"]["code"], -32001, "{refused}");
    let data = &refused["error"]["data"];
    assert_eq!((&data["reason"], &data["command"]), (&json!("login_required"), &json!("everfresh login demo")));
    assert_eq!(client.end().await, 0);
    assert!(detached.is_alive().await, "it goes on without the client");
    assert!(detached.log().contains("listening"), "{}", detached.log());
    let pid = detached.pid();
    let mut other = StdioClient::start(world.folder(), "scripted");
    assert_eq!(other.call("a", "echo", json!({ "x": 1 })).await["result"], json!({ "x": 1 }));
    assert_eq!(other.end().await, 0);
    assert_eq!(detached.pid(), pid, "the next client uses the same");
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;

        let mode = std::fs::metadata(world.folder().join("data/daemon.log")).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn clients_that_start_at_once_share_one_daemon() {
    let scripted = patient().await;
    let world = world(Some(&scripted)).await;
    let detached = Detached::of(world.folder());
    let mut clients: Vec<StdioClient> = (0..6).map(|_| StdioClient::start(world.folder(), "scripted")).collect();
    for (number, client) in clients.iter_mut().enumerate() {
        client.ask(number, "echo", json!({ "n": number })).await;
    }
    for (number, mut client) in clients.into_iter().enumerate() {
        assert_eq!(client.hear().await["result"], json!({ "n": number }));
        assert_eq!(client.end().await, 0);
    }
    assert!(detached.is_alive().await);
    let ready = detached.log().matches("\"message\":\"listening\"").count();
    assert_eq!(ready, 1, "{}", detached.log());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_daemon_that_cannot_start_is_told_in_words_and_exit_code() {
    let world = world(None).await;
    world.configure("listen = 7\n");
    let ran = world.run(&["stdio", "demo"]).await.expect(2);
    assert!(ran.stdout.is_empty() && ran.stderr.contains("config.toml:1"), "{ran:?}");
    world.run(&["stdio", "No Name"]).await.expect(5);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_daemon_costs_what_was_under_way_and_no_session() {
    let scripted = patient().await;
    let world = world(Some(&scripted)).await;
    let daemon = Daemon::start(world.folder(), 0).await;
    let mut client = StdioClient::start(world.folder(), "scripted");
    client.open().await;
    client.ask(1, "hang", json!({})).await;
    until("the request", LIMIT, || async { scripted.story().contains(&"POST hang".to_owned()).then_some(()) }).await;
    daemon.kill().await;
    let lost = client.hear().await;
    assert_eq!((&lost["id"], &lost["error"]["data"]["reason"]), (&json!(1), &json!("answer_lost")), "{lost}");
    // Back at another port, before the bridge starts one of its own.
    let daemon = Daemon::start(world.folder(), 0).await;
    assert_eq!(client.call(2, "echo", json!({ "x": 2 })).await["result"], json!({ "x": 2 }));
    let seen = scripted.seen();
    assert_eq!(seen.iter().filter(|asked| asked.what() == "POST initialize").count(), 1, "{:?}", scripted.story());
    assert_eq!(seen.iter().filter(|asked| asked.what() == "POST hang").count(), 1, "nothing is sent twice");
    let last = seen.iter().rfind(|asked| asked.what() == "POST echo").unwrap();
    assert_eq!((last.header("mcp-session-id"), last.header("mcp-protocol-version")), (Some("s-1"), Some("2025-06-18")));
    assert_eq!(daemon.stop().await, 0);
    // Nobody brings it back: the bridge does.
    let detached = Detached::of(world.folder());
    assert_eq!(client.call(3, "echo", json!({ "x": 3 })).await["result"], json!({ "x": 3 }));
    assert!(detached.is_alive().await);
    assert_eq!(client.end().await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_that_changes_nothing_is_asked_again_after_a_kill() {
    let first = Arc::new(Mutex::new(Vec::new()));
    let scripted = Scripted::start(move |asked| {
        let mut first = first.lock().unwrap();
        if asked.what() == "POST tools/list" && first.is_empty() {
            let (sender, events) = mpsc::unbounded_channel();
            first.push(sender);
            return Reply::Stream(events);
        }
        Reply::result(asked, &json!({ "tools": [] }))
    })
    .await;
    let world = world(Some(&scripted)).await;
    let detached = Detached::of(world.folder());
    let mut client = StdioClient::start(world.folder(), "scripted");
    client.ask(1, "tools/list", json!({})).await;
    until("the request", LIMIT, || async { (scripted.story().len() == 1).then_some(()) }).await;
    detached.kill().await;
    assert_eq!(client.hear().await["result"], json!({ "tools": [] }));
    assert_eq!(scripted.story(), ["POST tools/list", "POST tools/list"]);
    assert_eq!(client.end().await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_hangs_up_gets_its_answers_first_and_a_signal_ends_at_once() {
    let (release, held) = (Arc::new(Mutex::new(Vec::<mpsc::UnboundedSender<String>>::new())), Arc::default());
    let kept: Arc<Mutex<Vec<Value>>> = Arc::clone(&held);
    let senders = Arc::clone(&release);
    let scripted = Scripted::start(move |asked| match &*asked.method {
        "DELETE" => Reply::status(200),
        "GET" => Reply::status(405),
        _ if asked.what() == "POST initialize" => {
            let answer =
                json!({ "jsonrpc": "2.0", "id": asked.message["id"], "result": { "protocolVersion": "2025-06-18" } });
            Reply::Whole(200, "content-type: application/json\r\nmcp-session-id: s-1\r\n", answer.to_string())
        }
        _ if asked.message["id"].is_null() => Reply::status(202),
        _ => {
            let (sender, events) = mpsc::unbounded_channel();
            senders.lock().unwrap().push(sender);
            kept.lock().unwrap().push(asked.message["id"].clone());
            Reply::Stream(events)
        }
    })
    .await;
    let world = world(Some(&scripted)).await;
    let _detached = Detached::of(world.folder());
    let mut client = StdioClient::start(world.folder(), "scripted");
    client.open().await;
    client.ask(5, "slow", json!({})).await;
    client.hang_up();
    until("the request", LIMIT, || async { (held.lock().unwrap().len() == 1).then_some(()) }).await;
    let answer = "data: {\"jsonrpc\":\"2.0\",\"id\":5,\"result\":{}}\n\n".to_owned();
    release.lock().unwrap()[0].send(answer).unwrap();
    assert_eq!(client.hear().await["id"], 5);
    assert_eq!(client.ended().await, 0);
    let story = scripted.story();
    assert_eq!(story.last().map(String::as_str), Some("DELETE"), "{story:?}");
    assert_eq!(scripted.seen().last().unwrap().header("mcp-session-id"), Some("s-1"));

    let closed = scripted.streams_closed();
    let mut client = StdioClient::start(world.folder(), "scripted");
    client.open().await;
    client.ask(6, "slow", json!({})).await;
    until("the request", LIMIT, || async { (held.lock().unwrap().len() == 2).then_some(()) }).await;
    let sent = std::process::Command::new("kill").args(["-TERM", &client.pid().to_string()]).status();
    assert!(sent.unwrap().success());
    assert_eq!(client.ended().await, 0);
    assert_eq!(scripted.story().last().map(String::as_str), Some("DELETE"));
    until("the end of the request's stream", LIMIT, || async { (scripted.streams_closed() > closed).then_some(()) })
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn whatever_a_client_writes_stdout_stays_clean() {
    let scripted = patient().await;
    let world = world(Some(&scripted)).await;
    let _detached = Detached::of(world.folder());
    let mut client = StdioClient::start(world.folder(), "scripted");
    for (line, code) in
        [("nonsense", -32700), ("{\"jsonrpc\":", -32700), ("[1]", -32600), ("{}", -32600), ("7", -32600)]
    {
        client.write(line).await;
        let answer = client.hear().await;
        assert_eq!((&answer["id"], &answer["error"]["code"]), (&Value::Null, &json!(code)), "{line}");
    }
    client.write("\n\r\n   ").await;
    let text = "x".repeat(8 << 20);
    let answer = client.call("large", "echo", json!({ "text": text })).await;
    assert_eq!(answer["result"]["text"].as_str().map(str::len), Some(8 << 20));
    client
        .write("[{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"a\"},{\"jsonrpc\":\"2.0\",\"id\":2,\"method\":\"b\"}]")
        .await;
    let mut told = [client.hear().await, client.hear().await].map(|answer| answer["id"].clone());
    told.sort_by_key(Value::to_string);
    assert_eq!(told, [1, 2], "a server that takes no batch leaves nobody waiting");
    client.ask(9, "echo", json!({ "last": true })).await;
    assert_eq!(client.hear().await["result"], json!({ "last": true }));
    assert_eq!(client.end().await, 0);
}
