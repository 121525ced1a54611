//! Who may talk to everfresh, tried over sockets by whoever may not.

use bytes::Bytes;
use everfresh_testkit::provider::Behaviour;
use http::Method;
use http::request::Builder;
use http_body_util::Full;
use serde_json::json;

use crate::home::{Home, KEY, quick};
use crate::stub::{Stub, ok};
use crate::wire::Answer;

async fn send(home: &Home, request: Builder) -> Answer {
    home.send(request.body(Full::<Bytes>::default()).unwrap()).await
}

const NEEDS_KEY: [(Method, &str); 14] = [
    (Method::GET, "/mcp/demo"),
    (Method::POST, "/mcp/demo/x"),
    (Method::GET, "/api/v1/servers"),
    (Method::POST, "/api/v1/servers"),
    (Method::GET, "/api/v1/servers/demo"),
    (Method::DELETE, "/api/v1/servers/demo"),
    (Method::POST, "/api/v1/servers/demo/login"),
    (Method::GET, "/api/v1/servers/demo/token"),
    (Method::POST, "/api/v1/servers/demo/logout"),
    (Method::POST, "/api/v1/imports"),
    (Method::DELETE, "/api/v1/imports/demo"),
    (Method::POST, "/api/v1/page-link"),
    (Method::GET, "/api/v1/status"),
    (Method::GET, "/events"),
];

#[tokio::test]
async fn without_the_key_nothing_is_told_but_how_to_get_in() {
    let home = Home::logged_in().await;
    for (method, path) in NEEDS_KEY {
        let wrong = [
            home.bare(method.clone(), path),
            home.bare(method.clone(), path).header("x-everfresh-key", "wrong"),
            home.bare(method.clone(), path).header("x-everfresh-key", ""),
            home.bare(method.clone(), path).header("authorization", "Bearer wrong"),
            home.bare(method.clone(), path).header("authorization", format!("Basic {KEY}")),
            home.bare(method.clone(), path).header("cookie", format!("everfresh={KEY}")),
            home.bare(method.clone(), &format!("{path}?key={KEY}")),
        ];
        for request in wrong {
            let problem = send(&home, request).await.expect_problem(403, "key-needed");
            assert!(problem["detail"].as_str().unwrap().contains("X-Everfresh-Key"), "{problem}");
        }
    }
    for path in ["/k/wrong/mcp/demo", "/k/wrong/mcp/nobody", "/k//mcp/demo", "/mcp/nobody"] {
        send(&home, home.bare(Method::GET, path)).await.expect_problem(403, "key-needed");
    }
    assert_eq!(home.upstream.seen().len(), 0);
    assert_eq!(home.shown("demo").await["health"]["reason"], "ok");
}

#[tokio::test]
async fn the_key_opens_in_each_of_its_forms() {
    let home = Home::logged_in().await;
    let open = [
        home.bare(Method::DELETE, "/mcp/demo").header("x-everfresh-key", KEY),
        home.bare(Method::DELETE, "/mcp/demo").header("authorization", format!("Bearer {KEY}")),
        home.bare(Method::DELETE, "/mcp/demo").header("authorization", format!("bearer  {KEY}")),
        home.bare(Method::DELETE, &format!("/k/{KEY}/mcp/demo")),
        home.bare(Method::GET, "/api/v1/servers").header("authorization", format!("Bearer {KEY}")),
    ];
    for request in open {
        assert_eq!(send(&home, request).await.status, 200);
    }
    let seen = home.upstream.seen();
    assert!(seen.len() == 4 && seen.iter().all(|seen| seen.target == "DELETE /mcp"), "{seen:?}");
    assert!(!format!("{seen:?}").contains(KEY), "the upstream never sees the key");
    for path in [format!("/k/{KEY}/api/v1/servers"), format!("/k/{KEY}/"), format!("/k/{KEY}/events")] {
        assert_ne!(
            send(&home, home.bare(Method::GET, &path)).await.status,
            200,
            "{path}: the path form is for the data plane"
        );
    }
}

