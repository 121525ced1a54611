//! Logins through the API: their ways, what is pasted, and accounts.

use bytes::Bytes;
use http_body_util::Full;
use serde_json::json;

use crate::home::Home;

#[tokio::test]
async fn a_login_by_device_code_tells_what_to_type_in_and_where() {
    let home = Home::start().await;
    home.add_only("demo", &home.upstream.url()).await;
    let started = home.post("/api/v1/servers/demo/login", &json!({ "way": "device" })).await.json();
    let page = format!("{}/activate", home.provider.url());
    assert_eq!(started["device"], json!({ "user_code": "USER-0001", "verification_uri": page }));
    assert_eq!(started["authorization_url"], format!("{page}?user_code=USER-0001"));
    assert_eq!(started["redirect_uri"], json!(null));
    let answer = format!("/api/v1/logins/{}/answer", started["flow_id"].as_str().unwrap());
    let problem = home.post(&answer, &json!({ "url": "code=c&state=s" })).await.expect_problem(422, "not-the-answer");
    assert!(problem["detail"].as_str().unwrap().contains("nothing to paste"), "{problem}");
}

#[tokio::test]
async fn a_wish_that_is_not_understood_begins_nothing() {
    let home = Home::start().await;
    home.add_only("demo", &home.upstream.url()).await;
    for wish in [json!({ "way": "telepathy" }), json!({ "way": "browser", "more": 1 }), json!("device")] {
        home.post("/api/v1/servers/demo/login", &wish).await.expect_problem(422, "invalid");
    }
    assert_eq!(home.shown("demo").await["login"]["pending"], false);
    assert_eq!(home.counters().registrations, 0);
}

#[tokio::test]
async fn a_pasted_answer_ends_the_login_and_a_wrong_one_does_not() {
    let home = Home::start().await;
    home.add_only("demo", &home.upstream.url()).await;
    let started = home.post("/api/v1/servers/demo/login", &json!({})).await.json();
    let path = format!("/api/v1/logins/{}/answer", started["flow_id"].as_str().unwrap());
    let url = started["authorization_url"].as_str().unwrap();
    let problem = home.post(&path, &json!({ "url": url })).await.expect_problem(422, "not-the-answer");
    assert!(problem["detail"].as_str().unwrap().contains("where it ends"), "{problem}");
    let back = home.approve(url);
    let ended = home.post(&path, &json!({ "url": back })).await.json();
    let expected = json!({
        "state": "succeeded", "message": "You are logged in.", "lasts_until": null, "scopes_not_granted": [],
    });
    assert_eq!(ended, expected);
    home.post(&path, &json!({ "url": back })).await.expect_problem(404, "no-such-login");
    home.post("/api/v1/logins/zz/answer", &json!({ "url": back })).await.expect_problem(404, "not-found");
    home.post(&path, &json!({})).await.expect_problem(422, "invalid");
}

#[tokio::test]
async fn an_account_is_removed_by_itself_and_switched_with_its_server() {
    let home = Home::logged_in().await;
    home.log_in("demo@work").await;
    home.post("/api/v1/servers/demo@work/disable", &json!({})).await.expect_problem(422, "invalid");
    assert_eq!(home.shown("demo").await["health"]["admin_state"], "enabled");
    let request = home.keyed(http::Method::DELETE, "/api/v1/servers/demo@work");
    assert_eq!(home.send(request.body(Full::<Bytes>::default()).unwrap()).await.status, 204);
    home.get("/api/v1/servers/demo@work").await.expect_problem(404, "no-such-server");
    assert_eq!(home.call("demo", "echo").await.status, 200);
}

#[tokio::test]
async fn a_redirect_uri_that_answers_could_be_stolen_from_is_refused() {
    let home = Home::start().await;
    let server = |uri: &str| json!({ "name": "demo", "url": "https://x.example", "oauth": { "redirect_uri": uri } });
    let problem = home.post("/api/v1/servers", &server("http://x.example/cb")).await.expect_problem(422, "invalid");
    assert!(problem["detail"].as_str().unwrap().contains("oauth.redirect_uri"), "{problem}");
    assert_eq!(home.post("/api/v1/servers", &server("http://localhost:3118/cb")).await.status, 201);
}

#[tokio::test]
async fn a_pending_login_is_told_again_and_taken_back() {
    let home = Home::start().await;
    home.add_only("demo", &home.upstream.url()).await;
    let place = "/api/v1/servers/demo/login";
    home.get(place).await.expect_problem(404, "no-such-login");
    home.get("/api/v1/servers/other/login").await.expect_problem(404, "no-such-server");
    let started = home.post(place, &json!({ "way": "device" })).await.json();
    assert_eq!(home.get(place).await.json(), started, "asking begins none, and changes no way");
    let shown = home.shown("demo").await;
    let told = ["flow_id", "pending_since", "pending_until"].map(|member| shown["login"][member].clone());
    assert_eq!(told, ["flow_id", "began_at", "expires_at"].map(|member| started[member].clone()));
    let login = format!("/api/v1/logins/{}", started["flow_id"].as_str().unwrap());
    for _ in 0..2 {
        let ended =
            home.send(home.keyed(http::Method::DELETE, &login).body(Full::<Bytes>::default()).unwrap()).await.json();
        assert_eq!(ended["state"], "cancelled", "{ended}");
    }
    assert_eq!(home.get(&login).await.json()["state"], "cancelled");
    home.get(place).await.expect_problem(404, "no-such-login");
    assert_eq!(home.shown("demo").await["login"]["pending"], false);
    home.log_in("demo").await;
    let again =
        home.send(home.keyed(http::Method::DELETE, &login).body(Full::<Bytes>::default()).unwrap()).await.json();
    assert_eq!((&again["state"], home.call("demo", "echo").await.status), (&json!("cancelled"), 200));
}
