//! Explanations, and every command that our documents name.

#![expect(clippy::wildcard_enum_match_arm, reason = "of the events of Markdown a few matter")]

use std::path::{Path, PathBuf};

use clap::{CommandFactory, Parser};
use everfresh_presentation::help::{Topic, sections};
use pulldown_cmark::{Event, Tag, TagEnd};
use serde_json::json;

use super::*;
use crate::cli::Cli;

const NARROW: render::Style = render::Style { width: Some(40), colours: false };

#[test]
fn each_exit_code_has_its_section_under_its_number() {
    // The variants with their numbers, as they stand in the source: none can be forgotten.
    let source = include_str!("../exit.rs");
    let codes =
        source.lines().filter_map(|line| line.trim().strip_suffix(',')?.split_once(" = ")?.1.parse::<u8>().ok());
    let codes: Vec<u8> = codes.collect();
    assert!(codes.contains(&(Exit::Degraded as u8)), "{codes:?}");
    for code in &codes {
        let section = find(&code.to_string()).unwrap_or_else(|| panic!("no section for exit code {code}"));
        assert_eq!(section.topic(), Topic::ExitCode);
        assert!(section.words.starts_with(&format!("Exit code {code}: ")), "{section:?}");
    }
    let rows = everfresh_testkit::documents::rows(&everfresh_testkit::documents::document("REFERENCE.md"), "code");
    let referred: Vec<u8> = rows.iter().filter_map(|row| row[0].parse::<u8>().ok()).collect();
    assert_eq!(referred, codes, "the table in docs/REFERENCE.md");
    let told = sections().filter(|section| section.topic() == Topic::ExitCode).count();
    assert_eq!(told, codes.len(), "a section explains an exit code that there is not");
}

#[test]
fn topics_are_found_however_they_are_typed() {
    for (typed, id) in [("rotation_lost", "rotation_lost"), ("Rotation-Lost ", "rotation_lost"), ("3", "exit-3")] {
        assert_eq!(find(typed).map(|section| section.id), Some(id), "{typed:?}");
    }
    for typed in ["", "99", "rotation"] {
        assert_eq!(find(typed), None, "{typed:?}");
    }
    let unknown = explain(&Explain { topic: Some("no_such".into()) }).unwrap_err();
    assert_eq!(unknown.exit, Exit::Usage);
}

#[test]
fn an_explanation_fits_a_narrow_terminal_and_keeps_commands_whole() {
    let text = render::section(&find("client_rejected").unwrap(), NARROW);
    insta::assert_snapshot!(text, @r"
    Client registration no longer known -
    re-authentication required
    (client_rejected)

    What it means. The provider does not
    know the client any more that everfresh
    registered there, or that you
    configured. Some providers forget
    registered clients after weeks.

    What everfresh does. It asked a second
    time to be sure, forgot the
    registration, and sends nothing more.

    What to do.

        everfresh login NAME

    That registers a new client by itself.
    With a `client_id` of your own, check it
    at the provider first.

    How to tell it is over. `login` says
    `logged in`.
    ");
    for section in sections() {
        let text = render::section(&section, render::Style { width: Some(88), colours: false });
        let long: Vec<&str> = text.lines().filter(|line| line.chars().count() > 88 && !line.contains('`')).collect();
        assert!(long.is_empty(), "{}: {long:?}", section.id);
    }
}

#[test]
fn emphasis_is_for_terminals_with_colours_only() {
    let section = find("ok").unwrap();
    assert!(!render::section(&section, NARROW).contains('\u{1b}'));
    assert!(
        render::section(&section, render::Style { colours: true, ..NARROW })
            .contains("\u{1b}[1mWhat it means.\u{1b}[0m")
    );
}

/// What the terminal does not show must not be in the document.
#[test]
fn sections_are_written_with_what_the_terminal_can_show() {
    for section in sections() {
        for event in pulldown_cmark::Parser::new(section.body) {
            let shown = matches!(
                event,
                Event::Start(Tag::Paragraph | Tag::Strong | Tag::CodeBlock(_) | Tag::Link { .. })
                    | Event::End(TagEnd::Paragraph | TagEnd::Strong | TagEnd::CodeBlock | TagEnd::Link)
                    | Event::Text(_)
                    | Event::Code(_)
                    | Event::SoftBreak
            );
            assert!(shown, "{}: {event:?}", section.id);
        }
    }
}

#[test]
fn a_hint_names_each_reason_of_what_is_not_well_once() {
    let server = |level: &str, reason: &str| json!({ "health": { "level": level, "reason": reason } });
    let (well, lost) = (server("healthy", "ok"), server("unhealthy", "rotation_lost"));
    assert_eq!(hint([&well]), None);
    assert_eq!(hint([&well, &lost, &lost]).unwrap(), "more about it: everfresh explain rotation_lost");
    let skew = server("degraded", "clock_skew");
    let told = hint([&lost, &skew]).unwrap();
    assert_eq!(told, "more about it: everfresh explain REASON, with one of clock_skew, rotation_lost");
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2).expect("crates/everfresh is two deep").to_owned()
}

