//! Spans for tracing systems: of refreshes, of logins that end, of proxied requests.
//!
//! They are made under one target, which the log leaves out: they cost nothing where nobody
//! exports them. Fields carry names, ids and closed sets of words, never secrets.

use everfresh_domain::GrantId;
use everfresh_domain::engine::{Attempt, AttemptOutcome};
use everfresh_domain::login::LoginOutcome;
use tracing::Span;
use tracing::field::{Empty, display};

/// The target of every span.
pub const TARGET: &str = "everfresh::span";

/// One refresh attempt, from reading the record to storing the answer.
pub(crate) fn refresh(attempt: &Attempt) -> Span {
    tracing::info_span!(
        target: TARGET, "oauth.refresh", otel.kind = "client", everfresh.server = %attempt.grant,
        everfresh.attempt_id = %attempt.id, everfresh.generation = attempt.generation.0,
        everfresh.trigger = %attempt.trigger, everfresh.result = Empty, http.response.status_code = Empty,
        error.type = Empty, otel.status_code = Empty, otel.status_description = Empty,
    )
}

/// How that attempt ended.
pub(crate) fn refreshed(span: &Span, outcome: &AttemptOutcome) {
    let result = match outcome {
        AttemptOutcome::Stored(_) => "stored",
        AttemptOutcome::Adopted(_) => "adopted",
        AttemptOutcome::Discarded => "discarded",
        AttemptOutcome::Unsaved { cause, .. } => {
            fail(span, "store_write_failed", cause);
            "unsaved"
        }
        AttemptOutcome::Failed { failure, .. } => {
            if let Some(status) = failure.http_status {
                span.record("http.response.status_code", status);
            }
            let kind = failure.oauth_error.as_deref().unwrap_or_else(|| failure.class.result_label());
            fail(span, kind, &failure.message);
            "failed"
        }
    };
    span.record("everfresh.result", result);
}

/// The end of a login: from the provider's answer to stored tokens.
pub(crate) fn login(grant: &GrantId) -> Span {
    tracing::info_span!(
        target: TARGET, "oauth.login", otel.kind = "client", everfresh.server = %grant, everfresh.result = Empty,
        error.type = Empty, otel.status_code = Empty, otel.status_description = Empty,
    )
}

/// How that login ended.
pub(crate) fn logged_in(span: &Span, outcome: &LoginOutcome) {
    let result = match outcome {
        LoginOutcome::Succeeded => "succeeded",
        LoginOutcome::Denied { code } => {
            fail(span, code, "the provider said no");
            "denied"
        }
        LoginOutcome::TimedOut => "timed_out",
        LoginOutcome::Cancelled => "cancelled",
        LoginOutcome::Failed { message } => {
            fail(span, "login_failed", message);
            "failed"
        }
    };
    span.record("everfresh.result", result);
}

fn fail(span: &Span, kind: &str, message: &str) {
    span.record("error.type", display(kind));
    span.record("otel.status_code", "ERROR");
    span.record("otel.status_description", display(message));
}
