//! The page: a small document, scripts and a style sheet, all from this binary.
//!
//! The document holds no data: the scripts ask the API, with the page's cookie and its proof. No token
//! ever reaches it.

mod assets;

use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use axum::response::{IntoResponse, Redirect, Response};
use http::header::SET_COOKIE;
use http::{HeaderMap, Method, StatusCode};
use maud::{DOCTYPE, Markup, html};
use serde::Deserialize;

pub(crate) use assets::asset;

use crate::api::Shared;
use crate::guard::Caller;

/// Only from here, nothing inline, and no text that becomes script or markup.
pub(crate) const CONTENT_POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; \
                                         img-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; \
                                         require-trusted-types-for 'script'; trusted-types 'none'";

/// None of what browsers can do beyond showing a page, but to copy a text.
pub(crate) const PERMISSIONS: &str = "accelerometer=(), camera=(), clipboard-read=(), clipboard-write=(self), \
                                      display-capture=(), geolocation=(), gyroscope=(), hid=(), magnetometer=(), microphone=(), midi=(), \
                                      payment=(), publickey-credentials-get=(), serial=(), usb=()";

#[derive(Deserialize)]
pub(crate) struct Opening {
    once: Option<String>,
}

/// The page, or how to open it. A one-time link becomes a cookie and its proof.
pub(crate) async fn page(
    State(shared): State<Shared>,
    method: Method,
    opening: Result<Query<Opening>, QueryRejection>,
    headers: HeaderMap,
) -> Response {
    let now = shared.application.now();
    let key = shared.guard.known_by_key(None, &headers);
    let known = shared.guard.has_cookie(now, &headers) || matches!(key, Ok(Some(Caller::Key)));
    let Some(link) = opening.ok().and_then(|Query(opening)| opening.once) else {
        return if known { live().into_response() } else { closed("To open it, run: everfresh open") };
    };
    // Whoever only looks whether there is something, as previews of links do, does not use it up.
    if method == Method::HEAD {
        return StatusCode::NO_CONTENT.into_response();
    }
    match shared.guard.redeem(now, &link, &*shared.entropy) {
        Some(opened) => {
            // Scripts take the proof, and the link does not stay in the address bar.
            let page = Redirect::to(&format!("/#opened={}", opened.proof.expose()));
            ([(SET_COOKIE, opened.cookie.expose())], page).into_response()
        }
        None if known => Redirect::to("/").into_response(),
        None => closed("This link was used before, or is too old. Run: everfresh open"),
    }
}

fn closed(text: &str) -> Response {
    (StatusCode::FORBIDDEN, message("The page is closed", text)).into_response()
}

/// A document of this binary, in the style of the page.
pub(crate) fn document(title: &str, content: &Markup, script: Option<&str>) -> Markup {
    html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="color-scheme" content="light dark";
                title { (title) }
                link rel="stylesheet" href="/page/page.css";
                link rel="icon" type="image/svg+xml" href="/page/icon.svg";
                @if let Some(script) = script {
                    meta name="everfresh-page" content=(assets::fingerprint());
                    @for imported in assets::IMPORTED { link rel="modulepreload" href={ "/page/" (imported) }; }
                    script type="module" src=(script) {}
                }
            }
            body { (content) }
        }
    }
}

fn live() -> Markup {
    let content = html! {
        div #page {}
        noscript {
            main .message {
                h1 { "everfresh" }
                p { "This page needs JavaScript. The same is shown by: " code { "everfresh list --watch" } }
            }
        }
    };
    document("everfresh", &content, Some("/page/app.js"))
}

/// A page with one message.
pub(crate) fn message(title: &str, text: &str) -> Markup {
    let content = html! {
        main .message { h1 { (title) } p { (text) } }
    };
    document(title, &content, None)
}
