//! Markdown on a terminal: words wrapped, code indented, emphasis where there are colours.
//!
//! It knows what `docs/TROUBLESHOOTING.md` is written with, and a test keeps the document to that.

#![expect(clippy::wildcard_enum_match_arm, reason = "of the events of Markdown a few matter")]

use everfresh_presentation::help::Section;
use pulldown_cmark::{Event, Parser, Tag, TagEnd};

/// The widest that text is pleasant to read.
const WIDTH_MAX: usize = 88;

/// How code is set off.
const INDENT: &str = "    ";

const BOLD: &str = "\u{1b}[1m";
const PLAIN: &str = "\u{1b}[0m";

/// How a terminal shows text.
#[derive(Clone, Copy, Debug)]
pub(super) struct Style {
    /// Columns; `None` where nobody knows.
    pub(super) width: Option<usize>,
    /// Whether it shows emphasis.
    pub(super) colours: bool,
}

/// A section with its words as heading.
pub(super) fn section(section: &Section, style: Style) -> String {
    let mut page = Page { style, text: String::new(), words: String::new(), in_code: false };
    page.emphasis(BOLD);
    page.words.push_str(section.words);
    page.emphasis(PLAIN);
    page.words.push_str(&format!(" ({})", section.id));
    page.end_paragraph();
    Parser::new(section.body).for_each(|event| page.take(&event));
    page.text
}

struct Page {
    style: Style,
    text: String,
    /// The paragraph that is being read.
    words: String,
    in_code: bool,
}

impl Page {
    fn take(&mut self, event: &Event<'_>) {
        match event {
            Event::Start(Tag::Strong) => self.emphasis(BOLD),
            Event::End(TagEnd::Strong) => self.emphasis(PLAIN),
            Event::Start(Tag::CodeBlock(_)) => self.in_code = true,
            Event::End(TagEnd::CodeBlock) => {
                self.in_code = false;
                self.text.push('\n');
            }
            Event::End(TagEnd::Paragraph) => self.end_paragraph(),
            Event::Text(text) if self.in_code => {
                text.lines().for_each(|line| self.text.push_str(&format!("{INDENT}{line}\n")));
            }
            Event::Text(text) => self.words.push_str(text),
            Event::Code(code) => self.words.push_str(&format!("`{}`", code.replace(' ', "\u{a0}"))),
            Event::SoftBreak | Event::HardBreak => self.words.push(' '),
            _ => {}
        }
    }

    fn emphasis(&mut self, how: &str) {
        if self.style.colours {
            self.words.push_str(how);
        }
    }

    /// Breaks lines between words. A command is one word: it can be copied whole.
    fn end_paragraph(&mut self) {
        let width = self.style.width.map_or(WIDTH_MAX, |width| width.min(WIDTH_MAX));
        let mut column = 0;
        for word in self.words.split(' ').filter(|word| !word.is_empty()) {
            let length = visible(word);
            let (gap, begins) = if column == 0 {
                ("", true)
            } else if column + 1 + length > width {
                ("\n", true)
            } else {
                (" ", false)
            };
            self.text.push_str(gap);
            self.text.push_str(&word.replace('\u{a0}', " "));
            column = if begins { length } else { column + 1 + length };
        }
        self.text.push_str("\n\n");
        self.words.clear();
    }
}

/// Columns that a word takes.
fn visible(word: &str) -> usize {
    word.replace(BOLD, "").replace(PLAIN, "").chars().count()
}
