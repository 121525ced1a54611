//! The key that `everfresh connect` gives a client: its own, no wider than its file, gone with the last
//! server.

use everfresh_e2e::daemon::client;
use everfresh_testkit::canary;
use reqwest::Method;
use serde_json::{Value, json};

use crate::connect::{Stage, read};

const FILE: &str = ".cursor/mcp.json";

/// What a server's entry in Cursor's file shows.
fn shown(stage: &Stage, server: &str) -> String {
    let file: Value = serde_json::from_str(&read(&stage.path(FILE))).unwrap();
    let header = file["mcpServers"][server]["headers"]["Authorization"].as_str().unwrap_or_default();
    let key = header.strip_prefix("Bearer ").unwrap_or_else(|| panic!("no key for {server}: {file}")).to_owned();
    canary::keep(&key);
    key
}

/// The status of a request with `key`.
async fn asked(stage: &Stage, method: Method, path: &str, key: &str) -> u16 {
    let request = client().request(method, format!("{}{path}", stage.daemon.base_url)).bearer_auth(key);
    request.send().await.unwrap().status().as_u16()
}

/// Names and servers of the limited keys.
async fn keys(stage: &Stage) -> Value {
    let listed = stage.world.run(&["key", "list", "-o", "json"]).await.expect(0).json();
    let keys = listed["keys"].as_array().unwrap().iter().map(|key| json!([key["name"], key["servers"]]));
    keys.collect()
}

fn full_key(stage: &Stage) -> String {
    read(&stage.world.folder().join("data/local-key")).trim().to_owned()
}

