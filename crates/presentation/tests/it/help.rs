//! The help page: for everybody at this machine, and for nobody elsewhere.

use everfresh_domain::Reason;
use everfresh_testkit::provider::Fault;
use http::Method;
use http_body_util::Full;
use serde_json::json;

use crate::home::Home;

#[tokio::test]
async fn the_help_page_needs_no_key_and_has_an_anchor_for_every_reason() {
    let home = Home::logged_in().await;
    let get = |path: &str, host: Option<&str>| {
        let request = home.bare(Method::GET, path);
        let request = host.into_iter().fold(request, |request, host| request.header("origin", host));
        home.send(request.body(Full::<bytes::Bytes>::default()).unwrap())
    };
    let page = get("/help", None).await;
    assert_eq!((page.status, page.header("content-type")), (200, Some("text/html; charset=utf-8")));
    let policy = page.header("content-security-policy").unwrap();
    assert!(policy.starts_with("default-src 'none'") && !policy.contains("unsafe"), "{policy}");
    let html = String::from_utf8(page.body.to_vec()).unwrap();
    for reason in Reason::ALL {
        assert!(html.contains(&format!("<h2 id=\"{reason}\">", reason = reason.as_str())), "{reason:?}");
    }
    for forbidden in ["<script", "style=", "http-equiv", ".md\"", "<a id=", "**"] {
        assert!(!html.contains(forbidden), "{forbidden}");
    }
    assert!(html.contains("<a href=\"#corporate-network\">"), "links within the document stay");
    assert_eq!(get("/help.css", None).await.header("content-type"), Some("text/css; charset=utf-8"));
    assert_eq!(get("/help", Some("https://elsewhere.example")).await.status, 403);
}

#[tokio::test]
async fn health_leads_to_the_section_about_its_reason() {
    let home = Home::logged_in().await;
    assert_eq!(home.shown("demo").await["health"]["help"], "/help#ok");
    let fault = Fault::Error { status: 400, error: "invalid_grant".into() };
    home.provider.with(|model| model.switches.fault = Some(fault));
    let refreshed = home.post("/api/v1/servers/demo/refresh", &json!({})).await.json();
    assert_eq!(refreshed["server"]["health"]["help"], "/help#refresh_token_rejected");
}
