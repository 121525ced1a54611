//! The address that a browser was sent to, as a person pastes it where no callback arrives.

use everfresh_domain::Secret;
use url::form_urlencoded;

use super::CallbackQuery;

/// Why a pasted text is not the answer to a login. No word of it is in the message.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PasteError {
    /// The page at which the login begins.
    #[error("this is the address at which the login begins; paste the one where it ends, which begins with {expected}")]
    Beginning {
        /// How the right one begins.
        expected: String,
    },
    /// Any other address.
    #[error("this is not the address where this login ends; that one begins with {expected}")]
    Elsewhere {
        /// How the right one begins.
        expected: String,
    },
    /// Something is missing, or stands there twice.
    #[error("this address is not whole; copy all of it, from {expected} to its last character")]
    Incomplete {
        /// How the right one begins.
        expected: String,
    },
    /// The answer to another login.
    #[error("this is the answer to another login; paste the address where this one ends")]
    OtherLogin,
    /// This login is by device code: nothing comes back.
    #[error("this login is by a code that is typed in at the provider; there is nothing to paste")]
    NothingExpected,
}

/// What a person pasted: the whole address, or the query of it, perhaps in quotes.
pub(super) fn read(text: &str, redirect_uri: &str, authorization_url: &str) -> Result<CallbackQuery, PasteError> {
    let expected = || redirect_uri.to_owned();
    // No address has white space in it: where there is some, a terminal has broken the line.
    let joined: String = text.split_whitespace().collect();
    let text = joined.trim_matches(|c| matches!(c, '"' | '\'' | '`' | '<' | '>'));
    let text = text.split('#').next().unwrap_or(text);
    let (place, query) = match text.split_once('?') {
        Some((place, query)) => (place, query),
        // A bare query has no place; an address without a query is not whole, wherever it leads.
        None if text.contains('=') && !text.contains("://") => ("", text),
        None => (text, ""),
    };
    let without_scheme = redirect_uri.split_once("://").map_or(redirect_uri, |(_, rest)| rest);
    // Browsers hide the scheme of what they show.
    if !place.is_empty() && place != redirect_uri && place != without_scheme {
        let begins = authorization_url.split(['?', '#']).next() == Some(place);
        let expected = expected();
        return Err(if begins { PasteError::Beginning { expected } } else { PasteError::Elsewhere { expected } });
    }
    let incomplete = || PasteError::Incomplete { expected: expected() };
    let answer = answer(query).ok_or_else(incomplete)?;
    let whole = answer.state.is_some() && (answer.code.is_some() || answer.error.is_some());
    if whole { Ok(answer) } else { Err(incomplete()) }
}

/// The parameters of an answer; `None` where one of them stands there twice (RFC 6749 section 3.1).
fn answer(query: &str) -> Option<CallbackQuery> {
    let mut answer = CallbackQuery::default();
    for (name, value) in form_urlencoded::parse(query.as_bytes()).filter(|(_, value)| !value.is_empty()) {
        let before = match &*name {
            "code" => answer.code.replace(Secret::new(value.as_ref())).is_some(),
            "state" => answer.state.replace(Secret::new(value.as_ref())).is_some(),
            "iss" => answer.iss.replace(value.into_owned()).is_some(),
            "error" => answer.error.replace(value.into_owned()).is_some(),
            "error_description" => answer.error_description.replace(value.into_owned()).is_some(),
            _ => false,
        };
        if before {
            return None;
        }
    }
    Some(answer)
}

#[cfg(test)]
mod tests {
    use super::*;

    const HERE: &str = "http://127.0.0.1:7411/oauth/callback";
    const BEGIN: &str = "https://as.example/authorize?client_id=c&state=s";

    fn code(text: &str) -> Result<String, PasteError> {
        let answer = read(text, HERE, BEGIN)?;
        assert_eq!(answer.state, Some(Secret::new("s")), "{text}");
        Ok(answer.code.unwrap().expose().to_owned())
    }

    #[test]
    fn an_address_is_read_as_people_paste_it() {
        let whole = format!("{HERE}?code=c%20d&state=s&iss=https%3A%2F%2Fas.example");
        let bare = whole.split_once('?').unwrap().1;
        let forms = [
            whole.clone(),
            format!("  {whole}\r\n"),
            format!("\"{whole}\""),
            format!("'{whole}' "),
            format!("<{whole}>"),
            format!("{whole}#_=_"),
            whole.replace("http://", ""),
            bare.to_owned(),
            format!("?{bare}"),
            format!("{}\n{}", &whole[..50], &whole[50..]),
        ];
        for form in forms {
            assert_eq!(code(&form).as_deref(), Ok("c d"), "{form}");
        }
        let answer = read(&whole, HERE, BEGIN).unwrap();
        assert_eq!(answer.iss.as_deref(), Some("https://as.example"));
        let denied = read(&format!("{HERE}?error=access_denied&state=s"), HERE, BEGIN).unwrap();
        assert_eq!(denied.error.as_deref(), Some("access_denied"));
    }

    #[test]
    fn another_address_is_refused_in_words_of_its_own() {
        let expected = || HERE.to_owned();
        assert_eq!(code(BEGIN), Err(PasteError::Beginning { expected: expected() }));
        let elsewhere = [
            "https://as.example/done?code=c&state=s".to_owned(),
            "http://127.0.0.1:7412/oauth/callback?code=c&state=s".to_owned(),
            "http://localhost:7411/oauth/callback?code=c&state=s".to_owned(),
            "https://127.0.0.1:7411/oauth/callback?code=c&state=s".to_owned(),
            format!("{HERE}/more?code=c&state=s"),
            "c0de".to_owned(),
        ];
        for text in elsewhere {
            assert_eq!(code(&text), Err(PasteError::Elsewhere { expected: expected() }), "{text}");
        }
        let incomplete = [
            "",
            HERE,
            "?code=c",
            "state=s",
            "code=&state=s",
            "code=c&code=d&state=s",
            "code=c&state=s&state=t",
            "error=x",
        ];
        for text in incomplete {
            assert_eq!(code(text), Err(PasteError::Incomplete { expected: expected() }), "{text}");
        }
    }

    #[test]
    fn no_part_of_an_address_and_no_change_to_it_makes_it_panic() {
        let whole = format!("{HERE}?code=c%20d&state=s&iss=https%3A%2F%2Fas.example#é");
        let mut read_whole = 0;
        for (at, _) in whole.char_indices() {
            for put in ["", "%", "?", "#", "&", "=", "é", "\u{0}", "://", "\""] {
                let changed = format!("{}{put}{}", &whole[..at], &whole[at..]);
                read_whole += usize::from(read(&changed, HERE, BEGIN).is_ok());
                drop(read(&format!("{}{put}", &whole[..at]), HERE, BEGIN));
            }
        }
        assert!(read_whole >= whole.chars().count(), "unchanged it is read");
    }

    #[test]
    fn what_was_pasted_is_not_in_the_words() {
        for text in ["https://as.example/done?code=canary&state=s", "?code=canary"] {
            let words = read(text, HERE, BEGIN).unwrap_err().to_string();
            assert!(!words.contains("canary"), "{words}");
        }
    }
}