#[tokio::test]
async fn a_name_that_is_not_ours_is_refused_everywhere() {
    let home = Home::logged_in().await;
    let port = home.address.port();
    let everywhere =
        ["/mcp/demo", "/api/v1/servers", "/", "/healthz", "/readyz", "/metrics", "/oauth/callback", "/openapi.json"];
    for path in everywhere.into_iter().chain([&*format!("/k/{KEY}/mcp/demo"), "/nothing"]) {
        for host in
            ["evil.example", &format!("evil.example:{port}"), "127.0.0.1.evil.example", "0.0.0.0", "192.168.0.1", ""]
        {
            let request = http::Request::get(path).header("host", host).header("x-everfresh-key", KEY);
            send(&home, request).await.expect_problem(403, "forbidden");
        }
    }
    for host in ["localhost", "127.0.0.1", &format!("[::1]:{port}"), "proxy.test", "127.9.9.9:80"] {
        let request = http::Request::delete("/mcp/demo").header("host", host).header("x-everfresh-key", KEY);
        assert_eq!(send(&home, request).await.status, 200, "{host}");
    }
}

#[tokio::test]
async fn a_page_of_another_origin_is_refused_even_with_the_key() {
    let home = Home::logged_in().await;
    let own = format!("http://{}", home.address);
    for path in ["/mcp/demo", "/api/v1/servers", "/events", "/", "/oauth/callback", "/healthz"] {
        for origin in ["http://evil.example", "null", "http://127.0.0.1:3000", "http://localhost:3000", "https://x", ""]
        {
            let answer = send(&home, home.keyed(Method::GET, path).header("origin", origin)).await;
            answer.expect_problem(403, "forbidden");
            assert_eq!(answer.header("access-control-allow-origin"), None);
        }
    }
    let preflight = home.bare(Method::OPTIONS, "/mcp/demo").header("origin", "http://evil.example");
    let preflight = preflight.header("access-control-request-method", "POST");
    let answer = send(&home, preflight.header("access-control-request-private-network", "true")).await;
    answer.expect_problem(403, "forbidden");
    assert!(!answer.headers.keys().any(|name| name.as_str().starts_with("access-control-")));
    assert_eq!(home.upstream.seen().len(), 0);
    assert_eq!(send(&home, home.keyed(Method::DELETE, "/mcp/demo").header("origin", own)).await.status, 200);
}

#[tokio::test]
async fn the_pages_cookie_opens_the_page_and_its_api_and_nothing_else() {
    let home = Home::logged_in().await;
    let opened = home.open_page().await;
    let with = |method: Method, path: &str| home.by_page(&opened, method, path);
    assert_eq!(send(&home, home.bare(Method::GET, "/")).await.status, 403);
    let cookie = home.by_page(&opened[..1], Method::GET, "/");
    let page = send(&home, cookie.header("sec-fetch-site", "none")).await;
    assert_eq!(page.status, 200);
    assert!(String::from_utf8_lossy(&page.body).contains("/page/app.js"));
    let hardened = [
        "x-content-type-options",
        "x-frame-options",
        "content-security-policy",
        "referrer-policy",
        "permissions-policy",
        "cross-origin-opener-policy",
        "cross-origin-resource-policy",
    ];
    for name in hardened {
        assert!(page.header(name).is_some(), "{name}");
    }
    let own = with(Method::GET, "/api/v1/servers").header("sec-fetch-site", "same-origin");
    assert_eq!(send(&home, own).await.status, 200);
    let data = with(Method::GET, "/mcp/demo").header("sec-fetch-site", "same-origin");
    send(&home, data).await.expect_problem(403, "key-needed");
    assert_eq!(home.upstream.seen().len(), 0);
}

