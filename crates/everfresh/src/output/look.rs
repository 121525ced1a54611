//! How a text is to look: how wide it may be, and whether colours help.

use std::io::IsTerminal;

use anstream::{AutoStream, ColorChoice};

/// ANSI "select graphic rendition", as far as everfresh goes: levels have a colour, titles are bold.
const RESET: &str = "\u{1b}[0m";

/// What a text is written for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Look {
    /// The columns of the terminal; none where it is written for programs or into a file.
    pub(crate) width: Option<usize>,
    /// Whether colours help.
    pub(crate) colour: bool,
    /// Whether there are signs beyond ASCII.
    pub(crate) unicode: bool,
}

impl Look {
    /// How stdout is. `NO_COLOR`, `CLICOLOR`, `CLICOLOR_FORCE` and `TERM=dumb` are respected, the
    /// last where no `CI` is set: the logs of continuous integration show colours.
    pub(crate) fn of_stdout() -> Self {
        let stdout = std::io::stdout();
        let width = stdout.is_terminal().then(|| size().map(|(columns, _)| columns)).flatten();
        let colour = AutoStream::choice(&stdout) != ColorChoice::Never;
        if colour {
            // Old consoles of Windows want to be asked; elsewhere this does nothing.
            let _ = anstyle_query::windows::enable_ansi_colors();
        }
        let unicode = can_draw(stdout.is_terminal()) && speaks_unicode(|name| std::env::var(name).ok());
        Self { width, colour, unicode }
    }

    /// A title.
    pub(crate) fn bold(self, text: &str) -> String {
        if self.colour { format!("\u{1b}[1m{text}{RESET}") } else { text.to_owned() }
    }

    /// `text` in the colour of a level.
    pub(crate) fn level(self, level: &str, text: &str) -> String {
        let colour = match level {
            "healthy" => 32,
            "degraded" => 33,
            _ => 31,
        };
        if self.colour { format!("\u{1b}[{colour}m{text}{RESET}") } else { text.to_owned() }
    }

    /// `text` in lines that fit, each but the first behind `indent` blanks, which the first has
    /// before it anyway.
    pub(crate) fn wrapped(self, text: &str, indent: usize) -> String {
        let room = self.width.map_or(usize::MAX, |width| width.saturating_sub(indent).max(16));
        wrap(text, room).join(&format!("\n{}", " ".repeat(indent)))
    }
}

/// Columns and rows of the terminal.
pub(crate) fn size() -> Option<(usize, usize)> {
    let (columns, rows) = crossterm::terminal::size().ok()?;
    (columns > 0 && rows > 0).then_some((columns.into(), rows.into()))
}

/// Whether the terminal can be drawn on, and is not one that only prints.
pub(crate) fn can_draw(is_terminal: bool) -> bool {
    is_terminal && std::env::var_os("TERM").is_none_or(|kind| kind != "dumb")
}

/// Whether the locale says that texts are UTF-8. Consoles of Windows get theirs as UTF-16, whatever is set.
fn speaks_unicode(variable: impl Fn(&str) -> Option<String>) -> bool {
    let locale = ["LC_ALL", "LC_CTYPE", "LANG"].into_iter().filter_map(variable).find(|value| !value.is_empty());
    let is_utf8 = |locale: String| ["utf-8", "utf8"].iter().any(|name| locale.to_lowercase().contains(name));
    cfg!(windows) || locale.is_some_and(is_utf8)
}

/// `text` in lines of at most `room` columns, broken between words; a longer word has a line of its
/// own, and is broken where the line ends.
pub(crate) fn wrap(text: &str, room: usize) -> Vec<String> {
    let mut lines = Vec::new();
    for paragraph in text.lines() {
        let mut line = String::new();
        for word in paragraph.split_whitespace() {
            let gap = usize::from(!line.is_empty());
            if gap == 1 && width_of(&line) + gap + width_of(word) > room {
                lines.push(std::mem::take(&mut line));
            } else if gap == 1 {
                line.push(' ');
            }
            for character in word.chars() {
                if !line.is_empty() && width_of(&line) + width_of(character.encode_utf8(&mut [0; 4])) > room {
                    lines.push(std::mem::take(&mut line));
                }
                line.push(character);
            }
        }
        lines.push(line);
    }
    lines
}

/// The columns that `text` takes.
pub(crate) fn width_of(text: &str) -> usize {
    unicode_width::UnicodeWidthStr::width(text)
}

/// `text` cut to `room` columns; what it says of its look takes none, and is ended.
pub(crate) fn clipped(text: &str, room: usize) -> String {
    let (mut out, mut used, mut escaped) = (String::new(), 0, false);
    for character in text.chars() {
        if escaped || character == '\u{1b}' {
            escaped = character != 'm';
            out.push(character);
            continue;
        }
        used += width_of(character.encode_utf8(&mut [0; 4]));
        if used > room {
            if out.contains('\u{1b}') {
                out.push_str(RESET);
            }
            break;
        }
        out.push(character);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_broken_between_words_and_words_only_where_they_must() {
        assert_eq!(wrap("one two three", 7), ["one two", "three"]);
        assert_eq!(wrap("a abcdefgh b", 4), ["a", "abcd", "efgh", "b"]);
        assert_eq!(wrap("日本語 テスト", 6), ["日本語", "テスト"]);
        assert_eq!(wrap("first\nsecond line", 80), ["first", "second line"]);
    }

    #[test]
    fn a_line_is_cut_by_the_columns_it_takes_and_its_colour_ends_with_it() {
        assert_eq!(clipped("日本語", 5), "日本");
        assert_eq!(clipped("plain", 80), "plain");
        let red = Look { colour: true, ..Look::default() }.level("unhealthy", "unhealthy");
        assert_eq!(clipped(&red, 2), "\u{1b}[31mun\u{1b}[0m");
    }

    #[cfg(not(windows))]
    #[test]
    fn the_first_locale_that_is_set_says_whether_texts_are_unicode() {
        let cases: [(&[(&str, &str)], bool); 6] = [
            (&[], false),
            (&[("LANG", "en_US.UTF-8")], true),
            (&[("LANG", "de_DE.utf8@euro")], true),
            (&[("LC_ALL", "C"), ("LANG", "en_US.UTF-8")], false),
            (&[("LC_ALL", ""), ("LC_CTYPE", "C.UTF-8"), ("LANG", "C")], true),
            (&[("LANG", "POSIX")], false),
        ];
        for (set, expected) in cases {
            let variable = |name: &str| set.iter().find(|(set, _)| *set == name).map(|(_, value)| (*value).to_owned());
            assert_eq!(speaks_unicode(variable), expected, "{set:?}");
        }
    }

    #[test]
    fn without_colours_a_text_is_the_text() {
        let look = Look::default();
        assert_eq!((look.bold("a"), look.level("healthy", "b")), ("a".to_owned(), "b".to_owned()));
    }
}
