//! Whether notices arrive.

use axum::Json;
use axum::extract::State;
use everfresh_application::Tried;
use everfresh_application::ports::Delivered;
use serde::Serialize;
use utoipa::ToSchema;

use super::Shared;

/// What came of a test.
#[derive(Serialize, ToSchema)]
pub(super) struct NotifyTest {
    /// Every way that is configured.
    sinks: Vec<SinkTest>,
}

/// What one way did.
#[derive(Serialize, ToSchema)]
pub(super) struct SinkTest {
    /// `desktop`, `command` or `webhook`.
    sink: &'static str,
    /// `delivered`, `nobody` where there is nobody to be told, or `failed`.
    result: &'static str,
    /// What was done, or why not.
    detail: String,
}

impl From<Tried> for SinkTest {
    fn from(tried: Tried) -> Self {
        let (result, detail) = match tried.result {
            Ok(Delivered::Done(what)) => ("delivered", what),
            Ok(Delivered::Nobody(why)) => ("nobody", why),
            Err(error) => ("failed", error.cause),
        };
        Self { sink: tried.sink, result, detail }
    }
}

/// Sends a test through every way that is configured, once, and tells what each did.
#[utoipa::path(post, path = "/api/v1/notify/test", responses((status = 200, body = NotifyTest)))]
pub(super) async fn test(State(shared): State<Shared>) -> Json<NotifyTest> {
    Json(NotifyTest { sinks: shared.notices.test().await.into_iter().map(SinkTest::from).collect() })
}
