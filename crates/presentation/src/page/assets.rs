//! The files of the page, as they were when this binary was built.

use axum::extract::Path;
use axum::response::{IntoResponse, Response};
use http::header::{CACHE_CONTROL, CONTENT_TYPE, ETAG, IF_NONE_MATCH};
use http::{HeaderMap, StatusCode};
use sha2::{Digest, Sha256};

use crate::problem::Problem;

/// Kept by browsers, and asked for again each time: the next binary may have another.
const CACHING: &str = "private, no-cache";

/// Bytes of the digest that tell one version of a file from another.
const FINGERPRINT_BYTES: usize = 8;

const SCRIPT: &str = "text/javascript; charset=utf-8";

macro_rules! files {
    ($($name:literal as $kind:expr,)*) => {
        /// Name, media type and text of each file.
        const FILES: &[(&str, &str, &str)] = &[$(($name, $kind, include_str!(concat!("assets/", $name))),)*];
    };
}

files! {
    "page.css" as "text/css; charset=utf-8",
    "icon.svg" as "image/svg+xml",
    "app.js" as SCRIPT,
    "api.js" as SCRIPT,
    "card.js" as SCRIPT,
    "dialogs.js" as SCRIPT,
    "dom.js" as SCRIPT,
    "events.js" as SCRIPT,
    "histories.js" as SCRIPT,
    "logins.js" as SCRIPT,
    "opened.js" as SCRIPT,
    "panels.js" as SCRIPT,
    "server.js" as SCRIPT,
    "time.js" as SCRIPT,
    "timeline.js" as SCRIPT,
    "view.js" as SCRIPT,
    "waiting.js" as SCRIPT,
}

/// What the first script imports, so that browsers fetch all of them at once.
pub(super) const IMPORTED: &[&str] = &[
    "api.js",
    "card.js",
    "dialogs.js",
    "dom.js",
    "events.js",
    "histories.js",
    "logins.js",
    "opened.js",
    "panels.js",
    "server.js",
    "time.js",
    "timeline.js",
    "view.js",
    "waiting.js",
];

/// One file.
pub(crate) async fn asset(Path(wanted): Path<String>, headers: HeaderMap) -> Response {
    let Some((_, kind, text)) = FILES.iter().find(|(name, ..)| *name == wanted) else {
        return Problem::not_found("the page has no such file").into_response();
    };
    let tag = format!("\"{}\"", digest([*text].into_iter()));
    let kept = headers.get_all(IF_NONE_MATCH).iter().filter_map(|value| value.to_str().ok());
    if kept.flat_map(|line| line.split(',')).any(|known| known.trim() == tag) {
        return (StatusCode::NOT_MODIFIED, [(ETAG, tag.as_str()), (CACHE_CONTROL, CACHING)]).into_response();
    }
    ([(CONTENT_TYPE, *kind), (ETAG, tag.as_str()), (CACHE_CONTROL, CACHING)], *text).into_response()
}

/// Tells this binary's page from that of another: an open page that finds another one loads it.
pub(super) fn fingerprint() -> String {
    digest(FILES.iter().map(|(_, _, text)| *text))
}

fn digest<'a>(texts: impl Iterator<Item = &'a str>) -> String {
    let mut digest = Sha256::new();
    texts.for_each(|text| digest.update(text));
    digest.finalize()[..FINGERPRINT_BYTES].iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_script_is_preloaded_and_every_import_is_there() {
        let scripts: BTreeSet<&str> =
            FILES.iter().filter(|(_, kind, _)| *kind == SCRIPT).map(|(name, ..)| *name).collect();
        let preloaded: BTreeSet<&str> = IMPORTED.iter().copied().chain(["app.js"]).collect();
        assert_eq!(scripts, preloaded);
        let mut imported = BTreeSet::from(["app.js"]);
        for (_, _, text) in FILES {
            let imports = text.lines().filter(|line| line.starts_with("import ") || line.starts_with("} from "));
            imported.extend(imports.filter_map(|line| line.split("\"./").nth(1)?.split('"').next()));
        }
        assert_eq!(imported, scripts);
    }
}
