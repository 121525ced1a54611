//! A stdio MCP server that forwards to a server behind the daemon, for clients that speak nothing
//! else.
//!
//! On stdout there are messages and nothing else. It knows the two ways of Streamable HTTP: with a
//! session (MCP 2025-03-26 to 2025-11-25) and without (2026-07-28); tokens are the daemon's affair.

mod bridge;
mod daemon;
mod exchange;
mod framing;
mod message;
mod mirror;
mod session;
pub(crate) mod sse;
mod upstream;

use std::io;
use std::time::Duration;

use everfresh_domain::GrantId;
use tokio::io::{AsyncWrite, AsyncWriteExt};
use tokio::sync::mpsc;
use tokio::time::timeout;

use crate::cli::Global;
use crate::exit::{Exit, Failure};
use crate::paths::Paths;
use bridge::Bridge;
use daemon::Daemon;
use upstream::Upstream;

/// Lines that wait for a client to read them.
const OUT: usize = 64;

/// How long answers under way are waited for once the client has no more to say. One that does
/// not want them says so with a signal.
const LINGER: Duration = Duration::from_secs(30);

/// How long a client may take to read what was said last.
const FLUSH: Duration = Duration::from_secs(1);

/// Serves the client at stdin and stdout until it goes away.
pub(crate) async fn stdio(global: &Global, paths: &Paths, name: &str) -> Result<Exit, Failure> {
    let grant: GrantId = name
        .parse()
        .map_err(|error: everfresh_domain::ids::InvalidName| Failure::new(Exit::NoSuchServer, error.to_string()))?;
    keep_handles();
    let daemon = Daemon::new(global, paths);
    daemon.reach().await?;
    let (out, lines) = mpsc::channel(OUT);
    let mut writer = tokio::spawn(write(tokio::io::stdout(), lines));
    let bridge = Bridge::new(Upstream::new(daemon, &grant.to_string()), out);
    let stop = told_to_stop();
    tokio::pin!(stop);
    let serving = async {
        bridge.hear(tokio::io::stdin()).await;
        if timeout(LINGER, bridge.answered()).await.is_err() {
            tracing::warn!("the client has gone, and not all of its requests were answered in time");
        }
    };
    tokio::select! {
        () = serving => {}
        () = &mut stop => {}
        _ = &mut writer => {}
    }
    bridge.close().await;
    if !writer.is_finished() {
        drop(timeout(FLUSH, writer).await);
    }
    Ok(Exit::Done)
}

/// Writes lines until there are no more, or nobody reads.
async fn write(mut client: impl AsyncWrite + Unpin, mut lines: mpsc::Receiver<Vec<u8>>) -> io::Result<()> {
    while let Some(line) = lines.recv().await {
        client.write_all(&line).await?;
        if lines.is_empty() {
            client.flush().await?;
        }
    }
    client.flush().await
}

/// Keeps the client's pipes out of the processes that this one starts: Windows gives a child every
/// handle that may be inherited, and a daemon that had them would keep them open for ever.
#[cfg(windows)]
fn keep_handles() {
    use filedescriptor::{FileDescriptor, StdioDescriptor};

    let replaced = [
        FileDescriptor::redirect_stdio(&io::stdin(), StdioDescriptor::Stdin),
        FileDescriptor::redirect_stdio(&io::stdout(), StdioDescriptor::Stdout),
        FileDescriptor::redirect_stdio(&io::stderr(), StdioDescriptor::Stderr),
    ];
    // Duplicates, which are not inherited, have taken the places of the handles that are closed here.
    for error in replaced.into_iter().filter_map(Result::err) {
        tracing::warn!(%error, "the daemon will hold a pipe of the client's open");
    }
}

/// Elsewhere children have the descriptors that they are given, and no others.
#[cfg(not(windows))]
fn keep_handles() {}

/// Ends when somebody wants this process to end.
#[cfg(unix)]
pub(crate) async fn told_to_stop() {
    use tokio::signal::unix::{SignalKind, signal};

    let waiting = [SignalKind::terminate(), SignalKind::interrupt(), SignalKind::hangup()].map(|kind| async move {
        match signal(kind) {
            Ok(mut signal) => drop(signal.recv().await),
            Err(_) => std::future::pending().await,
        }
    });
    let [terminate, interrupt, hangup] = waiting;
    tokio::select! {
        () = terminate => {}
        () = interrupt => {}
        () = hangup => {}
    }
}

#[cfg(not(unix))]
pub(crate) async fn told_to_stop() {
    if tokio::signal::ctrl_c().await.is_err() {
        std::future::pending::<()>().await;
    }
}
