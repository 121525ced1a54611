//! From what the daemon tells to what is shown. Pure: no clock, no input or output.

use std::collections::BTreeMap;

use everfresh_domain::health::{AdminState, HealthAction, Level};
use serde::Deserialize;

/// How many characters of a text of the daemon a line of the menu shows.
const LINE_MAX: usize = 90;

/// How many names the summary spells out.
const NAMES_MAX: usize = 3;

/// One login, as `GET /api/v1/servers` and the events show it; what the tray has no use for is left out.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub(crate) struct Login {
    name: String,
    account: String,
    source: String,
    health: Health,
    token: Option<Token>,
}

#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
struct Health {
    level: Level,
    admin_state: AdminState,
    summary: String,
    detail: String,
    action: HealthAction,
}

#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
struct Token {
    has_refresh_token: bool,
}

#[derive(Deserialize)]
struct Snapshot {
    servers: Vec<Login>,
    problems: Vec<String>,
}

/// Any event about one grant: each carries the grant as it is after it.
#[derive(Deserialize)]
struct Change {
    grant: String,
    server: Option<Login>,
}

/// Why there is nothing to show.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Absence {
    /// No daemon says where it is.
    NotRunning,
    /// What should be the daemon, at this URL, does not answer.
    Silent(String),
    /// The daemon wants another key, or, where none was found, one at all.
    KeyRefused,
    /// The key is there and cannot be read, for this reason.
    NoKey(String),
    /// Something else answers at the daemon's URL, with this status.
    Stranger(u16),
}

impl Absence {
    /// What it is, and what to do about it.
    fn words(&self) -> [String; 2] {
        let (what, fix) = match self {
            Self::NotRunning => ("everfresh does not run".to_owned(), "Start it with: everfresh serve"),
            Self::Silent(url) => {
                (format!("everfresh at {url} does not answer"), "See its log, or start it with: everfresh serve")
            }
            Self::KeyRefused => (
                "everfresh refuses this key".to_owned(),
                "Name its data folder with --data-dir, or give its key in EVERFRESH_KEY",
            ),
            Self::NoKey(cause) => (format!("The local key cannot be read: {cause}"), "Run: everfresh doctor"),
            Self::Stranger(status) => {
                (format!("Another program answers in everfresh's place ({status})"), "Run: everfresh doctor")
            }
        };
        [what, fix.to_owned()]
    }
}

/// What the tray hears.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Told {
    /// The stream of events is open.
    Live,
    /// An event of it: its name and data.
    Event { name: String, data: String },
    /// There is no stream.
    Gone(Absence),
    /// How what a person asked for went, about this grant.
    Note { grant: String, text: String },
}

/// What a person can ask for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Command {
    /// Log in to this grant.
    LogIn(String),
    /// Refresh this grant.
    Refresh(String),
    /// Switch this server on.
    Enable(String),
    /// Open the page.
    OpenPage,
    /// End the tray, and nothing else.
    Quit,
}

impl Command {
    /// The grant that it is about; empty for none.
    pub(crate) fn grant(&self) -> &str {
        match self {
            Self::LogIn(grant) | Self::Refresh(grant) | Self::Enable(grant) => grant,
            Self::OpenPage | Self::Quit => "",
        }
    }
}

/// What the icon says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Sign {
    /// The worst level of all logins.
    Level(Level),
    /// There is no daemon.
    Gone,
}

/// One entry of the menu.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Entry {
    /// Words that nothing happens at.
    Words(String),
    /// Something a person can ask for.
    Act(String, Command),
    /// A menu of its own.
    Menu(String, Vec<Self>),
    /// A line between groups.
    Line,
}

/// Everything that the desktop shows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct View {
    /// The icon.
    pub(crate) sign: Sign,
    /// Whether a person is needed, so that the desktop should not hide the icon.
    pub(crate) wants_attention: bool,
    /// In one line how things are.
    pub(crate) summary: String,
    /// What there is to say besides.
    pub(crate) details: Vec<String>,
    /// The menu.
    pub(crate) menu: Vec<Entry>,
}

