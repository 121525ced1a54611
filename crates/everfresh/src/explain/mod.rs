//! `everfresh explain`: what a reason, a situation or an exit code means, and what to do.

mod render;

#[cfg(test)]
mod tests;

use clap::Args;
use clap_complete::ArgValueCandidates;
use everfresh_presentation::help::{Section, Topic, sections};
use serde_json::Value;

use crate::completion;
use crate::exit::{Exit, Failure};
use crate::output::{self, Look};

/// Explain a reason, a situation or an exit code.
#[derive(Debug, Args)]
pub(crate) struct Explain {
    /// A reason as `list` and `show` say it, an exit code, or a topic of the list without argument.
    #[arg(add = ArgValueCandidates::new(completion::topics))]
    pub(crate) topic: Option<String>,
}

/// Explains, or lists what can be explained.
pub(crate) fn explain(explain: &Explain) -> Result<Exit, Failure> {
    let Some(topic) = &explain.topic else {
        list();
        return Ok(Exit::Done);
    };
    let Some(section) = find(topic) else {
        let text = format!("{topic:?} is neither a reason nor an exit code; `everfresh explain` lists what there is");
        return Err(Failure::new(Exit::Usage, text));
    };
    let look = Look::of_stdout();
    let style = render::Style { width: look.width, colours: look.colour };
    output::line(render::section(&section, style).trim_end());
    Ok(Exit::Done)
}

/// The section that somebody means: case and the kind of hyphen do not count, numbers are exit codes.
fn find(topic: &str) -> Option<Section> {
    let plain = |text: &str| text.trim().to_ascii_lowercase().replace('_', "-");
    let wanted = plain(topic);
    let wanted = if wanted.parse::<u8>().is_ok() { format!("exit-{wanted}") } else { wanted };
    sections().find(|section| plain(section.id) == wanted)
}

fn list() {
    let groups = [(Topic::Reason, "REASON"), (Topic::Situation, "SITUATION"), (Topic::ExitCode, "EXIT CODE")];
    for (topic, title) in groups {
        let mut table = output::table([title, "WHAT IT SAYS"]);
        for section in sections().filter(|section| section.topic() == topic) {
            let name = section.id.strip_prefix("exit-").unwrap_or(section.id);
            let words = section.words.split_once(": ").filter(|_| topic == Topic::ExitCode);
            table.add_row([name, words.map_or(section.words, |(_, words)| words)]);
        }
        output::print(&table);
        output::line("");
    }
    output::line("everfresh explain TOPIC says what each means and what to do.");
}

/// Where to read on about logins that are not well, in one line; nothing where all are.
pub(crate) fn hint<'a>(servers: impl IntoIterator<Item = &'a Value>) -> Option<String> {
    let healths = servers.into_iter().map(|server| &server["health"]);
    let unwell = healths.filter(|health| health["level"] != "healthy");
    let mut reasons: Vec<&str> = unwell.filter_map(|health| health["reason"].as_str()).collect();
    reasons.sort_unstable();
    reasons.dedup();
    match reasons[..] {
        [] => None,
        [reason] => Some(format!("more about it: everfresh explain {reason}")),
        [..] => Some(format!("more about it: everfresh explain REASON, with one of {}", reasons.join(", "))),
    }
}
