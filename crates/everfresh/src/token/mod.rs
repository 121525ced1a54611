//! `everfresh token`: a valid access token, in the form that whoever asks for it reads.

mod file;
pub(crate) mod git;
mod render;

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, ValueEnum};
use clap_complete::ArgValueCandidates;
use serde_json::Value;

use crate::client::Api;
use crate::commands::path_of;
use crate::completion;
use crate::exit::{Exit, Failure};
use crate::output::{self, progress};

/// The forms of a token.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum TokenOutput {
    /// The token alone.
    #[default]
    Raw,
    /// With its type, end and scopes.
    Json,
    /// As an Authorization header.
    Header,
    /// As a JSON object of headers, for Claude Code's headersHelper.
    HeadersJson,
    /// As an ExecCredential, for kubectl.
    ExecCredential,
}

#[derive(Debug, Args)]
pub(crate) struct Token {
    /// NAME or NAME@ACCOUNT.
    #[arg(add = ArgValueCandidates::new(completion::names))]
    pub(crate) name: String,
    /// How to print it.
    #[arg(short, long, default_value = "raw")]
    pub(crate) output: TokenOutput,
    /// Refresh first where less than this is left of it, or than half of its life.
    #[arg(long, value_parser = humantime::parse_duration, value_name = "TIME")]
    pub(crate) min_validity: Option<Duration>,
    /// Write it to a file that only you can read, whole or not at all.
    #[arg(long, value_name = "FILE")]
    pub(crate) write: Option<PathBuf>,
    /// Keep that file fresh, until ended.
    #[arg(long, requires = "write")]
    pub(crate) watch: bool,
}

/// Prints or writes one.
pub(crate) async fn token(api: &Api, asked: &Token) -> Result<Exit, Failure> {
    let version = render::exec_version(std::env::var("KUBERNETES_EXEC_INFO").ok().as_deref());
    let text = async || {
        let answer = fetch(api, &asked.name, asked.min_validity).await?;
        check_usable(&asked.name, &answer, asked.output)?;
        Ok((render::render(asked.output, &answer, version.clone())?, answer))
    };
    match &asked.write {
        None => output::line(text().await?.0),
        Some(path) if asked.watch => file::keep(api, path, text).await?,
        Some(path) => {
            let (text, answer) = text().await?;
            file::write(path, &text)?;
            output::note(file::written(path, &answer));
        }
    }
    Ok(Exit::Done)
}

/// A valid token of `name` as the API tells it.
async fn fetch(api: &Api, name: &str, min_validity: Option<Duration>) -> Result<Value, Failure> {
    let query = min_validity.map(|wanted| format!("?min_validity={}", wanted.as_secs())).unwrap_or_default();
    let path = format!("{}/token{query}", path_of(name)?);
    progress::during(&format!("{name}: waiting for a valid token"), api.get(&path)).await
}

/// A token that is bound to a key is looked at, and not handed out as if it were of use.
fn check_usable(name: &str, answer: &Value, form: TokenOutput) -> Result<(), Failure> {
    let bound = answer["token_type"].as_str().is_some_and(|kind| kind.eq_ignore_ascii_case("DPoP"));
    if !bound || form == TokenOutput::Json {
        return Ok(());
    }
    let text = format!(
        "{name}: the token is bound to a key that only everfresh has (DPoP), and is of no use without it; \
         send requests through everfresh instead (everfresh url {name}), or look at the token with -o json"
    );
    Err(Failure::new(Exit::Refused, text))
}