#[tokio::test]
async fn another_port_of_this_machine_cannot_ride_on_the_cookie() {
    let home = Home::logged_in().await;
    let opened = home.open_page().await;
    let refresh = |site: &str| {
        let request = home.by_page(&opened, Method::POST, "/api/v1/servers/demo/refresh");
        if site.is_empty() { request } else { request.header("sec-fetch-site", site) }
    };
    for site in ["same-site", "cross-site", "", "Same-Origin", "same-origin, same-site"] {
        assert_eq!(send(&home, refresh(site)).await.status, 403, "{site:?}");
    }
    let port = home.by_page(&opened, Method::POST, "/api/v1/servers/demo/logout");
    let port = port.header("sec-fetch-site", "same-site").header("origin", "http://127.0.0.1:3000");
    send(&home, port).await.expect_problem(403, "forbidden");
    let events = home.by_page(&opened, Method::GET, "/events").header("sec-fetch-site", "same-site");
    assert_eq!(send(&home, events).await.status, 403);
    // Whoever listens at the other port is sent the cookie, and can say anything of where it comes from.
    for (method, path) in [(Method::GET, "/events"), (Method::POST, "/api/v1/servers/demo/logout")] {
        let thief = home.by_page(&opened[..1], method, path).header("sec-fetch-site", "same-origin");
        send(&home, thief).await.expect_problem(403, "key-needed");
    }
    assert_eq!((home.counters().refreshes, home.counters().revocations), (0, 0));
    assert_eq!(send(&home, refresh("same-origin")).await.json()["outcome"], "refreshed");
}

#[tokio::test]
async fn what_watches_the_daemon_needs_no_key() {
    let home = Home::logged_in().await;
    for (path, text) in [("/healthz", "ok\n"), ("/metrics", "everfresh_up 1\n"), ("/readyz", "\"ready\":true")] {
        let answer = send(&home, home.bare(Method::GET, path)).await;
        assert_eq!(answer.status, 200, "{path}");
        let body = String::from_utf8(answer.body.to_vec()).unwrap();
        assert!(body.contains(text) && !body.contains("canary"), "{path}: {body}");
    }
    home.application.set_config_problem(Some("line 7: no".to_owned()));
    let answer = send(&home, home.bare(Method::GET, "/readyz")).await;
    assert_eq!((answer.status, &answer.json()["reasons"][0]), (503, &"line 7: no".into()));
}

#[tokio::test]
async fn where_no_key_is_wanted_none_is_needed_and_other_origins_stay_out() {
    let home = Home::of(Behaviour::default(), None, quick()).await;
    home.add("demo", &home.upstream.url()).await;
    assert_eq!(send(&home, home.bare(Method::DELETE, "/mcp/demo")).await.status, 200);
    assert_eq!(send(&home, home.bare(Method::DELETE, "/k/anything/mcp/demo")).await.status, 200);
    assert_eq!(send(&home, home.bare(Method::GET, "/api/v1/servers")).await.status, 200);
    let foreign = home.bare(Method::POST, "/mcp/demo").header("origin", "http://evil.example");
    send(&home, foreign).await.expect_problem(403, "forbidden");
}

#[tokio::test]
async fn a_page_of_another_site_cannot_even_cause_a_blind_get() {
    // Images, scripts and links carry no Origin.
    for key in [Some(KEY), None] {
        let home = Home::of(Behaviour::default(), key, quick()).await;
        home.add("demo", &home.upstream.url()).await;
        for site in ["cross-site", "same-site"] {
            for path in ["/mcp/demo", &format!("/k/{KEY}/mcp/demo"), "/api/v1/servers/demo/token", "/events"] {
                for mode in ["no-cors", "navigate"] {
                    let request = home.keyed(Method::GET, path).header("sec-fetch-site", site);
                    send(&home, request.header("sec-fetch-mode", mode)).await.expect_problem(403, "forbidden");
                }
            }
        }
        assert_eq!(home.upstream.seen().len(), 0);
        for site in ["same-origin", "none"] {
            let request = home.keyed(Method::DELETE, "/mcp/demo").header("sec-fetch-site", site);
            assert_eq!(send(&home, request).await.status, 200, "{site}");
        }
        for path in ["/oauth/callback", "/healthz"] {
            let from_elsewhere = home.bare(Method::GET, path).header("sec-fetch-site", "cross-site");
            assert_ne!(send(&home, from_elsewhere).await.status, 403, "{path}");
        }
    }
}

