//! `list --watch`: fed by the daemon's events, drawn where something has changed.
//!
//! On a terminal it is one calm screen, which says when the daemon is gone and goes on when it is
//! back; into a pipe it is one line for each change.

use std::collections::BTreeMap;
use std::io::{self, IsTerminal, Write};
use std::time::Duration;

use crossterm::cursor::{Hide, MoveTo, Show};
use crossterm::terminal::{
    BeginSynchronizedUpdate, Clear, ClearType, EndSynchronizedUpdate, EnterAlternateScreen, LeaveAlternateScreen,
};
use crossterm::{execute, queue};
use everfresh_domain::Timestamp;
use serde_json::Value;
use tokio::sync::mpsc::{Receiver, Sender};

use super::change::Change;
use super::table;
use crate::cli::{Global, Output};
use crate::client;
use crate::commands::now;
use crate::exit::{Exit, Failure};
use crate::output::{self, Look, can_draw, clipped, name_of, seen_from};
use crate::paths::Paths;
use crate::stdio::sse::Events;
use crate::stdio::told_to_stop;

/// How often relative times are told anew.
const BEAT: Duration = Duration::from_secs(1);

/// How long until a daemon that does not answer is asked again.
const AGAIN: Duration = Duration::from_secs(1);

/// The same after a stream that has ended.
const AT_ONCE: Duration = Duration::from_millis(200);

/// A stream says that it is alive every 15 s; one that is silent for so long is not.
const SILENCE_MAX: Duration = Duration::from_secs(40);

/// Changes that wait to be shown: more than one daemon tells in a second.
const CHANGES_BOUND: usize = 64;

pub(super) async fn watch(global: &Global, paths: &Paths, format: Output) -> Result<Exit, Failure> {
    let (sender, mut changes) = tokio::sync::mpsc::channel(CHANGES_BOUND);
    let feed = feed(global.clone(), paths.clone(), sender);
    let shown = async {
        match format {
            Output::Json => on_lines(&mut changes, json_line).await,
            Output::Table if can_draw(io::stdout().is_terminal()) => on_screen(&mut changes).await,
            Output::Table => {
                let mut told = BTreeMap::new();
                on_lines(&mut changes, |change| text_lines(&mut told, change)).await
            }
        }
    };
    tokio::select! {
        () = feed => {}
        // Nobody reads any more.
        _ = shown => {}
        () = told_to_stop() => {}
    }
    Ok(Exit::Done)
}

/// Tells every change, and why the daemon does not answer where it does not; ends when nobody listens.
async fn feed(global: Global, paths: Paths, changes: Sender<Change>) {
    let mut told = None;
    loop {
        let cause = match open(&global, &paths).await {
            Ok(response) => {
                told = None;
                if let Err(NobodyListens) = read(response, &changes).await {
                    return;
                }
                // One that was started anew may be there already.
                tokio::time::sleep(AT_ONCE).await;
                continue;
            }
            Err(cause) => Some(cause),
        };
        if let Some(cause) = cause.filter(|cause| told.as_ref() != Some(cause)) {
            if changes.send(Change::gone(&cause, now())).await.is_err() {
                return;
            }
            told = Some(cause);
        }
        tokio::time::sleep(AGAIN).await;
    }
}

/// Opens the event stream of the daemon that runs now, wherever that is.
async fn open(global: &Global, paths: &Paths) -> Result<reqwest::Response, String> {
    let (base_url, key) = client::daemon(global, paths)
        .await
        .map_err(|failure| failure.text)?
        .ok_or_else(|| format!("it {}. Start it with: everfresh serve", client::absence(paths)))?;
    let http = client::local_client().read_timeout(SILENCE_MAX).build().map_err(|error| error.to_string())?;
    let request = http.get(format!("{base_url}/events")).header("x-everfresh-key", key);
    let response = request.send().await.map_err(|error| error.without_url().to_string())?;
    if !response.status().is_success() {
        return Err(client::refused_by(&base_url, response).await.text);
    }
    Ok(response)
}

/// Whoever asked for the changes is gone.
struct NobodyListens;

/// Reads a stream to its end.
async fn read(mut response: reqwest::Response, changes: &Sender<Change>) -> Result<(), NobodyListens> {
    let mut events = Events::after(None);
    while let Ok(Some(chunk)) = response.chunk().await {
        if events.push(&chunk).is_err() {
            return Ok(());
        }
        while let Some(event) = events.next() {
            let Ok(data) = serde_json::from_slice::<Value>(&event.data) else { continue };
            changes.send(Change::of(&event.name, &data, now())).await.map_err(|_| NobodyListens)?;
        }
    }
    Ok(())
}

/// Prints each change as `lines` has it, until nobody reads.
async fn on_lines(changes: &mut Receiver<Change>, mut lines: impl FnMut(&Change) -> Vec<String>) -> io::Result<()> {
    while let Some(change) = changes.recv().await {
        for line in lines(&change) {
            writeln!(io::stdout(), "{line}")?;
        }
        if let Some(message) = change.message.as_deref() {
            output::note(format!("{} the daemon does not answer: {message}", change.at));
        }
    }
    Ok(())
}

fn json_line(change: &Change) -> Vec<String> {
    serde_json::to_string(change).into_iter().collect()
}

/// A line for every login whose level or words are others than they were.
fn text_lines(told: &mut BTreeMap<String, String>, change: &Change) -> Vec<String> {
    let mut lines = Vec::new();
    let mut tell = |name: &str, words: String| {
        if told.get(name) != Some(&words) {
            lines.push(format!("{}  {name}  {words}", change.at));
            told.insert(name.to_owned(), words);
        }
    };
    for server in change.servers.iter().flatten().chain(&change.server) {
        let health = &server["health"];
        let words = format!("{}  {}", output::text(&health["level"]), output::text(&health["summary"]));
        let action = health["command"].as_str().map(|command| format!("  -> {command}")).unwrap_or_default();
        tell(&name_of(server), words + &action);
    }
    match &change.grant {
        Some(grant) if change.server.is_none() => tell(grant, "removed".to_owned()),
        Some(_) | None => {}
    }
    lines
}

