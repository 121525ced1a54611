//! One request, one bounded answer. No retries, no redirects.

use std::io;

use bytes::{Bytes, BytesMut};
use everfresh_domain::{Failure, FailureClass};
use http::{HeaderMap, StatusCode};

use crate::http::{explanation, refuses_this_client};

/// The longest answer that is read.
const BODY_MAX: usize = 64 * 1024;

/// What came back. It holds tokens, so it has no `Debug`.
pub(super) struct Answer {
    pub(super) status: StatusCode,
    pub(super) headers: HeaderMap,
    pub(super) body: Body,
}

/// How much of a body came.
pub(super) enum Body {
    /// All of it.
    Whole(Bytes),
    /// More than is read.
    TooLong,
    /// The connection broke in it.
    Broken,
}

/// Sends `request`. The failure says whether anything may have arrived.
pub(super) async fn send(client: &reqwest::Client, request: http::Request<Vec<u8>>) -> Result<Answer, Failure> {
    let mut response = begin(client, request).await?;
    let (status, headers) = (response.status(), response.headers().clone());
    let body = read(&mut response).await;
    Ok(Answer { status, headers, body })
}

/// Sends `request` and takes only the head of the answer: its body may be a stream that never ends.
pub(super) async fn send_for_head(
    client: &reqwest::Client,
    request: http::Request<Vec<u8>>,
) -> Result<(StatusCode, HeaderMap), Failure> {
    let response = begin(client, request).await?;
    Ok((response.status(), response.headers().clone()))
}

async fn begin(client: &reqwest::Client, request: http::Request<Vec<u8>>) -> Result<reqwest::Response, Failure> {
    let request = reqwest::Request::try_from(request).map_err(|error| not_sent(&error))?;
    client.execute(request).await.map_err(|error| {
        if error.is_connect() || error.is_builder() || io_error(&error).is_some_and(refuses_this_client) {
            not_sent(&error)
        } else {
            let message = format!("the answer was lost: {}", root_cause(&error));
            Failure::without_answer(FailureClass::AnswerLost, message)
        }
    })
}

/// What begins the message of a failure to connect, where the subject is another.
const UNREACHED: &str = "cannot be reached: ";

/// Why a call failed, as words that follow after "... cannot be reached: ".
pub(super) fn cause(failure: Failure) -> String {
    match failure.message.strip_prefix(UNREACHED) {
        Some(cause) => cause.to_owned(),
        None => failure.message,
    }
}

fn not_sent(error: &(dyn std::error::Error + 'static)) -> Failure {
    let failure = Failure::without_answer(FailureClass::Network, format!("{UNREACHED}{}", root_cause(error)));
    // What reqwest's connector calls a name that does not resolve.
    let endpoint_gone = chain(error).any(|error| error.to_string() == "dns error");
    Failure { endpoint_gone, ..failure }
}

fn chain<'e>(
    error: &'e (dyn std::error::Error + 'static),
) -> impl Iterator<Item = &'e (dyn std::error::Error + 'static)> {
    std::iter::successors(Some(error), |error| error.source())
}

async fn read(response: &mut reqwest::Response) -> Body {
    let mut body = BytesMut::new();
    loop {
        match response.chunk().await {
            Ok(Some(chunk)) if body.len() + chunk.len() <= BODY_MAX => body.extend_from_slice(&chunk),
            Ok(Some(_)) => return Body::TooLong,
            Ok(None) => return Body::Whole(body.freeze()),
            Err(_) => return Body::Broken,
        }
    }
}

/// The innermost cause, which says what happened and names no URL.
pub(crate) fn root_cause(error: &(dyn std::error::Error + 'static)) -> String {
    match io_error(error) {
        Some(error) if error.kind() == io::ErrorKind::TimedOut => "it took too long to connect".to_owned(),
        Some(error) => explanation(error).unwrap_or_else(|| error.to_string()),
        None => innermost(error).to_string(),
    }
}

fn io_error<'e>(error: &'e (dyn std::error::Error + 'static)) -> Option<&'e io::Error> {
    innermost(error).downcast_ref()
}

fn innermost<'e>(error: &'e (dyn std::error::Error + 'static)) -> &'e (dyn std::error::Error + 'static) {
    chain(error).last().unwrap_or(error)
}
