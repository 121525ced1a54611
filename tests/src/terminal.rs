//! A command on a terminal of its own: what it draws is read, its window has a size, and it is told to
//! end as by a person. `script` of util-linux makes the terminal.

use std::path::Path;
use std::process::Stdio;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::io::AsyncReadExt;
use tokio::process::{Child, Command};

use crate::daemon::command;
use crate::wait::until;

/// How long a command may take to begin and to end.
const PATIENCE: Duration = Duration::from_secs(20);

/// A running command and what it has drawn so far.
pub struct Terminal {
    child: Child,
    drawn: Arc<Mutex<String>>,
    pid: String,
    tty: String,
}

impl Terminal {
    /// Runs the binary on the data folder in a window of this size; `variables` are its environment's.
    pub async fn start(folder: &Path, size: (u16, u16), variables: &[(&str, &str)], arguments: &[&str]) -> Self {
        let mut wanted = command(folder);
        wanted.args(arguments);
        let wanted = wanted.as_std();
        let words = std::iter::once(wanted.get_program()).chain(wanted.get_args());
        let line: Vec<String> = words.map(|word| format!("'{}'", word.to_string_lossy())).collect();
        let (columns, rows) = size;
        let line = format!("stty cols {columns} rows {rows}; echo \"pid=$$ tty=$(tty) \"; exec {}", line.join(" "));
        let mut script = Command::new("script");
        script.args(["--quiet", "--return", "--flush", "--command", &line, "/dev/null"]);
        let own = wanted.get_envs().filter_map(|(name, value)| Some((name, value?)));
        script.env_clear().envs(own.filter(|(name, _)| *name != "NO_COLOR"));
        script.env("TERM", "xterm-256color").envs(variables.iter().copied());
        let piped = script.stdin(Stdio::null()).stdout(Stdio::piped()).kill_on_drop(true).spawn();
        let mut child = piped.expect("script of util-linux runs");
        let mut out = child.stdout.take().expect("stdout is piped");
        let drawn = Arc::new(Mutex::new(String::new()));
        let kept = Arc::clone(&drawn);
        tokio::spawn(async move {
            let mut chunk = [0; 4096];
            while let Ok(count @ 1..) = out.read(&mut chunk).await {
                let text = String::from_utf8_lossy(&chunk[..count]);
                kept.lock().unwrap_or_else(PoisonError::into_inner).push_str(&text);
            }
        });
        let mut terminal = Self { child, drawn, pid: String::new(), tty: String::new() };
        let begun = || async {
            let drawn = terminal.drawn();
            let word = |name: &str| Some(drawn.split_once(name)?.1.split_once(' ')?.0.to_owned());
            Some((word("pid=")?, word("tty=")?))
        };
        let ((pid, tty), _) = until("the terminal to be there", PATIENCE, begun).await;
        (terminal.pid, terminal.tty) = (pid, tty);
        terminal
    }

    /// Everything that was drawn so far, with what controls the terminal.
    pub fn drawn(&self) -> String {
        self.drawn.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// How much was drawn so far, to look at what comes after.
    pub fn mark(&self) -> usize {
        self.drawn().len()
    }

    /// Waits until `words` are drawn after `mark`.
    pub async fn expect_after(&self, mark: usize, words: &str) -> Duration {
        let seen = || async { self.drawn()[mark..].contains(words).then_some(()) };
        let began = std::time::Instant::now();
        while seen().await.is_none() {
            assert!(began.elapsed() < PATIENCE, "no {words:?} in {:?}", &self.drawn()[mark..]);
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        began.elapsed()
    }

    /// Gives the window another size.
    pub fn resize(&self, columns: u16, rows: u16) {
        let (columns, rows) = (columns.to_string(), rows.to_string());
        let stty = std::process::Command::new("stty").args(["-F", &self.tty, "cols", &columns, "rows", &rows]).status();
        assert!(stty.expect("stty runs").success());
    }

    /// Ctrl-C, and the exit code once the command has ended.
    pub async fn interrupt(mut self) -> (i32, String) {
        let sent = std::process::Command::new("kill").args(["-INT", &self.pid]).status();
        assert!(sent.expect("kill runs").success());
        let ended = tokio::time::timeout(PATIENCE, self.child.wait()).await.expect("it ends").expect("it ran");
        let (code, drawn) = (ended.code().unwrap_or(-1), self.drawn());
        (code, drawn)
    }

    /// Waits for the end of a command that ends by itself.
    pub async fn ended(mut self) -> (i32, String) {
        let ended = tokio::time::timeout(PATIENCE, self.child.wait()).await.expect("it ends").expect("it ran");
        (ended.code().unwrap_or(-1), self.drawn())
    }
}