/// Where things stand, as far as the changes tell.
#[derive(Default)]
struct Standing {
    servers: BTreeMap<String, Value>,
    problems: Vec<String>,
    /// Since when the daemon does not answer, and why.
    gone: Option<(Timestamp, String)>,
    /// Whether anything was told yet.
    is_known: bool,
}

impl Standing {
    fn take(&mut self, change: Change, now: Timestamp) {
        if let Some(message) = change.message {
            let since = self.gone.as_ref().map_or(now, |(since, _)| *since);
            self.gone = Some((since, message));
            return;
        }
        (self.gone, self.is_known) = (None, true);
        if let Some(servers) = change.servers {
            self.servers = servers.into_iter().map(|server| (name_of(&server), server)).collect();
            self.problems =
                output::texts(&change.problems.unwrap_or_default()).into_iter().map(str::to_owned).collect();
        }
        match (change.grant, change.server) {
            (Some(grant), Some(server)) => drop(self.servers.insert(grant, server)),
            (Some(grant), None) => drop(self.servers.remove(&grant)),
            (None, _) => {}
        }
    }

    /// The whole screen, in lines that fit.
    fn frame(&self, now: Timestamp, look: Look, rows: usize) -> Vec<String> {
        let width = look.width.unwrap_or(80);
        let mut lines = vec![look.bold("everfresh list --watch") + "   Ctrl-C ends", String::new()];
        if let Some((since, cause)) = &self.gone {
            let text = format!(
                "the daemon does not answer since {} ({}): {cause}",
                output::on_the_clock(*since),
                seen_from(now, *since)
            );
            lines.extend(output::wrap(&text, width).iter().map(|line| look.level("unhealthy", line)));
            lines.push(String::new());
        }
        if self.is_known {
            let servers: Vec<Value> = self.servers.values().cloned().collect();
            lines.extend(table::rendered(&servers, &self.problems, now, look).lines().map(str::to_owned));
        }
        if lines.len() > rows {
            let hidden = lines.len() + 1 - rows;
            lines.truncate(rows.saturating_sub(1));
            lines.push(format!("... {hidden} more lines; a higher window shows them"));
        }
        lines.iter().map(|line| clipped(line, width)).collect()
    }
}

async fn on_screen(changes: &mut Receiver<Change>) -> io::Result<()> {
    let mut screen = Screen::open()?;
    let mut standing = Standing::default();
    let mut beats = tokio::time::interval(BEAT);
    let mut resized = resizes();
    loop {
        tokio::select! {
            change = changes.recv() => match change {
                Some(change) => standing.take(change, now()),
                None => return Ok(()),
            },
            _ = beats.tick() => {}
            () = resized.next() => screen.forget(),
        }
        let look = Look::of_stdout();
        // Behind a line that is full, some terminals have the cursor on its last letter.
        let look = Look { width: look.width.map(|width| width.saturating_sub(1)), ..look };
        let rows = output::size().map_or(24, |(_, rows)| rows);
        screen.draw(&standing.frame(now(), look, rows))?;
    }
}

/// The terminal's other screen, so that what was there before is there after.
struct Screen {
    shown: Vec<String>,
}

impl Screen {
    fn open() -> io::Result<Self> {
        execute!(io::stdout(), EnterAlternateScreen, Hide)?;
        Ok(Self { shown: Vec::new() })
    }

    /// What is shown is no more: everything is to be drawn.
    fn forget(&mut self) {
        self.shown.clear();
    }

    /// Draws over what is there, line by line; nothing where nothing has changed.
    fn draw(&mut self, frame: &[String]) -> io::Result<()> {
        if self.shown == frame {
            return Ok(());
        }
        let mut out = io::stdout().lock();
        queue!(out, BeginSynchronizedUpdate)?;
        if self.shown.is_empty() {
            queue!(out, Clear(ClearType::All))?;
        }
        for (row, line) in frame.iter().enumerate() {
            queue!(out, MoveTo(0, u16::try_from(row).unwrap_or(u16::MAX)))?;
            write!(out, "{line}")?;
            queue!(out, Clear(ClearType::UntilNewLine))?;
        }
        if frame.len() < self.shown.len() {
            queue!(out, MoveTo(0, u16::try_from(frame.len()).unwrap_or(u16::MAX)), Clear(ClearType::FromCursorDown))?;
        }
        queue!(out, EndSynchronizedUpdate)?;
        out.flush()?;
        self.shown = frame.to_vec();
        Ok(())
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        // A terminal that is gone has nothing to be put back.
        drop(execute!(io::stdout(), Show, LeaveAlternateScreen));
    }
}

/// Tells when the window has another size. Where the system does not, the next beat notices.
struct Resizes {
    #[cfg(unix)]
    signal: Option<tokio::signal::unix::Signal>,
}

fn resizes() -> Resizes {
    Resizes {
        #[cfg(unix)]
        signal: tokio::signal::unix::signal(tokio::signal::unix::SignalKind::window_change()).ok(),
    }
}

impl Resizes {
    async fn next(&mut self) {
        #[cfg(unix)]
        if let Some(signal) = &mut self.signal
            && signal.recv().await.is_some()
        {
            return;
        }
        std::future::pending().await
    }
}

#[cfg(test)]
#[path = "watch_tests.rs"]
mod tests;
