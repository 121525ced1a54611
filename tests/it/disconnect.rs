//! A client that closes its stream is gone for the upstream as well, at once. In the modern era of
//! MCP that is how a request is cancelled; in the older one it frees what the server holds.

use std::time::Duration;

use everfresh_e2e::{World, until};
use reqwest::Method;
use serde_json::json;

/// How often each era is tried. The quickest counts: the others may have waited for this machine.
const ROUNDS: usize = 5;

/// Well before the upstream would notice by itself, when it next says that the stream is alive.
const AT_ONCE: Duration = Duration::from_millis(100);

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_closes_its_stream_closes_the_upstreams_at_once() {
    let world = World::with_lifetime(Duration::from_secs(600)).await;
    let daemon = world.daemon().await;
    world.log_in(&daemon, "demo").await;
    let listen = json!({ "jsonrpc": "2.0", "id": 1, "method": "subscriptions/listen", "params": {} });
    let request = |method| daemon.request(method, "/mcp/demo").header("accept", "text/event-stream");
    let modern = request(Method::POST).header("mcp-protocol-version", "2026-07-28").json(&listen);
    let legacy = request(Method::GET).header("mcp-session-id", "session-1");
    for (era, request) in [("modern (POST)", modern), ("legacy (GET)", legacy)] {
        let mut quickest = Duration::MAX;
        for _ in 0..ROUNDS {
            let again = request.try_clone().expect("its body is no stream");
            let mut answer = again.send().await.unwrap();
            assert_eq!(answer.headers()["content-type"], "text/event-stream", "{era}");
            assert_eq!(answer.chunk().await.unwrap().unwrap(), ": open\n\n", "{era}");
            assert_eq!(world.counters().streams_open, 1, "{era}");
            drop(answer);
            let closed = || async { (world.counters().streams_open == 0).then_some(()) };
            let ((), took) = until("the end of the upstream's stream", Duration::from_secs(5), closed).await;
            quickest = quickest.min(took);
        }
        println!("{era}: the upstream's stream was closed {quickest:.1?} after the client's");
        assert!(quickest < AT_ONCE, "{era}: {quickest:?}");
    }
    assert_eq!(daemon.stop().await, 0);
}
