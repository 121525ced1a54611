//! The last 24 hours of a login as one line of signs, and what the signs stand for.

use std::time::Duration;

use everfresh_domain::Timestamp;
use serde_json::Value;

use crate::output::{Look, length, moment, on_the_clock};

/// How many signs the line may have. Each divides a day into whole minutes.
const SIGNS: [usize; 5] = [96, 72, 48, 36, 24];

/// How many it has where no terminal says how wide it is.
const SIGNS_IN_A_FILE: usize = 72;

/// What stands before the line.
const INDENT: usize = 2;

/// A lapse that is shorter is told as this long: it happened.
const TOLD_MIN: Duration = Duration::from_secs(1);

/// What a login was, as a person is to see it; the later ones are told with greater care.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Nothing is recorded.
    Unknown,
    /// The daemon did not run, or the machine slept.
    Off,
    /// The server was switched off.
    Disabled,
    /// Nobody was logged in.
    LoggedOut,
    /// A valid token was at hand.
    Valid,
    /// The same, and attempts to refresh it failed.
    Failing,
    /// Logged in, and without a valid token.
    Lapsed,
}

impl State {
    const ALL: [Self; 7] =
        [Self::Valid, Self::Failing, Self::Lapsed, Self::LoggedOut, Self::Disabled, Self::Off, Self::Unknown];

    fn named(name: &str) -> Self {
        match name {
            "valid" => Self::Valid,
            "lapsed" => Self::Lapsed,
            "logged_out" => Self::LoggedOut,
            "disabled" => Self::Disabled,
            "off" => Self::Off,
            _ => Self::Unknown,
        }
    }

    /// Its sign. Those for terminals are in the fonts of the oldest consoles as well.
    fn sign(self, look: Look) -> char {
        let (drawn, plain) = match self {
            Self::Valid => ('▄', '='),
            Self::Failing => ('▒', '~'),
            Self::Lapsed => ('█', 'X'),
            Self::LoggedOut => ('░', '_'),
            Self::Disabled => ('═', ':'),
            Self::Off => ('─', '-'),
            Self::Unknown => ('·', '.'),
        };
        if look.unicode { drawn } else { plain }
    }

    fn words(self) -> &'static str {
        match self {
            Self::Valid => "valid token",
            Self::Failing => "refreshes failing",
            Self::Lapsed => "no valid token",
            Self::LoggedOut => "logged out",
            Self::Disabled => "switched off",
            Self::Off => "not running",
            Self::Unknown => "not recorded",
        }
    }

    /// `text` in the colour of how good that is, if it is good or bad.
    fn painted(self, text: &str, look: Look) -> String {
        match self {
            Self::Valid => look.level("healthy", text),
            Self::Failing => look.level("degraded", text),
            Self::Lapsed => look.level("unhealthy", text),
            Self::LoggedOut | Self::Disabled | Self::Off | Self::Unknown => text.to_owned(),
        }
    }

    /// Whether one moment of it is worth a sign.
    fn is_never_overlooked(self) -> bool {
        matches!(self, Self::Failing | Self::Lapsed)
    }
}

/// One state, as long as it lasted.
#[derive(Clone, Copy, Debug)]
struct Stretch {
    from: Timestamp,
    to: Timestamp,
    state: State,
}

impl Stretch {
    /// How much of it lies between two moments.
    fn within(&self, from: Timestamp, to: Timestamp) -> Duration {
        self.to.min(to).since(self.from.max(from))
    }
}

/// A past as it is told.
pub(super) struct Told {
    /// What it is, and how long a sign stands for.
    pub(super) title: String,
    /// The line.
    pub(super) signs: String,
    /// What each sign stands for, and how long that was in all; then how many attempts were made.
    pub(super) meanings: Vec<(String, String)>,
}

/// What the API tells of a past, for people; nothing where nothing is recorded.
pub(super) fn told(past: &Value, look: Look) -> Option<Told> {
    let (from, to) = (moment(&past["from"])?, moment(&past["to"])?);
    let stretches = stretches(past, to);
    if stretches.iter().all(|stretch| stretch.state == State::Unknown) {
        return None;
    }
    let count = signs_in(look);
    let line = line(&stretches, from, to, count);
    let each = length(to.since(from) / u32::try_from(count).unwrap_or(u32::MAX));
    let meanings = State::ALL
        .into_iter()
        .filter(|state| line.contains(state))
        .map(|state| (format!("{} {}", state.sign(look), state.words()), meaning(state, &stretches, past, to)));
    let attempts = attempts(past).map(|words| ("attempts".to_owned(), words));
    Some(Told {
        title: format!("Last {} ({each} a sign)", length(to.since(from))),
        signs: painted(&line, look),
        meanings: meanings.chain(attempts).collect(),
    })
}

