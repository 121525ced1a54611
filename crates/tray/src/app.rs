//! The loop: what is told changes what is known, what is known is shown, what is asked for is done.

use everfresh_domain::Secret;
use tokio::sync::mpsc;

use crate::daemon::{self, Daemon};
use crate::model::{Command, Told, World};
use crate::place::Seeker;
use crate::surface::Surface;

/// Events that wait while the desktop takes one: a burst of a daemon with many logins.
const TOLD_BOUND: usize = 64;

/// Shows the daemon until a person quits.
pub(crate) async fn run(
    seeker: Seeker,
    browser: Option<String>,
    surface: Surface,
    mut commands: mpsc::Receiver<Command>,
) {
    let daemon = Daemon::new(seeker);
    let (tell, mut told) = mpsc::channel(TOLD_BOUND);
    let mut world = World::default();
    let mut shown = world.view();
    let follow = daemon.follow(tell.clone());
    tokio::pin!(follow);
    loop {
        tokio::select! {
            () = &mut follow => return,
            Some(news) = told.recv() => {
                if let Err(error) = world.hear(news) {
                    tracing::warn!(%error, "an event of the daemon is not understood: are both of one version?");
                }
            }
            command = commands.recv() => match command {
                None | Some(Command::Quit) => return,
                Some(command) => {
                    world.begin();
                    tokio::spawn(act(daemon.clone(), browser.clone(), command, tell.clone()));
                }
            },
        }
        let view = world.view();
        if view != shown {
            surface.show(view.clone()).await;
            shown = view;
        }
    }
}

/// Does what a person asked for, and tells what they must know of it.
async fn act(daemon: Daemon, browser: Option<String>, command: Command, tell: mpsc::Sender<Told>) {
    let grant = command.grant().to_owned();
    let text = match carry_out(&daemon, browser.as_deref(), &command).await {
        Ok(None) => return,
        Ok(Some(text)) | Err(text) => text,
    };
    tracing::info!(grant, "{text}");
    // Nobody listens where the tray ends.
    drop(tell.send(Told::Note { grant, text }).await);
}

/// What a person must know of it, or why it did not work.
async fn carry_out(daemon: &Daemon, browser: Option<&str>, command: &Command) -> Result<Option<String>, String> {
    match command {
        Command::LogIn(grant) => {
            let failed = |error: daemon::Failure| format!("The login to {grant} cannot begin: {error}");
            let started = daemon.log_in(grant).await.map_err(failed)?;
            open(browser, &started.authorization_url, &format!("everfresh login {grant}"))?;
            Ok(started.device.map(|device| format!("{grant}: the provider asks for this code: {}", device.user_code)))
        }
        Command::Refresh(grant) => {
            let failed = |error: daemon::Failure| format!("{grant} was not refreshed: {error}");
            daemon.refresh(grant).await.map(|()| None).map_err(failed)
        }
        Command::Enable(grant) => {
            let failed = |error: daemon::Failure| format!("{grant} was not enabled: {error}");
            daemon.enable(grant).await.map(|()| None).map_err(failed)
        }
        Command::OpenPage => {
            let failed = |error: daemon::Failure| format!("The page cannot be opened: {error}");
            let link = daemon.page_link().await.map_err(failed)?;
            open(browser, &link, "everfresh open").map(|()| None)
        }
        Command::Quit => Ok(None),
    }
}

/// Opens a URL, which holds a secret and is never shown.
fn open(browser: Option<&str>, url: &Secret, instead: &str) -> Result<(), String> {
    everfresh_browser::open(browser, url.expose())
        .map_err(|cause| format!("The browser cannot be opened ({cause}). Run: {instead}"))
}
