//! The help as a page. It holds no data of anybody, so it needs no key: who has none is who needs it.

use axum::response::{IntoResponse, Response};
use http::header::CONTENT_TYPE;
use maud::{Markup, PreEscaped, html};
use pulldown_cmark::{Event, Parser, Tag, TagEnd};

use super::{Section, Topic, sections};
use crate::page::document;

const GROUPS: [(Topic, &str); 3] = [
    (Topic::Reason, "What `everfresh list` and the page say"),
    (Topic::Situation, "What else happens"),
    (Topic::ExitCode, "Exit codes"),
];

/// `GET /help`.
pub(crate) async fn help() -> Response {
    let content = html! {
        link rel="stylesheet" href="/help.css";
        header { h1 { "everfresh: help" } p { a href="/" { "To the page" } } }
        main .help {
            nav aria-label="Topics" {
                @for (topic, title) in GROUPS {
                    h2 { (inline(title)) }
                    ul { @for section in of(topic) { li { a href={ "#" (section.id) } { (section.words) } } } }
                }
            }
            @for (topic, _) in GROUPS {
                @for section in of(topic) { (shown(&section)) }
            }
        }
    };
    document("everfresh: help", &content, None).into_response()
}

/// The few rules that the page has no use for.
pub(crate) async fn style() -> Response {
    ([(CONTENT_TYPE, "text/css; charset=utf-8")], include_str!("help.css")).into_response()
}

fn of(topic: Topic) -> impl Iterator<Item = Section> {
    sections().filter(move |section| section.topic() == topic)
}

fn shown(section: &Section) -> Markup {
    html! {
        section aria-labelledby=(section.id) {
            h2 id=(section.id) { (section.words) " " a href={ "#" (section.id) } { code { (section.id) } } }
            (markdown(section.body))
        }
    }
}

/// Links to the files beside the document lead nowhere from here: their text stays. HTML does not.
fn markdown(text: &str) -> Markup {
    let mut in_link_to_file = false;
    let events = Parser::new(text).filter(|event| {
        let begins = matches!(event, Event::Start(Tag::Link { dest_url, .. }) if !dest_url.starts_with('#'));
        let ends = in_link_to_file && *event == Event::End(TagEnd::Link);
        in_link_to_file = begins || in_link_to_file && !ends;
        !begins && !ends && !matches!(event, Event::Html(_) | Event::InlineHtml(_))
    });
    let mut written = String::new();
    pulldown_cmark::html::push_html(&mut written, events);
    PreEscaped(written)
}

fn inline(text: &str) -> Markup {
    html! { @for (place, part) in text.split('`').enumerate() { @if place % 2 == 1 { code { (part) } } @else { (part) } } }
}