/// A stage with a second server, `other`.
async fn stage() -> Stage {
    let stage = Stage::new().await;
    stage.world.run(&["add", "other", &stage.world.upstream.url(), "--no-login"]).await.expect(0);
    stage
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_has_a_key_for_its_servers_and_for_nothing_else() {
    let stage = stage().await;
    stage.connect("cursor demo").await.expect(0);
    let key = shown(&stage, "demo");
    assert!(key.starts_with("efk_"), "a limited key");
    let refused = [
        (Method::GET, "/api/v1/servers"),
        (Method::GET, "/api/v1/servers/demo/token"),
        (Method::POST, "/api/v1/servers/demo/logout"),
        (Method::POST, "/api/v1/keys"),
        (Method::PATCH, "/api/v1/keys/cursor"),
        (Method::GET, "/events"),
        (Method::DELETE, "/mcp/other"),
    ];
    for (method, path) in refused {
        assert_eq!(asked(&stage, method, path, &key).await, 403, "{path}");
    }
    assert_eq!(asked(&stage, Method::DELETE, "/mcp/demo", &key).await, 200);
    assert_eq!(keys(&stage).await, json!([["cursor", ["demo"]]]));
    let listed = stage.world.run(&["key", "list"]).await.expect(0).stdout;
    assert!(listed.contains("cursor: ") && listed.contains("mcp.json"), "{listed}");
    // Another server is opened to the same key, and shut again when it is taken out.
    stage.connect("cursor other").await.expect(0);
    assert_eq!((shown(&stage, "demo"), shown(&stage, "other")), (key.clone(), key.clone()));
    assert_eq!(keys(&stage).await, json!([["cursor", ["demo", "other"]]]));
    assert_ne!(asked(&stage, Method::DELETE, "/mcp/other", &key).await, 403);
    stage.connect("--remove cursor other").await.expect(0);
    assert_eq!(keys(&stage).await, json!([["cursor", ["demo"]]]));
    assert_eq!(asked(&stage, Method::DELETE, "/mcp/other", &key).await, 403);
    // A program in place of the URL needs no key.
    let ran = stage.connect("cursor demo --transport stdio").await.expect(0);
    assert!(ran.stderr.contains("its key cursor is removed"), "{ran:?}");
    assert_eq!((keys(&stage).await, asked(&stage, Method::DELETE, "/mcp/demo", &key).await), (json!([]), 403));
    stage.connect("cursor --all --transport http").await.expect(0);
    stage.connect("--remove cursor --all").await.expect(0);
    assert_eq!(keys(&stage).await, json!([]));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_with_the_full_key_gets_one_of_its_own_in_every_entry() {
    let stage = stage().await;
    let (full, base_url) = (full_key(&stage), &stage.daemon.base_url);
    let foreign = "efk_".to_owned() + &"0".repeat(64);
    let before = json!({ "mcpServers": {
        "demo": { "url": format!("{base_url}/mcp/demo"), "headers": { "Authorization": format!("Bearer {full}") } },
        "other": { "url": format!("{base_url}/k/{full}/mcp/other"), "timeout": 9 },
        "elsewhere": { "url": "http://127.0.0.1:9/mcp/x", "headers": { "Authorization": format!("Bearer {foreign}") } },
    } });
    stage.write(FILE, &before.to_string());
    let overview = stage.connect("").await.expect(0).stdout;
    assert!(overview.contains("with the full local key"), "{overview}");
    let told = stage.connect("cursor demo --transport stdio --dry-run").await.expect(0);
    assert!(!told.stdout.contains(&full) && told.stdout.contains("Bearer <key>"), "{told:?}");
    let ran = stage.connect("cursor demo").await.expect(0);
    assert!(ran.stdout.contains("demo is connected anew") && ran.stdout.contains("other is connected anew"), "{ran:?}");
    assert!(ran.stderr.contains("everfresh key rotate"), "{ran:?}");
    let key = shown(&stage, "demo");
    assert_eq!((shown(&stage, "other"), shown(&stage, "elsewhere")), (key.clone(), foreign), "no other daemon's");
    assert!(!read(&stage.path(FILE)).contains(&full));
    assert_eq!(keys(&stage).await, json!([["cursor", ["demo", "other"]]]));
    // The local key is another from here on; the client notices nothing.
    let rotated = stage.daemon.run(&["key", "rotate"]).await.expect(0);
    canary::keep(rotated.stdout.trim());
    assert_eq!(asked(&stage, Method::DELETE, "/mcp/demo", &key).await, 200);
    let again = stage.connect("cursor demo").await.expect(0);
    assert!(again.stdout.contains("already connected") && !again.stderr.contains("key rotate"), "{again:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_whose_secret_was_lost_is_made_anew_and_a_name_that_is_taken_is_left() {
    let stage = stage().await;
    let own = stage.daemon.run(&["key", "add", "cursor", "--server", "other"]).await.expect(0);
    canary::keep(own.stdout.trim());
    // What is there where a run dies between the key and the file.
    let folder = stage.home.path().canonicalize().unwrap();
    let holder = json!({ "client": "cursor", "file": folder.join(FILE) });
    let wish = json!({ "name": "cursor-2", "servers": ["other"], "holder": holder });
    let made = stage.daemon.request(Method::POST, "/api/v1/keys").json(&wish).send().await.unwrap();
    assert_eq!(made.status(), 201);
    let lost = made.json::<Value>().await.unwrap()["secret"].as_str().unwrap().to_owned();
    canary::keep(&lost);
    stage.connect("cursor demo").await.expect(0);
    let key = shown(&stage, "demo");
    assert_eq!(keys(&stage).await, json!([["cursor", ["other"]], ["cursor-2", ["demo"]]]));
    assert_eq!(asked(&stage, Method::GET, "/api/v1/key", &lost).await, 403);
    assert_eq!(asked(&stage, Method::DELETE, "/mcp/demo", &key).await, 200);
    // A secret that its owner replaced is not in the file, and is replaced again.
    let rotated = stage.daemon.run(&["key", "rotate", "cursor-2"]).await.expect(0);
    canary::keep(rotated.stdout.trim());
    assert!(rotated.stderr.contains("everfresh connect cursor demo --transport http"), "{rotated:?}");
    let doctor = stage.run("doctor").await.stdout;
    assert!(doctor.contains("opens nothing any more"), "{doctor}");
    stage.connect("cursor demo").await.expect(0);
    assert_eq!(asked(&stage, Method::DELETE, "/mcp/demo", &shown(&stage, "demo")).await, 200);
    // Another file of the same client has another key, and neither ends the other's.
    let more = stage.path("profile.json");
    stage.connect(&format!("cursor demo --file {}", more.display())).await.expect(0);
    assert_eq!(keys(&stage).await, json!([["cursor", ["other"]], ["cursor-2", ["demo"]], ["cursor-3", ["demo"]]]));
    stage.connect(&format!("--remove cursor demo --file {}", more.display())).await.expect(0);
    assert_eq!(asked(&stage, Method::DELETE, "/mcp/demo", &shown(&stage, "demo")).await, 200);
    // A file that cannot be written leaves no key behind.
    stage.write("broken/mcp.json", "{}");
    let mut file = std::fs::metadata(stage.path("broken/mcp.json")).unwrap().permissions();
    file.set_readonly(true);
    std::fs::set_permissions(stage.path("broken/mcp.json"), file).unwrap();
    stage.connect(&format!("cursor demo --file {}", stage.path("broken/mcp.json").display())).await.expect(1);
    assert_eq!(keys(&stage).await, json!([["cursor", ["other"]], ["cursor-2", ["demo"]]]));
}

#[tokio::test(flavor = "multi_thread")]
async fn two_at_once_and_without_a_daemon_leave_one_key_that_works() {
    let stage = stage().await;
    let (one, other) = tokio::join!(stage.connect("cursor demo"), stage.connect("cursor other"));
    one.expect(0);
    other.expect(0);
    assert_eq!(shown(&stage, "demo"), shown(&stage, "other"));
    assert_eq!(keys(&stage).await, json!([["cursor", ["demo", "other"]]]));
    assert_eq!(asked(&stage, Method::DELETE, "/mcp/demo", &shown(&stage, "demo")).await, 200);
    let Stage { world, daemon, home } = stage;
    let base_url = daemon.base_url.clone();
    world.configure(&format!("listen = \"{}\"", base_url.trim_start_matches("http://")));
    assert_eq!(daemon.stop().await, 0);
    let again = Stage::run_in(&world, &home, "connect claude-code demo").await.expect(0);
    assert!(again.stderr.contains("no daemon runs"), "{again:?}");
    Stage::run_in(&world, &home, "connect --remove cursor --all").await.expect(0);
    let daemon = world.daemon().await;
    let stage = Stage { world, daemon, home };
    assert_eq!(keys(&stage).await, json!([["claude-code", ["demo"]]]));
    let file: Value = serde_json::from_str(&read(&stage.path(".claude.json"))).unwrap();
    let key = file["mcpServers"]["demo"]["headers"]["Authorization"].as_str().unwrap().replace("Bearer ", "");
    canary::keep(&key);
    assert_eq!(asked(&stage, Method::DELETE, "/mcp/demo", &key).await, 200, "a daemon that starts later knows it");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_url_can_have_a_key_of_its_own_in_it() {
    let stage = stage().await;
    let ran = stage.daemon.run(&["url", "demo", "--for", "raycast"]).await.expect(0);
    let url = ran.stdout.trim().to_owned();
    let key = url.split('/').nth(4).unwrap().to_owned();
    canary::keep(&key);
    assert!(key.starts_with("efk_") && ran.stderr.contains("send requests to demo"), "{ran:?}");
    assert_eq!(client().delete(&url).send().await.unwrap().status(), 200);
    assert_eq!(client().delete(url.replace("/demo", "/other")).send().await.unwrap().status(), 403);
    assert_eq!(keys(&stage).await, json!([["raycast", ["demo"]]]));
    stage.daemon.run(&["url", "demo", "--for", "raycast"]).await.expect(1);
    stage.daemon.run(&["url", "demo", "--for", "No Name"]).await.expect(2);
}
