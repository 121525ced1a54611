//! Help by the words that people see: `docs/TROUBLESHOOTING.md`, from within the binary.
//!
//! One section for each reason of health, each common situation and each exit code. The document is
//! the only source: what the page, the API and the command line say is read from it.

mod page;

use everfresh_domain::Reason;

pub(crate) use page::{help, style};

/// The document.
const TEXT: &str = include_str!("../../../../docs/TROUBLESHOOTING.md");

/// What a section is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Topic {
    /// A reason of health.
    Reason,
    /// A common situation.
    Situation,
    /// An exit code.
    ExitCode,
}

/// One section.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Section {
    /// Its name in links: a reason, a word, or `exit-3`.
    pub id: &'static str,
    /// The words that people see.
    pub words: &'static str,
    /// What it says, as Markdown without the heading.
    pub body: &'static str,
}

impl Section {
    /// A heading with its text: `## Words (`id`)`.
    fn read(text: &'static str) -> Option<Self> {
        let (heading, body) = text.split_once('\n')?;
        let (words, id) = heading.strip_suffix("`)")?.rsplit_once(" (`")?;
        // The anchor of the next section stands before its heading.
        let body = body.rsplit_once("\n<a id=").map_or(body, |(body, _)| body);
        Some(Self { id, words, body: body.trim() })
    }

    /// What it is about.
    pub fn topic(&self) -> Topic {
        if Reason::ALL.iter().any(|reason| reason.as_str() == self.id) {
            Topic::Reason
        } else if self.id.starts_with("exit-") {
            Topic::ExitCode
        } else {
            Topic::Situation
        }
    }
}

/// Every section, in the order of the document.
pub fn sections() -> impl Iterator<Item = Section> {
    TEXT.split("\n## ").skip(1).filter_map(Section::read)
}

/// Where the help page says more about `reason`.
pub fn link(reason: Reason) -> String {
    format!("/help#{}", reason.as_str())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    /// What every section about a reason says.
    const PARTS: [&str; 4] =
        ["**What it means.**", "**What everfresh does.**", "**What to do.**", "**How to tell it is over.**"];

    fn of(id: &str) -> Section {
        sections().find(|section| section.id == id).unwrap_or_else(|| panic!("TROUBLESHOOTING.md has no {id}"))
    }

    #[test]
    fn every_reason_has_its_section_with_all_parts_in_order() {
        for reason in Reason::ALL {
            let section = of(reason.as_str());
            let places: Vec<usize> = PARTS
                .iter()
                .map(|part| section.body.find(part).unwrap_or_else(|| panic!("{section:?}: {part}")))
                .collect();
            assert!(places.is_sorted(), "{section:?}");
        }
    }

    #[test]
    fn every_heading_is_a_section_with_an_anchor_and_a_name_of_its_own() {
        let ids: Vec<&str> = sections().map(|section| section.id).collect();
        assert_eq!(ids.len(), TEXT.lines().filter(|line| line.starts_with("## ")).count(), "{ids:?}");
        assert_eq!(ids.iter().collect::<BTreeSet<_>>().len(), ids.len(), "{ids:?}");
        for id in ids {
            let heading =
                TEXT.split_once(&format!("<a id=\"{id}\"></a>\n\n")).unwrap_or_else(|| panic!("{id}: no anchor")).1;
            assert!(heading.lines().next().unwrap().ends_with(&format!("(`{id}`)")), "{id}: the anchor is elsewhere");
        }
    }

    /// The words of the truth table of all surfaces, which the built binary is tested against.
    #[test]
    fn headings_have_the_words_that_people_see() {
        let table = include_str!("../../../../tests/it/golden/table.txt");
        let mut seen = BTreeSet::new();
        for line in table.lines().filter_map(|line| line.trim().strip_prefix("health")) {
            let parts: Vec<&str> = line.split(" | ").map(str::trim).collect();
            let [_, summary, _, reason] = parts[..] else { panic!("{line:?}") };
            let words = of(reason).words;
            let mut said = words.split(" / ").map(|words| words.split('{').next().unwrap_or_default());
            assert!(said.any(|said| summary.starts_with(said)), "{reason}: {summary:?} is not in {words:?}");
            seen.insert(reason.to_owned());
        }
        assert!(seen.len() > 20, "{seen:?}");
    }

    #[test]
    fn links_within_the_document_lead_to_a_section() {
        for target in TEXT.split("](#").skip(1).filter_map(|rest| rest.split(')').next()) {
            assert_eq!(of(target).id, target);
        }
    }

    #[test]
    fn a_section_ends_before_the_anchor_of_the_next() {
        assert!(sections().all(|section| !section.body.contains("<a id")), "an anchor is part of a section");
        assert_eq!(of("rotation_lost").topic(), Topic::Reason);
        assert_eq!(of("exit-3").topic(), Topic::ExitCode);
        assert_eq!(of("port-in-use").topic(), Topic::Situation);
    }
}