/// What is known of the daemon and its logins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct World {
    /// None while the stream of events is open.
    absence: Option<Absence>,
    logins: BTreeMap<String, Login>,
    /// Why the daemon is not ready.
    problems: Vec<String>,
    /// The last note, and the grant that it is about.
    note: Option<(String, String)>,
}

impl Default for World {
    fn default() -> Self {
        Self { absence: Some(Absence::NotRunning), logins: BTreeMap::new(), problems: Vec::new(), note: None }
    }
}

impl World {
    /// Takes in what is told. An event that is not understood changes nothing, and is the error.
    pub(crate) fn hear(&mut self, told: Told) -> Result<(), serde_json::Error> {
        match told {
            Told::Live => self.absence = None,
            Told::Gone(absence) => self.absence = Some(absence),
            Told::Note { grant, text } => self.note = Some((grant, text)),
            Told::Event { name, data } if name == "snapshot" => {
                let Snapshot { servers, problems } = serde_json::from_str(&data)?;
                self.logins = servers.into_iter().map(|login| (login.grant(), login)).collect();
                self.problems = problems;
                let known = |(grant, _): &(String, String)| grant.is_empty() || self.logins.contains_key(grant);
                self.note = self.note.take().filter(known);
            }
            Told::Event { data, .. } => self.change(serde_json::from_str(&data)?),
        }
        Ok(())
    }

    /// Forgets what was noted: a person asked for something else.
    pub(crate) fn begin(&mut self) {
        self.note = None;
    }

    fn change(&mut self, Change { grant, server }: Change) {
        let is_settled = server.as_ref().is_none_or(|login| !login.needs_login());
        if is_settled && self.note.as_ref().is_some_and(|(about, _)| *about == grant) {
            self.note = None;
        }
        match server {
            Some(login) => drop(self.logins.insert(grant, login)),
            None => drop(self.logins.remove(&grant)),
        }
    }

    /// What is shown.
    pub(crate) fn view(&self) -> View {
        if let Some(absence) = &self.absence {
            let [what, fix] = absence.words().map(|text| one_line(&text));
            let menu = vec![
                Entry::Words(what.clone()),
                Entry::Words(fix.clone()),
                Entry::Line,
                Entry::Act("Quit".to_owned(), Command::Quit),
            ];
            return View { sign: Sign::Gone, wants_attention: false, summary: what, details: vec![fix], menu };
        }
        let worst = self.logins.values().map(|login| login.health.level).max().unwrap_or(Level::Healthy);
        let worst = if self.problems.is_empty() { worst } else { worst.max(Level::Degraded) };
        let mut details: Vec<String> = self.problems.iter().map(|problem| one_line(problem)).collect();
        details.extend(self.note.iter().map(|(_, text)| one_line(text)));
        View {
            sign: Sign::Level(worst),
            wants_attention: worst == Level::Unhealthy || self.logins.values().any(Login::needs_login),
            summary: self.summary(),
            menu: self.menu(&details),
            details,
        }
    }

    /// How things are: "3 logins, 1 needs you: linear".
    fn summary(&self) -> String {
        let with = |wanted: fn(&Login) -> bool| -> Vec<&str> {
            self.logins.iter().filter(|(_, login)| wanted(login)).map(|(grant, _)| grant.as_str()).collect()
        };
        let needy = with(Login::needs_login);
        let down = with(|login| !login.needs_login() && login.health.level == Level::Unhealthy);
        let shaky = with(|login| !login.needs_login() && login.health.level == Level::Degraded);
        let count = match self.logins.len() {
            0 => return "No logins yet".to_owned(),
            1 => "1 login".to_owned(),
            number => format!("{number} logins"),
        };
        let needs = if needy.len() == 1 { "needs you" } else { "need you" };
        let told: Vec<String> = [(needy, needs), (down, "down"), (shaky, "degraded")]
            .into_iter()
            .filter(|(names, _)| !names.is_empty())
            .map(|(names, words)| format!("{} {words}: {}", names.len(), listed(&names)))
            .collect();
        match told.is_empty() {
            true => format!("{count}, all well"),
            false => format!("{count}, {}", told.join("; ")),
        }
    }

