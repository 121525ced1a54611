//! The daemon at the other end: found, or started so that it outlives the client.
//!
//! Whoever starts first, the lock of the store decides: a daemon that loses ends by itself, and
//! the bridge that started it uses the winner.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::{Instant, sleep};

use crate::cli::Global;
use crate::client::running_daemon;
use crate::daemon_log;
use crate::exit::{Exit, Failure};
use crate::local_key;
use crate::paths::Paths;

/// How long a daemon that was there is waited for before another is started: most come back, and
/// a service manager's should not find its place taken.
const GRACE: Duration = Duration::from_secs(2);

/// How long a daemon may take to be ready.
const START: Duration = Duration::from_secs(20);

/// How often it is looked whether it is.
const LOOK: Duration = Duration::from_millis(50);

/// How long to wait before a start that the store's lock refused is tried again.
const LOCKED_PAUSE: Duration = Duration::from_millis(300);

/// Where a daemon is, and what it wants to see.
#[derive(Debug)]
pub(super) struct Place {
    pub(super) base_url: String,
    pub(super) key: String,
}

/// The way to the daemon.
pub(super) struct Daemon {
    global: Global,
    paths: Paths,
    place: Mutex<Option<Arc<Place>>>,
    /// One looks, the others wait for what is found.
    looking: tokio::sync::Mutex<()>,
}

impl Daemon {
    pub(super) fn new(global: &Global, paths: &Paths) -> Self {
        let (place, looking) = (Mutex::default(), tokio::sync::Mutex::default());
        Self { global: global.clone(), paths: paths.clone(), place, looking }
    }

    /// The daemon, which is started where none runs.
    pub(super) async fn reach(&self) -> Result<Arc<Place>, Failure> {
        if let Some(place) = self.known() {
            return Ok(place);
        }
        let _looking = self.looking.lock().await;
        if let Some(place) = self.known() {
            return Ok(place);
        }
        let base_url = match running_daemon(&self.global, &self.paths).await {
            Some(base_url) => base_url,
            None => self.start(Instant::now() + START).await?,
        };
        self.found(base_url)
    }

    /// The same after `lost` did not answer: it may come back by itself.
    pub(super) async fn reach_again(&self, lost: &Arc<Place>) -> Result<Arc<Place>, Failure> {
        self.forget(lost);
        let deadline = Instant::now() + GRACE;
        while Instant::now() < deadline {
            if let Some(place) = self.look().await? {
                return Ok(place);
            }
            sleep(LOOK).await;
        }
        self.reach().await
    }

    /// The daemon, if one runs.
    pub(super) async fn look(&self) -> Result<Option<Arc<Place>>, Failure> {
        if let Some(place) = self.known() {
            return Ok(Some(place));
        }
        match running_daemon(&self.global, &self.paths).await {
            Some(base_url) => self.found(base_url).map(Some),
            None => Ok(None),
        }
    }

    /// Takes `lost` for gone.
    pub(super) fn forget(&self, lost: &Arc<Place>) {
        let mut place = self.place.lock().unwrap_or_else(PoisonError::into_inner);
        if place.as_ref().is_some_and(|place| Arc::ptr_eq(place, lost)) {
            *place = None;
        }
    }

    /// The place with the key that is kept there, where `place` has another: keys are rotated while
    /// bridges run.
    pub(super) fn rekeyed(&self, place: &Arc<Place>) -> Option<Arc<Place>> {
        let key = local_key::find(&self.paths).ok().flatten().filter(|key| *key != place.key)?;
        let place = Arc::new(Place { base_url: place.base_url.clone(), key });
        *self.place.lock().unwrap_or_else(PoisonError::into_inner) = Some(Arc::clone(&place));
        Some(place)
    }

