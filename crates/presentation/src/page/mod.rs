//! The page: one small document, one script, one style sheet, all from this binary.
//!
//! The document holds no data: the script asks the API, with the page's cookie. No token ever
//! reaches it.

use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use axum::response::{IntoResponse, Redirect, Response};
use http::header::{CONTENT_TYPE, SET_COOKIE};
use http::{HeaderMap, HeaderValue, StatusCode};
use maud::{DOCTYPE, Markup, html};
use serde::Deserialize;

use crate::api::Shared;
use crate::guard::Caller;

/// Only from here, and nothing inline.
pub(crate) const CONTENT_POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; \
                                         img-src 'self' data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

#[derive(Deserialize)]
pub(crate) struct Opening {
    once: Option<String>,
}

/// The page, or how to open it. A one-time link becomes a cookie.
pub(crate) async fn page(
    State(shared): State<Shared>,
    opening: Result<Query<Opening>, QueryRejection>,
    headers: HeaderMap,
) -> Response {
    let now = shared.application.now();
    if let Some(link) = opening.ok().and_then(|Query(opening)| opening.once) {
        let cookie = shared.guard.redeem(now, &link, &*shared.entropy);
        if let Some(cookie) = cookie.and_then(|cookie| HeaderValue::from_str(&cookie).ok()) {
            let mut response = Redirect::to("/").into_response();
            response.headers_mut().insert(SET_COOKIE, cookie);
            return response;
        }
        if !shared.guard.has_cookie(now, &headers) {
            let text = "This link was used before, or is too old. Run: everfresh open";
            return (StatusCode::FORBIDDEN, message("The page is closed", text)).into_response();
        }
    }
    let key = shared.guard.known_by_key(None, &headers);
    let known = shared.guard.has_cookie(now, &headers) || matches!(key, Ok(Some(Caller::Key)));
    if known {
        live().into_response()
    } else {
        (StatusCode::FORBIDDEN, message("The page is closed", "To open it, run: everfresh open")).into_response()
    }
}

fn document(title: &str, content: &Markup, script: Option<&str>) -> Markup {
    html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="color-scheme" content="light dark";
                title { (title) }
                link rel="stylesheet" href="/page.css";
                link rel="icon" href="data:,";
                @if let Some(script) = script { script src=(script) defer {} }
            }
            body { (content) }
        }
    }
}

fn live() -> Markup {
    let content = html! {
        header {
            h1 { "everfresh" }
            p #connection role="status" { "Connecting …" }
        }
        ul #problems role="alert" {}
        main {
            table {
                thead {
                    tr {
                        th scope="col" { "Server" }
                        th scope="col" { "State" }
                        th scope="col" { "Token ends" }
                        th scope="col" { "Next refresh" }
                        th scope="col" { "Actions" }
                    }
                }
                tbody #servers {}
            }
            p #empty hidden { "No server yet. Add one with: " code { "everfresh add NAME URL" } }
            section aria-label="Latest events" {
                h2 { "Latest events" }
                ol #events {}
            }
        }
        noscript { p { "This page needs JavaScript. The same is shown by: " code { "everfresh list --watch" } } }
    };
    document("everfresh", &content, Some("/page.js"))
}

/// A page with one message.
pub(crate) fn message(title: &str, text: &str) -> Markup {
    let content = html! {
        main .message { h1 { (title) } p { (text) } }
    };
    document(title, &content, None)
}

/// The script.
pub(crate) async fn script() -> Response {
    ([(CONTENT_TYPE, "text/javascript; charset=utf-8")], include_str!("page.js")).into_response()
}

/// The style sheet.
pub(crate) async fn style() -> Response {
    ([(CONTENT_TYPE, "text/css; charset=utf-8")], include_str!("page.css")).into_response()
}