/// What was, in order, with those parts of a valid token's time set apart in which refreshes failed.
fn stretches(past: &Value, now: Timestamp) -> Vec<Stretch> {
    let outages: Vec<(Timestamp, Timestamp)> = past["outages"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(|outage| Some((moment(&outage["from"])?, moment(&outage["to"]).unwrap_or(now))))
        .collect();
    let mut stretches = Vec::new();
    let mut add = |from: Timestamp, to: Timestamp, state| {
        if from < to {
            stretches.push(Stretch { from, to, state });
        }
    };
    for span in past["spans"].as_array().into_iter().flatten() {
        let (Some(mut from), Some(to)) = (moment(&span["from"]), moment(&span["to"])) else { continue };
        let state = State::named(span["state"].as_str().unwrap_or_default());
        if state == State::Valid {
            for (began, ended) in &outages {
                let (began, ended) = ((*began).max(from), (*ended).min(to));
                if began < ended {
                    add(from, began, State::Valid);
                    add(began, ended, State::Failing);
                    from = ended;
                }
            }
        }
        add(from, to, state);
    }
    stretches
}

fn signs_in(look: Look) -> usize {
    let room = look.width.map_or(SIGNS_IN_A_FILE, |width| width.saturating_sub(INDENT));
    SIGNS.into_iter().find(|count| *count <= room).unwrap_or(SIGNS[SIGNS.len() - 1])
}

/// One state for each part of the time: the worst of its bad ones, else the one that lasted longest; at
/// the end the one that lasts.
fn line(stretches: &[Stretch], from: Timestamp, to: Timestamp, count: usize) -> Vec<State> {
    let part = to.since(from) / u32::try_from(count).unwrap_or(u32::MAX);
    let mut began = from;
    let mut line = Vec::with_capacity(count);
    for index in 1..=count {
        let ended = if index == count { to } else { began.after(part) };
        line.push(state_of(stretches, began, ended));
        began = ended;
    }
    // The last sign is how it is.
    if let (Some(sign), Some(latest)) = (line.last_mut(), stretches.last())
        && !sign.is_never_overlooked()
    {
        *sign = latest.state;
    }
    line
}

fn state_of(stretches: &[Stretch], from: Timestamp, to: Timestamp) -> State {
    let lasted = |state: State| -> Duration {
        stretches.iter().filter(|stretch| stretch.state == state).map(|stretch| stretch.within(from, to)).sum()
    };
    let bad = [State::Lapsed, State::Failing].into_iter().find(|state| !lasted(*state).is_zero());
    let longest =
        || State::ALL.into_iter().filter(|state| !state.is_never_overlooked()).max_by_key(|state| lasted(*state));
    bad.or_else(longest).unwrap_or(State::Unknown)
}

fn painted(line: &[State], look: Look) -> String {
    let runs = line.chunk_by(|a, b| a == b);
    runs.map(|run| run[0].painted(&String::from_iter(run.iter().map(|state| state.sign(look))), look)).collect()
}

/// How long a state was in all, and what else is to be known of it.
fn meaning(state: State, stretches: &[Stretch], past: &Value, now: Timestamp) -> String {
    let own: Vec<&Stretch> = stretches.iter().filter(|stretch| stretch.state == state).collect();
    let all: Duration = own.iter().map(|stretch| stretch.to.since(stretch.from)).sum();
    let all = length(all.max(TOLD_MIN));
    match (state, own.as_slice()) {
        (State::Lapsed, [.., last]) => {
            let times = if own.len() == 1 { String::new() } else { format!(" in all, {} times", own.len()) };
            let (word, at) = if last.to >= now { ("since", last.from) } else { ("until", last.to) };
            format!("{all}{times}, {word} {}", on_the_clock(at))
        }
        (State::Failing, _) => {
            match past["outages"].as_array().and_then(|outages| outages.last()?["reason"].as_str()) {
                Some(reason) => format!("{all} ({reason})"),
                None => all,
            }
        }
        (_, _) => all,
    }
}

/// How many attempts were made, and how many of them failed.
fn attempts(past: &Value) -> Option<String> {
    let attempts = past["attempts"].as_array()?;
    let failed = attempts.iter().filter(|attempt| attempt["result"] == "failed").count();
    match (attempts.len(), failed) {
        (0, _) => None,
        (all, 0) => Some(all.to_string()),
        (all, failed) => Some(format!("{all}, {failed} failed")),
    }
}

#[cfg(test)]
#[path = "past_tests.rs"]
mod tests;