/// README and everything in docs.
fn documents() -> Vec<(String, String)> {
    let mut paths = vec![root().join("README.md")];
    let mut folders = vec![root().join("docs")];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|end| end == "md") {
                paths.push(path);
            }
        }
    }
    paths.sort();
    let read = |path: PathBuf| (path.display().to_string(), std::fs::read_to_string(&path).unwrap());
    paths.into_iter().map(read).collect()
}

/// Every command line that begins with `everfresh`, from code blocks and from code within text.
fn commands(markdown: &str) -> Vec<String> {
    let mut in_block = false;
    let mut found = Vec::new();
    for event in pulldown_cmark::Parser::new_ext(markdown, pulldown_cmark::Options::ENABLE_TABLES) {
        match event {
            Event::Start(Tag::CodeBlock(_)) => in_block = true,
            Event::End(TagEnd::CodeBlock) => in_block = false,
            Event::Text(text) if in_block => found.extend(text.lines().flat_map(within_line)),
            Event::Code(code) => found.extend(within_line(&code)),
            _ => {}
        }
    }
    found
}

/// The commands of one line: alone, behind a prompt, after variables, in `$(...)`, in a pipe.
fn within_line(line: &str) -> Vec<String> {
    // What a command does is told behind a hash or a gap.
    let line = line.trim().split(" #").next().unwrap_or_default().split("   ").next().unwrap_or_default();
    let parts = line.split(['|', ';', '`', '"']).flat_map(|part| part.split("$(")).flat_map(|part| part.split("&&"));
    let commands = parts.filter_map(|part| {
        let part = part.split(')').next().unwrap_or_default().trim().trim_start_matches("$ ");
        let words: Vec<&str> = part.split_whitespace().skip_while(|word| is_variable(word)).collect();
        let is_drawing =
            words.get(1).is_some_and(|word| word.starts_with(|c: char| !c.is_alphanumeric() && c != '-' && c != '['));
        (words.first() == Some(&"everfresh") && !is_drawing).then(|| words.join(" "))
    });
    commands.collect()
}

fn is_variable(word: &str) -> bool {
    word.split_once('=').is_some_and(|(name, _)| name.bytes().all(|byte| byte.is_ascii_uppercase() || byte == b'_'))
}

/// The words of a command with values in the places of placeholders; nothing of prose that begins
/// like a command, as in `everfresh login ...`.
fn arguments(command: &str) -> Vec<String> {
    let redirects = |word: &&str| !matches!(*word, ">" | "<" | "&" | "2>");
    let words = command.split_whitespace().take_while(redirects).filter(|word| !matches!(*word, "..." | "…" | "\\"));
    let words = words.map(|word| word.trim_start_matches('[').trim_end_matches(']').trim_end_matches("..."));
    words.map(filled).collect()
}

fn filled(word: &str) -> String {
    let bare = word.trim_matches(|c| c == '<' || c == '>' || c == '\'');
    match bare {
        "NAME[@ACCOUNT" | "NAME@ACCOUNT" => "linear@work",
        "URL" => "https://mcp.example/mcp",
        "SHELL" => "bash",
        "CLIENT" => "claude-code",
        "REASON|EXIT_CODE" | "REASON" | "TOPIC" | "EXIT_CODE" => "ok",
        "ADDRESS" => "127.0.0.1:7411",
        "TIME" => "5m",
        other => return other.split('|').next().unwrap_or(other).to_owned(),
    }
    .to_owned()
}

/// Every command that a document names is one: it is read as the command line reads it.
#[test]
fn documents_name_commands_that_there_are() {
    let mut read = 0;
    let mut wrong = Vec::new();
    for (document, text) in documents() {
        for command in commands(&text) {
            let arguments = arguments(&command);
            let parsed = Cli::try_parse_from(&arguments);
            read += 1;
            if let Err(error) = parsed
                && !is_a_name_alone(&arguments, &error)
            {
                let words = error.to_string();
                wrong.push(format!("{document}: `{command}`: {}", words.lines().next().unwrap_or_default()));
            }
        }
    }
    assert!(read > 100, "only {read} commands were found");
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// `everfresh login` in a sentence is the name of a command, and help is no mistake.
fn is_a_name_alone(arguments: &[String], error: &clap::Error) -> bool {
    let named = arguments.len() == 2 && Cli::command().find_subcommand(&arguments[1]).is_some();
    let missing = error.kind() == clap::error::ErrorKind::MissingRequiredArgument
        || error.kind() == clap::error::ErrorKind::MissingSubcommand;
    named && missing || !error.use_stderr()
}

#[test]
fn commands_are_found_wherever_documents_have_them() {
    let text = "Run `everfresh list`, or:\n\n```\ncurl -H \"$(everfresh token linear -o header)\" x\n\
                $ A_B=1 everfresh show NAME | head # more\n```\n\n| `everfresh refresh NAME` | x |\n|---|---|\n";
    let found = commands(text);
    assert_eq!(
        found,
        ["everfresh list", "everfresh token linear -o header", "everfresh show NAME", "everfresh refresh NAME",]
    );
    assert!(Cli::try_parse_from(arguments("everfresh no-such NAME")).is_err());
}
