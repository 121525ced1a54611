//! The past of a login, as the page draws it.

use std::time::Duration;

use axum::Json;
use axum::extract::State;
use everfresh_application::{Attempted, Timeline as Past};
use everfresh_domain::Timestamp;
use everfresh_domain::timeline::{KEPT, Outage as Failing, Outcome, Span as Stretch};
use http::StatusCode;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{Asked, Grant, Shared};
use crate::problem::Problem;

const HOUR: u64 = 3600;

/// Hours that are told unless others are asked for.
const HOURS: u64 = 24;

/// How far back.
#[derive(Deserialize)]
pub(super) struct TimelineQuery {
    hours: Option<u64>,
}

/// What a login was in the hours before now.
#[derive(Serialize, ToSchema)]
pub struct Timeline {
    /// Its first moment.
    #[schema(value_type = String)]
    from: Timestamp,
    /// The moment of asking.
    #[schema(value_type = String)]
    to: Timestamp,
    /// Contiguous and in order: they cover all from `from` to `to`.
    spans: Vec<Span>,
    /// When no attempt to refresh succeeded, oldest first.
    outages: Vec<Outage>,
    /// The attempts to refresh of which the journal still knows, oldest first.
    attempts: Vec<PastAttempt>,
}

/// One state, as long as it lasted.
#[derive(Serialize, ToSchema)]
pub(super) struct Span {
    /// Its first moment.
    #[schema(value_type = String)]
    from: Timestamp,
    /// The first moment after it.
    #[schema(value_type = String)]
    to: Timestamp,
    /// `valid`: a usable access token was at hand; `lapsed`: logged in, but it had ended; `logged_out`:
    /// no login; `disabled`: its server was switched off; `off`: the daemon did not run, or the machine
    /// slept; `unknown`: nothing is recorded.
    state: &'static str,
}

/// A time in which attempts failed.
#[derive(Serialize, ToSchema)]
pub(super) struct Outage {
    /// When the first of them began, but not before the timeline.
    #[schema(value_type = String)]
    from: Timestamp,
    /// When one succeeded, a person logged in or out, or the daemon ended; null while it lasts.
    #[schema(value_type = Option<String>)]
    to: Option<Timestamp>,
    /// Why they failed: a reason as health has it.
    reason: &'static str,
}

/// One attempt.
#[derive(Serialize, ToSchema)]
pub(super) struct PastAttempt {
    /// When it began.
    #[schema(value_type = String)]
    at: Timestamp,
    /// How long its request took.
    duration_ms: u64,
    /// `refreshed`, `adopted`, `discarded` or `failed`.
    result: &'static str,
    /// Why it failed, if it did: a reason as health has it.
    reason: Option<&'static str>,
}

impl From<Past> for Timeline {
    fn from(past: Past) -> Self {
        let Past { from, to, spans, outages, attempts } = past;
        Self {
            from,
            to,
            spans: spans.into_iter().map(Span::from).collect(),
            outages: outages.into_iter().map(Outage::from).collect(),
            attempts: attempts.into_iter().map(PastAttempt::from).collect(),
        }
    }
}

impl From<Stretch> for Span {
    fn from(Stretch { from, to, state }: Stretch) -> Self {
        Self { from, to, state: state.as_str() }
    }
}

impl From<Failing> for Outage {
    fn from(Failing { from, to, reason }: Failing) -> Self {
        Self { from, to, reason: reason.as_str() }
    }
}

impl From<Attempted> for PastAttempt {
    fn from(Attempted { tried, result }: Attempted) -> Self {
        let reason = match tried.outcome {
            Outcome::Failed(reason) => Some(reason.as_str()),
            Outcome::Succeeded | Outcome::Discarded => None,
        };
        let duration_ms = u64::try_from(tried.duration.as_millis()).unwrap_or(u64::MAX);
        Self { at: tried.at, duration_ms, result, reason }
    }
}

/// What a login was: whether there was a token, when the daemon did not run, and what failed.
#[utoipa::path(get, path = "/api/v1/servers/{name}/timeline",
    params(("name" = String, Path), ("hours" = Option<u64>, Query, description = "1 to 168; 24 unless given")),
    responses((status = 200, body = Timeline), (status = 400), (status = 404)))]
pub(super) async fn timeline(
    State(shared): State<Shared>,
    Grant(grant): Grant,
    Asked(query): Asked<TimelineQuery>,
) -> Result<Json<Timeline>, Problem> {
    let hours = query.hours.unwrap_or(HOURS);
    let most = KEPT.as_secs() / HOUR;
    if !(1..=most).contains(&hours) {
        let detail = format!("hours is {hours}, and a timeline has 1 to {most}");
        return Err(Problem::new(StatusCode::BAD_REQUEST, "bad-query", "Bad query", detail));
    }
    let past = shared.application.timeline(&grant, Duration::from_secs(hours * HOUR)).await?;
    Ok(Json(Timeline::from(past)))
}
