//! What a daemon has answered and printed, in a file among its others: whoever searches them for
//! secrets finds those as well that a test learns of later.

use std::fs::File;
use std::io::Write;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use reqwest::Response;

/// The file. Cloning shares it.
#[derive(Clone)]
pub struct Transcript {
    file: Arc<Mutex<File>>,
}

impl Transcript {
    /// The transcript of the daemon in `folder`, over all its lives.
    pub(crate) fn of(folder: &Path) -> Self {
        let file = File::options().create(true).append(true).open(folder.join("transcript"));
        Self { file: Arc::new(Mutex::new(file.expect("the transcript can be written"))) }
    }

    /// Adds what was read.
    pub fn add(&self, bytes: &[u8]) {
        let mut file = self.file.lock().unwrap_or_else(PoisonError::into_inner);
        file.write_all(bytes).and_then(|()| file.write_all(b"\n")).expect("the transcript can be written");
    }

    /// Reads the next piece of a body; `None` at its end.
    pub async fn chunk(&self, answer: &mut Response) -> Option<Vec<u8>> {
        let chunk = answer.chunk().await.ok().flatten()?;
        self.add(&chunk);
        Some(chunk.to_vec())
    }

    /// Reads a whole body.
    pub async fn body(&self, answer: Response) -> Vec<u8> {
        let body = answer.bytes().await.unwrap_or_default();
        self.add(&body);
        body.to_vec()
    }
}