    fn known(&self) -> Option<Arc<Place>> {
        self.place.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn found(&self, base_url: String) -> Result<Arc<Place>, Failure> {
        let no_key = || {
            let folder = self.paths.data.display();
            Failure::new(Exit::NoDaemon, format!("the daemon runs at {base_url}, and its local key is not in {folder}"))
        };
        let key = local_key::find(&self.paths)?.ok_or_else(no_key)?;
        let place = Arc::new(Place { base_url, key });
        *self.place.lock().unwrap_or_else(PoisonError::into_inner) = Some(Arc::clone(&place));
        Ok(place)
    }

    /// Starts daemons until one of them, or another bridge's, is ready.
    async fn start(&self, deadline: Instant) -> Result<String, Failure> {
        loop {
            let mut started = Started::detached(&self.global, &self.paths)
                .map_err(|error| Failure::new(Exit::NoDaemon, format!("the daemon cannot be started: {error}")))?;
            let ended = loop {
                if let Some(base_url) = running_daemon(&self.global, &self.paths).await {
                    return Ok(base_url);
                }
                if Instant::now() >= deadline {
                    let text =
                        format!("the daemon was not ready within {START:?}; its log is {}", started.log.display());
                    return Err(Failure::new(Exit::NoDaemon, text));
                }
                tokio::select! {
                    ended = &mut started.ended => break ended.ok(),
                    () = sleep(LOOK) => {}
                }
            };
            let is_locked = ended.and_then(|ended| ended.code()) == Some(Exit::Store as i32) && started.says("in use");
            if !is_locked {
                // It may have lost to another in a way that does not show in its exit code.
                let running = running_daemon(&self.global, &self.paths).await;
                return running.ok_or_else(|| started.failure(ended));
            }
            sleep(LOCKED_PAUSE).await;
        }
    }
}

/// A daemon that was started here and belongs to nobody.
struct Started {
    ended: oneshot::Receiver<ExitStatus>,
    log: PathBuf,
    /// Where its own lines begin in the log.
    began: u64,
}

impl Started {
    /// Starts a daemon with what this process was told about places, in a process group of its
    /// own: what ends the client and its children does not end it.
    fn detached(global: &Global, paths: &Paths) -> io::Result<Self> {
        let (log, file) = daemon_log::open(paths)?;
        let began = file.metadata()?.len();
        let mut command = Command::new(std::env::current_exe()?);
        command.arg("serve").args(["--log-format", "json"]).arg("--data-dir").arg(std::path::absolute(&paths.data)?);
        if paths.config_is_named {
            command.arg("--config").arg(std::path::absolute(&paths.config)?);
        }
        if let Some(address) = global.listen {
            command.args(["--listen", &address.to_string()]);
        }
        // What a service manager told this process is not for another one.
        command.env_remove("NOTIFY_SOCKET").env_remove("LISTEN_FDS");
        command.current_dir(&paths.data).stdin(Stdio::null()).stdout(Stdio::null()).stderr(file);
        let mut child = spawn_apart(&mut command)?;
        tracing::info!(pid = child.id(), log = %log.display(), "a daemon is started");
        let (told, ended) = oneshot::channel();
        // Whoever started a process must wait for it, also for one that lives longer.
        std::thread::Builder::new()
            .name("daemon".to_owned())
            .spawn(move || child.wait().map(|status| told.send(status)))?;
        Ok(Self { ended, log, began })
    }

    /// What it said in the log.
    fn words(&self) -> String {
        let mut words = String::new();
        let read = File::open(&self.log).and_then(|mut log| {
            log.seek(SeekFrom::Start(self.began))?;
            log.read_to_string(&mut words)
        });
        if read.is_ok() { words } else { String::new() }
    }

    fn says(&self, words: &str) -> bool {
        self.words().contains(words)
    }

    /// Why there is no daemon, in its own last words.
    fn failure(&self, ended: Option<ExitStatus>) -> Failure {
        let words = self.words();
        let last = words.rsplit_once("everfresh: ").map(|(_, last)| last.trim_end().to_owned());
        let how = ended.map_or_else(|| "it ended".to_owned(), |ended| ended.to_string());
        let cause = last.unwrap_or_else(|| format!("{how}; its log is {}", self.log.display()));
        let code = ended.and_then(|ended| ended.code());
        let exit =
            [Exit::Usage, Exit::Store].into_iter().find(|exit| Some(*exit as i32) == code).unwrap_or(Exit::NoDaemon);
        Failure::new(exit, format!("the daemon cannot be started: {cause}"))
    }
}

/// Starts `command` so that it is not ended with this process and its group.
#[cfg(unix)]
fn spawn_apart(command: &mut Command) -> io::Result<Child> {
    std::os::unix::process::CommandExt::process_group(command, 0);
    command.spawn()
}

/// Starts `command` so that it is not ended with this process, its console and, where that may be
/// left, its job. It gets a console that nobody sees, which what it starts has too: without one, each
/// of those would show a window.
#[cfg(windows)]
fn spawn_apart(command: &mut Command) -> io::Result<Child> {
    use std::os::windows::process::CommandExt;

    /// `CREATE_NO_WINDOW | CREATE_NEW_PROCESS_GROUP`.
    const APART: u32 = 0x0800_0000 | 0x0000_0200;
    const CREATE_BREAKAWAY_FROM_JOB: u32 = 0x0100_0000;
    match command.creation_flags(APART | CREATE_BREAKAWAY_FROM_JOB).spawn() {
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => command.creation_flags(APART).spawn(),
        spawned => spawned,
    }
}
