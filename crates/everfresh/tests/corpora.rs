//! Every file of the fuzzing corpora, through its target's function, on any compiler. That of
//! configurations is read where they are: in the binary.

#![expect(clippy::unwrap_used, reason = "a test whose ground gives way should stop there")]

use std::path::{Path, PathBuf};

#[path = "../../../tests/fuzz/src/targets.rs"]
#[expect(unreachable_pub, reason = "for the fuzzing crate these are its library")]
mod targets;

fn files_in(folder: &Path) -> Vec<PathBuf> {
    std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect()
}

#[test]
fn what_fuzzing_has_found_stays_mended() {
    let corpora = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/fuzz/corpus");
    let mut told = 0;
    for corpus in files_in(&corpora) {
        let target = match corpus.file_name().unwrap().to_str().unwrap() {
            "token_endpoint" => targets::token_endpoint,
            "metadata" => targets::metadata,
            "www_authenticate" => targets::www_authenticate,
            "callback_query" => targets::callback_query,
            "stored_record" => targets::stored_record,
            "engine_trace" => targets::engine_trace,
            "bolt" => targets::bolt,
            "import_document" => targets::import_document,
            "configuration" => continue,
            other => panic!("the corpus {other} has no target here"),
        };
        for file in files_in(&corpus) {
            println!("{}", file.display());
            target(&std::fs::read(&file).unwrap());
            told += 1;
        }
    }
    assert!(told > 70, "only {told} files");
}
