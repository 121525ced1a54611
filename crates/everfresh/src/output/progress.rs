//! A line that says what is waited for: on a terminal, on stderr, and gone when the waiting is over.

use std::io::{IsTerminal, Write};
use std::time::Duration;

use tokio::time::Instant;

use super::look::{can_draw, clipped, size};
use super::moment::exact;

/// What ends sooner needs no words.
const SHOWN_AFTER: Duration = Duration::from_millis(400);

/// How often the line changes.
const BEAT: Duration = Duration::from_millis(250);

/// One of these stands before the words.
const SPINNER: [char; 4] = ['|', '/', '-', '\\'];

/// Waits for `work`, and says `words` with the time so far.
pub(crate) async fn during<T>(words: &str, work: impl Future<Output = T>) -> T {
    shown(work, |waited| format!("{words} ... {}", exact(waited))).await
}

/// Waits for `work`, and says `words` with what is left of `limit`.
pub(crate) async fn until<T>(words: &str, limit: Duration, work: impl Future<Output = T>) -> T {
    shown(work, |waited| format!("{words} ... {} left", exact(limit.saturating_sub(waited)))).await
}

async fn shown<T>(work: impl Future<Output = T>, words: impl Fn(Duration) -> String) -> T {
    if !can_draw(std::io::stderr().is_terminal()) {
        return work.await;
    }
    let began = Instant::now();
    let mut beats = tokio::time::interval_at(began + SHOWN_AFTER, BEAT);
    let mut line = Line { drawn: false };
    tokio::pin!(work);
    for sign in SPINNER.iter().cycle() {
        tokio::select! {
            done = &mut work => return done,
            _ = beats.tick() => line.draw(&format!("{sign} {}", words(began.elapsed()))),
        }
    }
    work.await
}

/// The line; it takes itself back.
struct Line {
    drawn: bool,
}

impl Line {
    fn draw(&mut self, text: &str) {
        // A line that is longer than the terminal could not be taken back.
        let room = size().map_or(80, |(columns, _)| columns).saturating_sub(1);
        drop(write!(std::io::stderr().lock(), "\r{}\u{1b}[K", clipped(text, room)));
        self.drawn = true;
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        if self.drawn {
            drop(write!(std::io::stderr().lock(), "\r\u{1b}[K"));
        }
    }
}
