//! `everfresh notify`: whether notices arrive.

use clap::{Args, Subcommand};

use crate::cli::Output;
use crate::client::Api;
use crate::exit::{Exit, Failure};
use crate::output;

#[derive(Debug, Subcommand)]
pub(crate) enum Notify {
    /// Send a test through every way that is configured, and say what each did.
    Test(Test),
}

#[derive(Debug, Args)]
pub(crate) struct Test {
    /// How to print it.
    #[arg(short, long, default_value = "table")]
    output: Output,
}

/// Sends a test. Exit code 1 where it did not arrive somewhere.
pub(super) async fn test(api: &Api, test: &Test) -> Result<Exit, Failure> {
    let answer = api.post("/api/v1/notify/test", None).await?;
    let sinks = answer["sinks"].as_array().map(Vec::as_slice).unwrap_or_default();
    match test.output {
        Output::Json => output::json(&answer),
        Output::Table => {
            let mut table = output::table(["WAY", "RESULT", "DETAIL"]);
            for sink in sinks {
                table.add_row(["sink", "result", "detail"].map(|key| output::text(&sink[key])));
            }
            if sinks.is_empty() {
                output::note("no way to tell is configured; see [notify] in the configuration");
            } else {
                output::print(&table);
            }
        }
    }
    let failed = sinks.iter().any(|sink| sink["result"] == "failed");
    Ok(if failed { Exit::Failed } else { Exit::Done })
}
