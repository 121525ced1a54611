//! A notice as programs get it: on the standard input of a command, and in the body of a webhook.

use everfresh_domain::notice::command;
use everfresh_domain::{GrantId, Notice, NoticeId, NoticeKind, Reason, Timestamp};
use serde::Serialize;

use crate::ports::NoticeMessage;

/// The document: `type`, `timestamp` and `data` as Standard Webhooks recommends.
#[derive(Serialize)]
struct Payload<'a> {
    #[serde(rename = "type")]
    kind: NoticeKind,
    id: NoticeId,
    timestamp: Timestamp,
    data: Data<'a>,
}

#[derive(Serialize)]
struct Data<'a> {
    title: String,
    text: String,
    /// Where everfresh's page is.
    page: &'a str,
    servers: Vec<Server<'a>>,
}

#[derive(Serialize)]
struct Server<'a> {
    server: &'a GrantId,
    reason: Reason,
    summary: &'a str,
    detail: &'a str,
    action: &'static str,
    /// What a person types to act on it.
    command: Option<String>,
    ends_at: Option<Timestamp>,
}

/// `notice` as it goes out.
pub(super) fn message(notice: Notice, page: &str) -> NoticeMessage {
    let servers = notice.concerns.iter().map(|(server, concern)| Server {
        server,
        reason: concern.reason,
        summary: &concern.summary,
        detail: &concern.detail,
        action: concern.action.as_str(),
        command: command(server, concern),
        ends_at: concern.ends_at,
    });
    let data = Data { title: notice.title(), text: notice.text(), page, servers: servers.collect() };
    let payload = Payload { kind: notice.kind, id: notice.id, timestamp: notice.at, data };
    let json = serde_json::to_string(&payload).unwrap_or_default();
    NoticeMessage { notice, json }
}