#[tokio::test]
async fn what_an_upstream_sends_never_runs_in_a_browser_as_if_it_were_ours() {
    let home = Home::start().await;
    let page =
        "HTTP/1.1 200 OK\r\ncontent-type: text/html\r\ncontent-security-policy: img-src *\r\ncontent-length: 0\r\n\r\n";
    let stub = Stub::replying(page).await;
    home.add("demo", &stub.origin).await;
    let path = format!("/k/{KEY}/mcp/demo/page");
    let policies = |answer: &Answer| -> Vec<String> {
        let values = answer.headers.get_all("content-security-policy").iter();
        values.map(|value| value.to_str().unwrap().to_owned()).collect()
    };
    for dest in ["document", "iframe", "script", "worker"] {
        let request = home.bare(Method::GET, &path).header("sec-fetch-site", "none").header("sec-fetch-dest", dest);
        assert_eq!(policies(&send(&home, request).await), ["img-src *", "sandbox"], "{dest}");
    }
    for request in [home.bare(Method::GET, &path), home.bare(Method::GET, &path).header("sec-fetch-dest", "empty")] {
        assert_eq!(policies(&send(&home, request).await), ["img-src *"], "for programs nothing is added");
    }
}

#[tokio::test]
async fn the_key_in_a_referer_stays_here() {
    let home = Home::start().await;
    let stub = Stub::replying(ok("")).await;
    home.add("demo", &stub.origin).await;
    let own = format!("http://{}/k/{KEY}/mcp/demo/page", home.address);
    for (referer, passes) in [(&*own, false), ("https://app.example/x", true)] {
        let request = home.bare(Method::GET, &format!("/k/{KEY}/mcp/demo")).header("referer", referer);
        assert_eq!(send(&home, request).await.status, 200);
        let seen = stub.next().await;
        assert_eq!(seen.values("referer"), if passes { vec![referer] } else { vec![] });
        assert!(!seen.head.contains(KEY), "{}", seen.head);
    }
}

#[tokio::test]
async fn the_page_can_do_much_but_never_gets_a_token() {
    let home = Home::logged_in().await;
    let opened = home.open_page().await;
    let page = |method: Method, path: &str| home.by_page(&opened, method, path).header("sec-fetch-site", "same-origin");
    let answer = send(&home, page(Method::GET, "/api/v1/servers/demo/token")).await;
    answer.expect_problem(403, "key-needed");
    for (method, path) in [
        (Method::POST, "/api/v1/imports"),
        (Method::DELETE, "/api/v1/imports/demo"),
        (Method::POST, "/api/v1/page-link"),
    ] {
        send(&home, page(method, path)).await.expect_problem(403, "key-needed");
    }
    // What a file holds would be sent to the provider that is named beside it.
    for oauth in [
        json!({ "private_key_file": "/etc/shadow" }),
        json!({ "grant": "jwt_bearer", "assertion_file": "/etc/shadow" }),
    ] {
        let server = json!({ "name": "new", "url": "https://x.example", "oauth": oauth }).to_string();
        let add = page(Method::POST, "/api/v1/servers").header("content-type", "application/json");
        let refused = home.send(add.body(Full::from(server)).unwrap()).await.expect_problem(403, "key-needed");
        assert!(refused["detail"].as_str().unwrap().contains("everfresh add"), "{refused}");
    }
    assert_eq!(send(&home, page(Method::GET, "/api/v1/servers/demo")).await.status, 200);
    assert_eq!(send(&home, page(Method::POST, "/api/v1/servers/demo/disable")).await.status, 200);
}
