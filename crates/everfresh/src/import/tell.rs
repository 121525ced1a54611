//! What an import says: to people a line for each login and what follows from it, to programs JSON.

use everfresh_domain::{Secret, Timestamp};
use everfresh_infrastructure::import::{Disarmed, Found, Origin};
use serde_json::{Value, json};

use super::plan::Planned;
use crate::cli::Output;
use crate::exit::{Exit, Failure};
use crate::output;

/// How one login fared.
pub(super) struct Told {
    name: String,
    url: String,
    source: String,
    outcome: String,
    rotated: bool,
    /// In words, first the result and then what follows from it.
    lines: Vec<String>,
    /// What was done to the copy that it came from. Kept until all are told: it holds locks.
    pub(super) disarmed: Disarmed,
    pub(super) exit: Exit,
}

impl Told {
    pub(super) fn of(planned: &Planned) -> Self {
        Self {
            name: planned.name.clone(),
            url: planned.found.login.url.clone(),
            source: source_of(&planned.found.origin),
            outcome: String::new(),
            rotated: false,
            lines: planned.found.notes.clone(),
            disarmed: Disarmed::default(),
            exit: Exit::Done,
        }
    }

    /// It is not here, and nothing of it was used.
    pub(super) fn failed(mut self, failure: &Failure) -> Self {
        self.outcome = "error".to_owned();
        self.lines.insert(0, format!("not imported: {}", failure.text));
        self.exit = failure.exit;
        self
    }

    /// It is here.
    pub(super) fn moved(&mut self, answer: &Value) {
        self.outcome = output::text(&answer["outcome"]);
        self.rotated = answer["rotated"] == true;
        let server = &answer["server"];
        let (health, name, source) = (&server["health"], &self.name, &self.source);
        let summary = output::text(&health["summary"]);
        let (first, then) = match self.outcome.as_str() {
            "refreshed" => {
                let ends = output::text(&server["token"]["expires_at"]);
                let dead = if self.rotated {
                    format!("the copy in {source} is dead: everfresh holds the refresh token that came after it")
                } else {
                    format!(
                        "the provider keeps its refresh tokens, so the copy in {source} still works; leave it unused, \
                         so that the login has one owner"
                    )
                };
                (format!("imported and refreshed; the new token ends at {ends}"), dead)
            }
            "already_here" => {
                let here = output::text(&server["name"]);
                let account = server["account"].as_str().filter(|account| *account != "default");
                let here = account.map_or_else(|| here.clone(), |account| format!("{here}@{account}"));
                (format!("is here already, as {here}"), format!("the copy in {source} must not be used again"))
            }
            "left" => (
                "imported, and left as it came".to_owned(),
                format!(
                    "with its first refresh the copy in {source} dies; until then `everfresh import --undo {name}` takes \
                     it back, and afterwards the same import sets the copy aside"
                ),
            ),
            "without_refresh_token" => (
                format!("imported without a refresh token: {summary}"),
                format!("after that it needs a login: everfresh login {name}"),
            ),
            _ if health["action"] == "login" => {
                self.exit = Exit::LoginNeeded;
                (
                    format!("imported, and the provider refuses it: {summary}"),
                    format!(
                        "the copy in {source} was spent or revoked before it came here, and would be refused as well; \
                         log in: everfresh login {name}"
                    ),
                )
            }
            _ => {
                self.exit = Exit::Unreachable;
                (
                    format!("imported, not refreshed yet: {summary}"),
                    format!(
                        "everfresh goes on trying, and from then on the copy in {source} is dead: do not use it, and \
                         repeat the import to set it aside; until then `everfresh import --undo {name}` takes it back"
                    ),
                )
            }
        };
        self.lines.splice(0..0, [first, then]);
    }

    /// It is here, and its copy could not be disarmed.
    pub(super) fn not_disarmed(&mut self, error: &std::io::Error) {
        let text = format!("the copy in {} could not be set aside ({error}): do it yourself", self.source);
        self.lines.push(text);
    }

    fn json(&self) -> Value {
        json!({ "name": self.name, "url": self.url, "source": self.source, "outcome": self.outcome,
            "rotated": self.rotated, "disarmed": self.disarmed.told, "messages": self.lines })
    }
}

fn source_of(origin: &Origin) -> String {
    match origin {
        Origin::Files(files) => files.first().map(|file| file.display().to_string()).unwrap_or_default(),
        Origin::Database { file, .. } => file.display().to_string(),
        Origin::Document => "the document".to_owned(),
    }
}

/// Prints how one login fared, for people.
pub(super) fn one(told: &Told) {
    let mut lines = told.lines.iter();
    output::line(format!("{}: {}", told.name, lines.next().map_or("", String::as_str)));
    lines.chain(&told.disarmed.told).for_each(|line| output::line(format!("  {line}")));
}

/// Prints how all of them fared, and what remains to be done.
pub(super) fn all(told: &[Told], found: &Found, output: Output) {
    if output == Output::Json {
        let logins: Vec<Value> = told.iter().map(Told::json).collect();
        output::json(&json!({ "logins": logins, "problems": found.problems }));
        return;
    }
    found.problems.iter().for_each(output::note);
    let here: Vec<&str> = told.iter().filter(|one| one.outcome != "error").map(|one| one.name.as_str()).collect();
    if !here.is_empty() {
        output::note(format!("Let your clients use everfresh for them: everfresh connect CLIENT {}.", here.join(" ")));
    }
}

/// Prints what would be moved.
pub(super) fn plan(planned: &[Planned], found: &Found, output: Output) {
    if output == Output::Json {
        let logins: Vec<Value> = planned.iter().map(row).collect();
        output::json(&json!({ "logins": logins, "problems": found.problems }));
        return;
    }
    let mut table = output::table(["NAME", "URL", "ISSUER", "REFRESH TOKEN", "ACCESS TOKEN ENDS", "FROM"]);
    for row in planned.iter().map(row) {
        let of = |field: &str| output::text(&row[field]);
        table.add_row([
            of("name"),
            of("url"),
            row["issuer"].as_str().unwrap_or("as the server says").to_owned(),
            of("refresh_token"),
            of("expires_at"),
            of("source"),
        ]);
    }
    output::print(&table);
    for one in planned {
        one.found.notes.iter().for_each(|note| output::note(format!("{}: {note}", one.name)));
    }
    found.problems.iter().for_each(output::note);
    output::note("Nothing was changed or sent. Without --dry-run these logins are moved here.");
}

fn row(planned: &Planned) -> Value {
    let login = &planned.found.login;
    let print = |secret: &Option<Secret>| secret.as_ref().map(|secret| secret.fingerprint().to_string());
    json!({
        "name": planned.name, "url": login.url, "issuer": login.issuer, "client_id": login.client_id,
        "refresh_token": print(&login.refresh_token), "access_token": print(&login.access_token),
        "expires_at": login.expires_at.map(|at: Timestamp| at.to_string()), "scopes": login.scopes,
        "source": source_of(&planned.found.origin), "notes": planned.found.notes,
    })
}
