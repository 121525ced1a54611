//! Manual pages: one for everfresh, and one for each command.

use std::path::Path;

use clap::CommandFactory;

use crate::cli::Cli;
use crate::exit::{Exit, Failure};
use crate::output;

/// Writes all pages into `folder`, or prints the first of them.
pub(crate) fn manual(folder: Option<&Path>) -> Result<Exit, Failure> {
    let command = Cli::command();
    match folder {
        Some(folder) => {
            let failed = |error: std::io::Error| {
                let text = format!("the manual pages cannot be written to {}: {error}", folder.display());
                Failure::new(Exit::Failed, text)
            };
            std::fs::create_dir_all(folder).map_err(failed)?;
            clap_mangen::generate_to(command, folder).map_err(failed)?;
        }
        None => {
            let mut page = Vec::new();
            let rendered = clap_mangen::Man::new(command).render(&mut page);
            rendered.map_err(|error| Failure::new(Exit::Failed, format!("the manual page: {error}")))?;
            output::bytes(&page);
        }
    }
    Ok(Exit::Done)
}
