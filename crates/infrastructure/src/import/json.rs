//! Logins as a document: what anybody can write who can read their own program's files.

use everfresh_application::ForeignLogin;
use serde_json::error::Category;

use super::{Found, FoundLogin, Origin};

/// Logins in one document are moved one after another, each with a refresh.
const LOGINS_MAX: usize = 1_000;

/// The logins in a document: one, or a list of them. An error says where it is wrong, and shows
/// nothing of what is there.
pub fn read(bytes: &[u8]) -> Result<Found, String> {
    let is_list = bytes.iter().find(|byte| !byte.is_ascii_whitespace()) == Some(&b'[');
    let logins: Vec<ForeignLogin> =
        if is_list { serde_json::from_slice(bytes) } else { serde_json::from_slice(bytes).map(|login| vec![login]) }
            .map_err(|error| told(&error))?;
    if logins.len() > LOGINS_MAX {
        return Err(format!("it holds {} logins, and {LOGINS_MAX} are taken at a time", logins.len()));
    }
    let found = |login| FoundLogin { login, origin: Origin::Document, notes: Vec::new() };
    Ok(Found { logins: logins.into_iter().map(found).collect(), ..Found::default() })
}

/// What is wrong, without the values that some errors repeat.
fn told(error: &serde_json::Error) -> String {
    let text = error.to_string();
    let names_a_field = ["unknown field", "missing field", "duplicate field"].iter().any(|kind| text.starts_with(kind));
    let place = format!("line {}, column {}", error.line(), error.column());
    match error.classify() {
        Category::Data if names_a_field => text,
        Category::Data => format!("a value is not of the type that docs/MOVING_IN.md says, before {place}"),
        Category::Syntax | Category::Eof | Category::Io => format!("it is not JSON, at {place}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_login_or_a_list_of_them_is_read() {
        let one = r#" { "url": "https://a.example", "refresh_token": "r", "client_id": "c" }"#;
        assert_eq!(read(one.as_bytes()).unwrap().logins.len(), 1);
        let list = format!("[{one},{one}]");
        assert_eq!(read(list.as_bytes()).unwrap().logins.len(), 2);
    }

    #[test]
    fn what_is_wrong_is_told_without_what_is_there() {
        let cases = [
            (r#"{ "url": "u", "refreshToken": "hunter2" }"#, "unknown field `refreshToken`"),
            (r#"{ "refresh_token": "hunter2" }"#, "missing field `url`"),
            (r#"{ "url": "u", "scopes": "hunter2" }"#, "line 1, column"),
            (r#"{ "url": "u", "expires_at": "hunter2" }"#, "docs/MOVING_IN.md"),
            (r#"["hunter2"]"#, "docs/MOVING_IN.md"),
            (r#"{ "url": hunter2"#, "not JSON"),
            ("", "not JSON"),
        ];
        for (text, expected) in cases {
            let told = read(text.as_bytes()).unwrap_err();
            assert!(told.contains(expected) && !told.contains("hunter2"), "{told}");
        }
    }

    /// Every field of the schema is one that is read, and the other way round.
    #[test]
    fn the_schema_is_what_is_read() {
        let schema: serde_json::Value =
            serde_json::from_str(include_str!("../../../../docs/schema/import.json")).unwrap();
        let properties = schema["$defs"]["login"]["properties"].as_object().unwrap();
        let told = read(br#"{ "url": "u", "no such field": 1 }"#).unwrap_err();
        let known: Vec<&str> = told.split('`').skip(3).step_by(2).collect();
        assert_eq!(known.len(), properties.len(), "{known:?}");
        assert!(known.iter().all(|field| properties.contains_key(*field)), "{known:?}");
        let example = schema["examples"][0].to_string();
        assert_eq!(read(example.as_bytes()).unwrap().logins.len(), 2);
    }
}
