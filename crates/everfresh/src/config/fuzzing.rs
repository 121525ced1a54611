//! What fuzzing does with the bytes of a configuration file, and the corpus on any compiler.

use std::path::Path;

use url::Url;

use crate::config::parse;

/// Any text is either a configuration that can be used, or refused with what is wrong, line by line.
pub(crate) fn configuration(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    match parse(text, Path::new("/nowhere")) {
        Ok(config) => {
            assert!(config.policy.validate().is_ok() && !config.listen.is_empty());
            for server in &config.servers {
                let url = Url::parse(&server.url).expect("a URL that was accepted");
                assert!(matches!(url.scheme(), "http" | "https") && url.has_host(), "{url}");
                assert!(server.oauth.client_secret.is_none() || server.oauth.client_id.is_some());
            }
        }
        Err(problems) => {
            assert!(!problems.is_empty() && problems.is_sorted_by_key(|problem| problem.line), "{problems:?}");
            let lines = text.bytes().filter(|byte| *byte == b'\n').count() + 1;
            assert!(problems.iter().all(|problem| (1..=lines).contains(&problem.line)), "{problems:?}");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_corpus_of_configurations_is_read_or_refused() {
        let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/fuzz/corpus/configuration");
        let files: Vec<_> = std::fs::read_dir(corpus).unwrap().map(|entry| entry.unwrap().path()).collect();
        files.iter().for_each(|file| configuration(&std::fs::read(file).unwrap()));
        assert!(files.len() >= 5, "{files:?}");
    }
}
