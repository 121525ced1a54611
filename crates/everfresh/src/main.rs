//! everfresh: log in once, stay logged in.
//!
//! The binary parses, composes and exits; nothing is decided here.

mod alive;
mod backup;
mod cli;
mod client;
mod commands;
mod completion;
mod compose;
mod config;
mod connect;
mod daemon_log;
mod demo;
mod exit;
mod explain;
mod help;
mod import;
mod keys;
mod loading;
mod local_key;
mod logging;
mod manual;
mod notices;
mod output;
mod paths;
mod schema;
mod serve;
mod service;
mod stdio;
mod token;
mod traces;

use std::process::ExitCode;

use clap::{CommandFactory, Parser};

use cli::{Cli, Command};
use exit::{Exit, Failure};
use paths::Paths;
use serve::Serve;

fn main() -> ExitCode {
    completion::answer();
    let cli = parsed();
    // The driver, the store's callers and API calls; the data plane has threads of its own.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let ended = match runtime {
        Ok(runtime) => {
            let ended = runtime.block_on(run(cli));
            // Nothing that is still running counts: whatever matters was waited for.
            runtime.shutdown_background();
            ended
        }
        Err(error) => Err(Failure::new(Exit::Failed, format!("no runtime: {error}"))),
    };
    match ended.and_then(all_was_told) {
        Ok(exit) => exit.into(),
        Err(failure) => {
            output::note(format!("everfresh: {}", failure.text));
            failure.exit.into()
        }
    }
}

/// A result that could not be printed was not given: whoever reads it must not take less for all.
fn all_was_told(exit: Exit) -> Result<Exit, Failure> {
    match output::lost() {
        None => Ok(exit),
        Some(error) => Err(Failure::new(Exit::Failed, format!("the result could not be written to stdout: {error}"))),
    }
}

/// The command line, or its end with what is wrong with it. That is told as if no variable were set: clap
/// takes those for words that were typed, and shows them in the usage.
fn parsed() -> Cli {
    Cli::try_parse().unwrap_or_else(|error| {
        let typed_alone = Cli::command().mut_args(|argument| argument.env(None::<&str>)).try_get_matches();
        match typed_alone {
            Err(plainer) if error.use_stderr() => plainer.exit(),
            Ok(_) | Err(_) => error.exit(),
        }
    })
}

async fn run(cli: Cli) -> Result<Exit, Failure> {
    let global = cli.global;
    let command = cli.command.unwrap_or_else(|| Command::Serve(Serve::default()));
    if let Command::Completions { shell } = command {
        output::bytes(&completion::script(shell)?);
        return Ok(Exit::Done);
    }
    if let Command::Schema { shape } = command {
        output::json(&shape.schema());
        return Ok(Exit::Done);
    }
    if let Command::Man { folder } = &command {
        return manual::manual(folder.as_deref());
    }
    if let Command::Explain(topic) = &command {
        return explain::explain(topic);
    }
    if let Command::Serve(wanted) = command {
        let _traces = logging::start_with_traces(&global, "info")?;
        return serve::serve(&global, &Paths::of(&global)?, wanted).await.map(|()| Exit::Done);
    }
    if let Command::Demo(demo) = &command {
        logging::start(&global, "off")?;
        return demo::demo(&global, demo).await.map(|()| Exit::Done);
    }
    if let Command::Stdio(name) = &command {
        logging::start(&global, "warn")?;
        return stdio::stdio(&global, &Paths::of(&global)?, &name.name).await;
    }
    if let Command::Service(command) = &command {
        logging::start(&global, "warn")?;
        return service::service(&global, &Paths::of(&global)?, command).await;
    }
    logging::start(&global, "error")?;
    if let Command::Ready(wanted) = &command {
        return service::ready::ready(&global, &Paths::of(&global)?, wanted).await;
    }
    commands::run(command, &global, &Paths::of(&global)?).await
}
