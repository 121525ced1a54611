//! From the file that the flags name, and the flags themselves, to the configuration in force.

use std::path::Path;

use crate::cli::Global;
use crate::config::{self, Config};
use crate::exit::{Exit, Failure};
use crate::paths::Paths;

/// Reads the configuration that is in force with these flags. Every error is told at once.
pub(crate) fn load(paths: &Paths, global: &Global) -> Result<Config, Failure> {
    let mut config = match std::fs::read_to_string(&paths.config) {
        Ok(text) => parsed(&paths.config, &text)?,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound && !paths.config_is_named => Config::default(),
        Err(error) => {
            let named = if paths.config_is_named { "; name another with --config or EVERFRESH_CONFIG" } else { "" };
            let text = format!("the configuration {} cannot be read: {error}{named}", paths.config.display());
            return Err(Failure::new(Exit::Usage, text));
        }
    };
    config.notify.browser.clone_from(&global.browser_cmd);
    if let Some(address) = global.listen {
        if !address.ip().is_loopback() {
            let text = format!(
                "--listen {address} is open to the network: everfresh hands out tokens; listen on 127.0.0.1, or set \
                 allow_remote = true in the configuration"
            );
            return Err(Failure::new(Exit::Usage, text));
        }
        config.listen = vec![address];
        config.listen_is_chosen = true;
    }
    Ok(config)
}

fn parsed(path: &Path, text: &str) -> Result<Config, Failure> {
    config::parse(text, path.parent().unwrap_or_else(|| Path::new("."))).map_err(|problems| {
        let name = path.display();
        let lines: Vec<String> = problems.iter().map(|problem| format!("{name}:{problem}")).collect();
        let count = if lines.len() == 1 { "one error".to_owned() } else { format!("{} errors", lines.len()) };
        Failure::new(Exit::Usage, format!("the configuration has {count}:\n{}", lines.join("\n")))
    })
}
