//! What a client is told when its request cannot be served. Never 401.
//!
//! A JSON-RPC request gets a JSON-RPC error with HTTP 200: MCP clients show its text to the person,
//! where a bare status would be "connection failed". Everything else gets problem+json.

use bytes::Bytes;
use everfresh_application::Denial;
use everfresh_domain::HealthAction;
use http::header::{CACHE_CONTROL, CONTENT_TYPE, RETRY_AFTER};
use http::{Response, StatusCode};
use serde::Serialize;
use serde_json::value::RawValue;

use crate::help;
use crate::problem::Problem;

/// The JSON-RPC error code of everything that everfresh itself says.
const CODE: i32 = -32001;

#[derive(Serialize)]
struct RpcAnswer<'a> {
    jsonrpc: &'static str,
    id: &'a RawValue,
    error: RpcError<'a>,
}

#[derive(Serialize)]
struct RpcError<'a> {
    code: i32,
    message: &'a str,
    data: RpcData<'a>,
}

#[derive(Serialize)]
struct RpcData<'a> {
    reason: &'a str,
    action: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    command: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    url: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    help: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    retry_after_s: Option<u64>,
}

/// What is read of a JSON-RPC message.
#[derive(serde::Deserialize)]
struct RpcMessage<'a> {
    jsonrpc: String,
    #[serde(borrow)]
    id: Option<&'a RawValue>,
    method: Option<String>,
}

/// What to say, before it is known how.
#[derive(Debug)]
pub(super) struct Refusal {
    problem: Problem,
    command: Option<String>,
    url: Option<String>,
    help: Option<String>,
}

impl Refusal {
    /// For want of a token. `page` is where the page is.
    pub(super) fn denied(denial: &Denial, page: &str) -> Self {
        let command = denial.health.action.command(&denial.grant);
        let help = format!("{}{}", page.trim_end_matches('/'), help::link(denial.health.reason));
        Self { problem: Problem::denied(denial), command, url: Some(page.to_owned()), help: Some(help) }
    }

    /// For another reason.
    pub(super) fn of(problem: Problem) -> Self {
        Self { problem, command: None, url: None, help: None }
    }

    /// The answer to a request whose body, if it was read, is `body`.
    pub(super) fn answer(&self, body: Option<&Bytes>) -> Response<Bytes> {
        let rpc = body.and_then(|body| self.rpc(body));
        let (status, content_type, text) = match rpc {
            Some(text) => (StatusCode::OK, "application/json", text),
            None => (self.problem.status(), "application/problem+json", self.problem.to_json()),
        };
        let mut response =
            Response::builder().status(status).header(CONTENT_TYPE, content_type).header(CACHE_CONTROL, "no-store");
        if let (true, Some(seconds)) = (status != StatusCode::OK, self.problem.retry_after_secs()) {
            response = response.header(RETRY_AFTER, seconds);
        }
        response.body(Bytes::from(text)).expect("the parts of this response are valid")
    }

    /// JSON-RPC errors for the requests in `body`; `None` where there are none.
    fn rpc(&self, body: &[u8]) -> Option<String> {
        if body.trim_ascii_start().starts_with(b"[") {
            let messages: Vec<RpcMessage<'_>> = serde_json::from_slice(body).ok()?;
            let answers: Vec<RpcAnswer<'_>> = messages.iter().filter_map(|message| self.rpc_answer(message)).collect();
            return if answers.is_empty() { None } else { serde_json::to_string(&answers).ok() };
        }
        let message: RpcMessage<'_> = serde_json::from_slice(body).ok()?;
        serde_json::to_string(&self.rpc_answer(&message)?).ok()
    }

    fn rpc_answer<'a>(&'a self, message: &RpcMessage<'a>) -> Option<RpcAnswer<'a>> {
        let id = message.id.filter(|id| id.get() != "null")?;
        (message.jsonrpc == "2.0" && message.method.is_some()).then(|| RpcAnswer {
            jsonrpc: "2.0",
            id,
            error: RpcError {
                code: CODE,
                message: &self.problem.detail,
                data: RpcData {
                    reason: self.problem.reason.unwrap_or(self.problem.title),
                    action: self.problem.action.map(HealthAction::as_str).unwrap_or_default(),
                    command: self.command.as_deref(),
                    url: self.url.as_deref(),
                    help: self.help.as_deref(),
                    retry_after_s: self.problem.retry_after.map(|wait| wait.as_secs().max(1)),
                },
            },
        })
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use everfresh_domain::GrantStatus;
    use everfresh_domain::Policy;
    use everfresh_domain::Timestamp;

    use super::*;

    fn refusal() -> Refusal {
        let grant = "github@work".parse().unwrap();
        let health = GrantStatus::unknown("github@work".parse().unwrap()).health(Timestamp::EPOCH, &Policy::default());
        Refusal::denied(&Denial { grant, health, retry_after: Some(Duration::from_secs(7)) }, "http://127.0.0.1:7411/")
    }

    fn answer(body: Option<&'static str>) -> (u16, String) {
        let response = refusal().answer(body.map(|body| Bytes::from_static(body.as_bytes())).as_ref());
        (response.status().as_u16(), String::from_utf8(response.into_body().to_vec()).unwrap())
    }

    #[test]
    fn a_json_rpc_request_gets_an_error_that_says_what_to_do() {
        let (status, body) = answer(Some(r#"{"jsonrpc":"2.0","id":"a-7","method":"tools/call","params":{}}"#));
        assert_eq!(status, 200);
        insta::assert_snapshot!(body, @r#"{"jsonrpc":"2.0","id":"a-7","error":{"code":-32001,"message":"github@work: Login required. Run: everfresh login github@work","data":{"reason":"login_required","action":"login","command":"everfresh login github@work","url":"http://127.0.0.1:7411/","help":"http://127.0.0.1:7411/help#login_required","retry_after_s":7}}}"#);
    }

    #[test]
    fn the_id_comes_back_as_it_was() {
        for id in ["1", "1.5", "\"x\"", "12345678901234567890"] {
            let body = format!(r#"{{"jsonrpc":"2.0","id":{id},"method":"ping"}}"#);
            let response = refusal().answer(Some(&Bytes::from(body)));
            let text = String::from_utf8(response.into_body().to_vec()).unwrap();
            assert!(text.contains(&format!(r#""id":{id},"#)), "{text}");
        }
    }

    #[test]
    fn a_batch_gets_an_error_for_each_request_in_it() {
        let (status, body) = answer(Some(
            r#" [{"jsonrpc":"2.0","id":1,"method":"a"},{"jsonrpc":"2.0","method":"n"},{"jsonrpc":"2.0","id":2,"method":"b"}]"#,
        ));
        assert_eq!((status, body.matches("-32001").count()), (200, 2), "{body}");
    }

    #[test]
    fn everything_else_gets_a_problem() {
        let bodies = [
            None,
            Some(""),
            Some("{}"),
            Some("[]"),
            Some("nonsense"),
            Some(r#"{"jsonrpc":"2.0","method":"notify"}"#),
            Some(r#"{"jsonrpc":"2.0","id":null,"method":"x"}"#),
            Some(r#"{"jsonrpc":"2.0","id":1,"result":{}}"#),
        ];
        for body in bodies {
            let (status, text) = answer(body);
            assert_eq!(status, 503, "{body:?}");
            assert!(text.contains("urn:everfresh:problem:login-needed") && text.contains("everfresh login"), "{text}");
        }
    }
}