    fn menu(&self, details: &[String]) -> Vec<Entry> {
        let mut menu = vec![Entry::Words(self.summary())];
        menu.extend(details.iter().cloned().map(Entry::Words));
        let needy = self.logins.iter().filter(|(_, login)| login.needs_login());
        let log_in = needy.map(|(grant, _)| Entry::Act(format!("Log in to {grant}"), Command::LogIn(grant.clone())));
        let each = self.logins.iter().map(|(grant, login)| login.entry(grant));
        let end =
            [Entry::Act("Open the page".to_owned(), Command::OpenPage), Entry::Act("Quit".to_owned(), Command::Quit)];
        for group in [log_in.collect::<Vec<_>>(), each.collect(), end.into()] {
            if !group.is_empty() {
                menu.push(Entry::Line);
                menu.extend(group);
            }
        }
        menu
    }
}

impl Login {
    fn grant(&self) -> String {
        if self.account == "default" { self.name.clone() } else { format!("{}@{}", self.name, self.account) }
    }

    fn needs_login(&self) -> bool {
        self.health.action == HealthAction::Login
    }

    fn is_disabled(&self) -> bool {
        self.health.admin_state == AdminState::Disabled
    }

    /// Its menu: what is the matter, and what can be done.
    fn entry(&self, grant: &str) -> Entry {
        let mark = match self.health.level {
            _ if self.is_disabled() => "–",
            Level::Healthy => "✓",
            Level::Degraded => "!",
            Level::Unhealthy => "✕",
        };
        let mut entries = vec![Entry::Words(one_line(&self.health.summary))];
        if !self.health.detail.is_empty() {
            entries.push(Entry::Words(one_line(&self.health.detail)));
        }
        entries.push(Entry::Line);
        entries.extend(self.actions(grant));
        Entry::Menu(one_line(&format!("{mark} {grant}: {}", self.health.summary)), entries)
    }

    fn actions(&self, grant: &str) -> Vec<Entry> {
        let act = |label: &str, command: fn(String) -> Command| Entry::Act(label.to_owned(), command(grant.to_owned()));
        if self.is_disabled() {
            // Accounts are switched with their server, and a server of the file in the file.
            return match (self.source.as_str(), self.account.as_str()) {
                ("store", "default") => vec![act("Enable", Command::Enable)],
                ("store", _) => vec![Entry::Words(format!("Enable {} for this account", self.name))],
                _ => vec![Entry::Words("Set enabled = true in the configuration file".to_owned())],
            };
        }
        let mut actions = vec![act("Log in", Command::LogIn)];
        if self.token.as_ref().is_some_and(|token| token.has_refresh_token) {
            actions.push(act("Refresh", Command::Refresh));
        }
        actions
    }
}

/// The first few names.
fn listed(names: &[&str]) -> String {
    let (shown, more) = names.split_at(names.len().min(NAMES_MAX));
    let shown = shown.join(", ");
    if more.is_empty() { shown } else { format!("{shown} and {} more", more.len()) }
}

/// A text as one line of bounded length: providers have a say in some.
fn one_line(text: &str) -> String {
    let clean: String = text.chars().map(|character| if character.is_control() { ' ' } else { character }).collect();
    let words = clean.split_whitespace().collect::<Vec<_>>().join(" ");
    match words.char_indices().nth(LINE_MAX) {
        Some((end, _)) => format!("{}…", &words[..end]),
        None => words,
    }
}

#[cfg(test)]
mod tests;
