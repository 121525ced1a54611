//! An icon in the desktop's tray that shows how the logins are, and logs in with a click.
//!
//! It is a client of the daemon like any other: it reads `/events`, calls the API, and keeps
//! nothing. Not here: any token, any decision about a login, any way to the store. `model` is pure,
//! `daemon` talks to the daemon, `surface` to the desktop, and `app` is the loop between them.
#![cfg_attr(windows, windows_subsystem = "windows")]

mod app;
mod daemon;
mod icon;
mod model;
mod place;
mod surface;

use std::io::IsTerminal;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;

use crate::place::Seeker;

/// An icon in the desktop's tray that shows how the logins of everfresh are.
#[derive(Debug, Parser)]
#[command(name = "everfresh-tray", version, about)]
struct Cli {
    /// The daemon's folder of store, keys and log.
    #[arg(long, env = "EVERFRESH_DATA_DIR", value_name = "FOLDER")]
    data_dir: Option<PathBuf>,
    /// Where the daemon listens; left out, its data folder says so.
    #[arg(long, env = "EVERFRESH_LISTEN", value_name = "ADDRESS")]
    listen: Option<SocketAddr>,
    /// The command that opens a URL; started without a shell.
    #[arg(long, env = "BROWSER", value_name = "COMMAND")]
    browser_cmd: Option<String>,
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    let lines = tracing_subscriber::fmt().with_writer(std::io::stderr).with_max_level(tracing::Level::INFO);
    lines.with_ansi(std::io::stderr().is_terminal()).init();
    let Some(seeker) = Seeker::new(cli.data_dir, cli.listen) else {
        tracing::error!("this user has no home folder: give --data-dir");
        return ExitCode::from(2);
    };
    match surface::run(move |surface, commands| app::run(seeker, cli.browser_cmd, surface, commands)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            tracing::error!("the tray cannot be shown: {failure}");
            ExitCode::FAILURE
        }
    }
}
