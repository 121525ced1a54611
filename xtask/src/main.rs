//! The project's chores. Each runs other programs; nothing of everfresh is linked here.

mod bench;
mod ci;
mod conformance;
mod fuzz;
mod lock;
mod mutants;
mod npm;
mod package;
mod page;
mod real;
mod run;
mod tidy;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// The chores of everfresh.
#[derive(Debug, Parser)]
#[command(name = "cargo xtask", disable_help_subcommand = true)]
struct Cli {
    #[command(subcommand)]
    chore: Chore,
}

#[derive(Debug, Subcommand)]
enum Chore {
    /// Everything that continuous integration runs.
    Ci,
    /// Everything but the tests: form, lints, layers, documents, licences, each crate alone.
    Check,
    /// Every test: unit, contract, simulation, end to end, the page, foreign software, conformance.
    Test,
    /// The built binary against servers over HTTP, killed and restarted.
    E2e {
        /// Against software that none of us wrote, installed from npm and PyPI.
        #[arg(long)]
        real: bool,
        /// Only tests whose name contains this.
        name: Option<String>,
    },
    /// The official conformance suite of MCP through the built binary, installed from npm.
    Conformance {
        /// Only this leg: client, server (direct and through everfresh alike), or front (the same
        /// with tokens of two seconds).
        #[arg(long)]
        leg: Option<String>,
        /// Only this scenario.
        #[arg(long)]
        scenario: Option<String>,
    },
    /// The page in headless Chromium, driven by playwright-core and checked by axe-core from npm.
    Page {
        /// Only tests whose name contains this.
        name: Option<String>,
    },
    /// The rules of layers and texts.
    Tidy,
    /// Simulated years in bad weather: of the engine, or with --storm of the whole application.
    ///
    /// --seed N | --seeds A..B, --years Y, or --storm --days D or --dies-at BOUNDARY; --record FILE,
    /// --replay FILE.
    Sim {
        /// As above.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        wanted: Vec<String>,
    },
    /// everfresh broken on purpose, one place at a time: some test must notice each.
    Mutants {
        /// Only those whose sentence contains this.
        name: Option<String>,
    },
    /// Foreign bytes into the parsers that `tests/fuzz/` has targets for.
    Fuzz {
        /// Only this target.
        target: Option<String>,
        /// For how long each.
        #[arg(long, default_value_t = 20)]
        seconds: u32,
    },
    /// What is shipped for this system: an archive, with --deb a Debian package too.
    Package {
        /// A Debian package too.
        #[arg(long)]
        deb: bool,
    },
    /// Measures, beside a peer in the same run.
    Bench {
        /// Only this one: start, recovery, proxy or sim.
        name: Option<String>,
    },
}

fn main() -> ExitCode {
    let done = match Cli::parse().chore {
        Chore::Ci => ci::ci(),
        Chore::Check => ci::check(),
        Chore::Test => ci::test(),
        Chore::E2e { real: false, name } => ci::e2e(name.as_deref()),
        Chore::E2e { real: true, .. } => real::real(),
        Chore::Conformance { leg, scenario } => conformance::conformance(leg.as_deref(), scenario.as_deref()),
        Chore::Page { name } => page::page(name.as_deref()),
        Chore::Tidy => tidy::tidy(),
        Chore::Sim { wanted } => ci::sim(&wanted),
        Chore::Mutants { name } => mutants::mutants(name.as_deref()),
        Chore::Fuzz { target, seconds } => fuzz::fuzz(target.as_deref(), seconds),
        Chore::Package { deb } => package::package(deb),
        Chore::Bench { name } => bench::bench(name.as_deref()),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            run::say(&format!("xtask: {error}"));
            ExitCode::FAILURE
        }
    }
}
