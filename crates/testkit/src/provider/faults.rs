//! What goes out in the place of a good answer.

use serde_json::{Value, json};

use super::reply::{Manner, Reply};
use super::switches::Fault;

/// What goes out instead; `processed` is what would have.
pub(super) fn faulty(fault: Fault, processed: Reply) -> Reply {
    match fault {
        Fault::Error { status, error } => Reply::error(status, &error),
        Fault::Status { status, body, retry_after } => {
            let headers = retry_after.into_iter().map(|value| ("retry-after".to_owned(), value)).collect();
            Reply { status, body, headers, ..Reply::default() }
        }
        Fault::Portal => {
            let headers = vec![("location".to_owned(), "http://portal.invalid/login".to_owned())];
            Reply { status: 302, headers, ..Reply::default() }
        }
        Fault::Html => Reply { status: 200, body: "<html>Welcome to the hotel</html>".into(), ..Reply::default() },
        Fault::WrongTypes => Reply::json(200, &json!({ "access_token": 7, "expires_in": [], "refresh_token": {} })),
        Fault::Huge => Reply { status: 200, body: " ".repeat(10 << 20), ..Reply::default() },
        Fault::Endless => Reply::of(Manner::Endless),
        Fault::Hang | Fault::HangAfter => Reply::of(Manner::Hang),
        Fault::CloseBefore | Fault::CloseAfter => Reply::of(Manner::Close),
        Fault::Reset => Reply::of(Manner::Reset),
        Fault::HalfAnswer => Reply { manner: Manner::Half, ..processed },
        Fault::HalfClosed => Reply { manner: Manner::HalfClose, ..processed },
    }
}

pub(super) fn form_encoded(status: u16, answer: &Value) -> Reply {
    let mut form = url::form_urlencoded::Serializer::new(String::new());
    for (name, value) in answer.as_object().into_iter().flatten() {
        form.append_pair(name, &value.as_str().map_or_else(|| value.to_string(), str::to_owned));
    }
    let headers = vec![("content-type".to_owned(), "application/x-www-form-urlencoded".to_owned())];
    Reply { status, headers, body: form.finish(), ..Reply::default() }
}
