//! Waiting for something to be so, with a deadline and without guessing how long it takes.

use std::future::Future;
use std::time::{Duration, Instant};

/// How often a condition is looked at.
const LOOK: Duration = Duration::from_millis(20);

/// Asks until the answer is there; the time that it took comes with it. Past `limit` the test
/// ends in words about `what`.
pub async fn until<T, F: Future<Output = Option<T>>>(
    what: &str,
    limit: Duration,
    ask: impl Fn() -> F,
) -> (T, Duration) {
    let began = Instant::now();
    loop {
        if let Some(answer) = ask().await {
            return (answer, began.elapsed());
        }
        assert!(began.elapsed() < limit, "{what}: not within {limit:?}");
        tokio::time::sleep(LOOK).await;
    }
}
