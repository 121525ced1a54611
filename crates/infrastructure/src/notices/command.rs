//! A command of the user's: started without a shell, told on standard input, and ended in time with
//! everything that it started.

use std::io;
use std::process::Stdio;
use std::time::Duration;

use async_trait::async_trait;
use everfresh_application::ports::{Delivered, NotDelivered, NoticeMessage, Notifier};
use everfresh_domain::Notice;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::process::{Child, Command};

use super::never;

/// How much of its output is kept for the log; the rest is read and dropped.
const OUTPUT_MAX: usize = 4 * 1024;

/// How long output is waited for after the command has ended: what it left running may hold on to it.
const LAST_WORDS: Duration = Duration::from_millis(200);

/// How much longer than the command's own time a delivery may take, for ending it.
const ENDING: Duration = Duration::from_secs(2);

/// Runs a command for each notice.
#[derive(Clone, Debug)]
pub struct CommandNotifier {
    words: Vec<String>,
    limit: Duration,
    withheld: Vec<String>,
}

impl CommandNotifier {
    /// Runs `words`, program first, for at most `limit`. The variables called `withheld` are not
    /// passed on: they hold secrets.
    pub fn new(words: Vec<String>, limit: Duration, withheld: Vec<String>) -> Self {
        Self { words, limit, withheld }
    }

    fn command(&self, notice: &Notice) -> Result<Command, NotDelivered> {
        let (program, arguments) = self.words.split_first().ok_or_else(|| never("the command is empty"))?;
        let mut command = Command::new(program);
        command.args(arguments).envs(variables(notice));
        self.withheld.iter().for_each(|name| {
            command.env_remove(name);
        });
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
        #[cfg(unix)]
        command.process_group(0);
        Ok(command)
    }
}

/// The notice as environment variables, for commands that read no JSON.
fn variables(notice: &Notice) -> [(&'static str, String); 6] {
    let servers: Vec<String> = notice.concerns.iter().map(|(grant, _)| grant.to_string()).collect();
    let reason = notice.concerns.first().map(|(_, concern)| concern.reason.as_str()).unwrap_or_default();
    [
        ("EVERFRESH_EVENT", notice.kind.as_str().to_owned()),
        ("EVERFRESH_NOTICE_ID", notice.id.to_string()),
        ("EVERFRESH_SERVER", servers.join(" ")),
        ("EVERFRESH_REASON", reason.to_owned()),
        ("EVERFRESH_TITLE", notice.title()),
        ("EVERFRESH_TEXT", notice.text()),
    ]
}

#[async_trait]
impl Notifier for CommandNotifier {
    fn name(&self) -> &'static str {
        "command"
    }

    fn time_limit(&self) -> Duration {
        self.limit + ENDING
    }

    async fn deliver(&self, message: &NoticeMessage) -> Result<Delivered, NotDelivered> {
        let program = self.words.first().cloned().unwrap_or_default();
        let spawned = self.command(&message.notice)?.spawn();
        let child = spawned.map_err(|error| never(format!("{program} cannot be started: {error}")))?;
        let mut running = Running::new(child);
        let ended = tokio::time::timeout(self.limit, running.run(message.json.as_bytes())).await;
        let Ok(ended) = ended else {
            return Err(never(format!("{program} did not end within {:?}, and was killed", self.limit)));
        };
        let Ended { status, output } = ended.map_err(|error| never(format!("{program}: {error}")))?;
        tracing::debug!(program, %status, output, "the notify command ended");
        if status.success() {
            return Ok(Delivered::Done(format!("{program} ended with {status}")));
        }
        Err(never(format!("{program} ended with {status}; its output is in the log at level debug")))
    }
}

struct Ended {
    status: std::process::ExitStatus,
    output: String,
}

/// A child that is killed with its whole tree when it is dropped before its end.
struct Running {
    child: Child,
    pid: Option<u32>,
}

impl Running {
    fn new(child: Child) -> Self {
        Self { pid: child.id(), child }
    }

    async fn run(&mut self, input: &[u8]) -> io::Result<Ended> {
        let (stdin, out, err) = (self.child.stdin.take(), self.child.stdout.take(), self.child.stderr.take());
        let told = async {
            if let Some(mut stdin) = stdin {
                // A command that reads nothing closes the pipe, which is its right.
                drop(stdin.write_all(input).await);
            }
        };
        let (mut out_text, mut err_text) = (Vec::new(), Vec::new());
        let status = {
            let reading = async { tokio::join!(told, read(out, &mut out_text), read(err, &mut err_text)) };
            tokio::pin!(reading);
            let status = tokio::select! {
                status = self.child.wait() => {
                    // Its number may be another's from here on.
                    self.pid = None;
                    drop(tokio::time::timeout(LAST_WORDS, reading).await);
                    status
                }
                _ = &mut reading => self.child.wait().await,
            };
            self.pid = None;
            status?
        };
        out_text.extend_from_slice(&err_text);
        Ok(Ended { status, output: String::from_utf8_lossy(&out_text).into_owned() })
    }
}

/// Reads to the end, and keeps the beginning.
async fn read(from: Option<impl AsyncRead + Unpin>, kept: &mut Vec<u8>) {
    let Some(mut from) = from else { return };
    let mut chunk = [0; 4096];
    while let Ok(length @ 1..) = from.read(&mut chunk).await {
        let room = OUTPUT_MAX.saturating_sub(kept.len()).min(length);
        kept.extend_from_slice(&chunk[..room]);
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if let Some(pid) = self.pid {
            kill_tree(pid);
        }
    }
}

/// Kills the process group that the command leads.
#[cfg(unix)]
fn kill_tree(pid: u32) {
    use rustix::process::{Pid, Signal, kill_process_group};

    if let Some(group) = i32::try_from(pid).ok().and_then(Pid::from_raw) {
        // It may have ended by itself just then.
        let _ = kill_process_group(group, Signal::KILL);
    }
}

/// Kills the command and what it started, by the system's own means.
#[cfg(windows)]
fn kill_tree(pid: u32) {
    let mut taskkill = std::process::Command::new("taskkill");
    taskkill.args(["/T", "/F", "/PID", &pid.to_string()]);
    // The command itself is killed in any case.
    drop(taskkill.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).status());
}
