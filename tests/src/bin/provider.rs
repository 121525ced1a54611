//! A provider and a protected MCP server for tests in other languages.
//!
//! Prints one line of JSON that says where they are, then does what each line on stdin says: `down`
//! and `up` for the provider, `approve` for logins by device code; each is answered by a line. What
//! else there is to change is under `/admin/` of the provider. Ends with its stdin.

#![expect(clippy::print_stdout, reason = "what it prints is what it is for")]

use std::error::Error;

use everfresh_testkit::mcp::McpServer;
use everfresh_testkit::provider::{Behaviour, Model, ProviderServer};
use serde_json::json;
use tokio::io::{AsyncBufReadExt, BufReader, stdin};

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let mut provider = Some(ProviderServer::start(Model::new(Behaviour::default())).await?);
    let Some(running) = &provider else { return Ok(()) };
    let upstream = McpServer::start(running).await?;
    let (address, model) = (running.address(), running.model());
    println!("{}", json!({ "provider": running.url(), "upstream": upstream.url() }));
    let mut lines = BufReader::new(stdin()).lines();
    while let Some(line) = lines.next_line().await? {
        match line.as_str() {
            "down" => provider = None,
            "up" => provider = Some(ProviderServer::serve(address, model.clone()).await?),
            "approve" => provider.iter().for_each(|provider| provider.with(|model| model.answer_devices(true))),
            other => return Err(format!("there is no {other:?}").into()),
        }
        println!("{line}");
    }
    Ok(())
}
