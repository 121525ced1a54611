//! The reference's tables of keys and variables, against the reader and the command line themselves.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use clap::CommandFactory;
use everfresh_testkit::documents::{document, rows};

use super::*;
use crate::cli::Cli;

/// The tables of a configuration, each with what it needs to be read.
const SECTIONS: [(&str, &str); 9] = [
    ("", ""),
    ("master_key.", "[master_key]\n"),
    ("refresh.", "[refresh]\n"),
    ("login.", "[login]\n"),
    ("notify.", "[notify]\n"),
    ("notify.command.", "[notify.command]\nrun = [\"a\"]\n"),
    ("notify.webhook.", "[notify.webhook]\nurl = \"https://hooks.example/\"\n"),
    ("servers.NAME.", "[servers.x]\nurl = \"https://mcp.example/mcp\"\n"),
    ("servers.NAME.oauth.", "[servers.x]\nurl = \"https://mcp.example/mcp\"\n[servers.x.oauth]\n"),
];

const IDENTITY_PROVIDER: (&str, &str) = (
    "servers.NAME.oauth.identity_provider.",
    "[servers.x]\nurl = \"https://mcp.example/mcp\"\n[servers.x.oauth]\ngrant = \"enterprise_managed\"\n\
     [servers.x.oauth.identity_provider]\n",
);

/// A key that nobody would choose.
const STRANGE: &str = "zzzzzzzzzzzzzzzz";

fn read(text: &str) -> Result<Config, Vec<String>> {
    let told = |problems: Vec<reader::Problem>| problems.iter().map(ToString::to_string).collect();
    parse(text, Path::new("/etc/everfresh")).map_err(told)
}

/// What the reader itself says that it knows in each table.
fn known() -> BTreeSet<String> {
    let mut known = BTreeSet::new();
    for (prefix, head) in SECTIONS.into_iter().chain([IDENTITY_PROVIDER]) {
        let problems = read(&format!("{head}{STRANGE} = 1\n")).unwrap_err();
        let about_it = problems.iter().find(|problem| problem.contains(STRANGE)).unwrap();
        let names = about_it.split("known here are: ").nth(1).unwrap_or_else(|| panic!("{about_it}"));
        known.extend(names.split(", ").map(|name| format!("{prefix}{name}")));
    }
    // Tables within tables have keys of their own.
    let tables = [
        "master_key",
        "refresh",
        "login",
        "notify",
        "notify.command",
        "notify.webhook",
        "servers",
        "servers.NAME.oauth",
        "servers.NAME.oauth.identity_provider",
    ];
    known.retain(|key| !tables.contains(&key.as_str()));
    known
}

/// Key and default of each row.
fn documented() -> BTreeMap<String, String> {
    let rows = rows(&document("REFERENCE.md"), "key");
    rows.into_iter().map(|row| (row[0].clone(), row[1].clone())).collect()
}

#[test]
fn every_key_that_is_read_is_documented_and_no_other() {
    let (documented, known) = (documented(), known());
    assert!(known.len() > 40, "{known:?}");
    let missing: Vec<&String> = known.iter().filter(|key| !documented.contains_key(*key)).collect();
    assert!(missing.is_empty(), "docs/REFERENCE.md lacks a row for {missing:?}");
    let surplus: Vec<&String> = documented.keys().filter(|key| !known.contains(*key)).collect();
    assert!(surplus.is_empty(), "docs/REFERENCE.md has keys that nobody reads: {surplus:?}");
}

/// Writing a default out changes nothing.
#[test]
fn defaults_are_what_is_so_without_the_key() {
    for (prefix, head) in SECTIONS {
        let bare = read(head).unwrap();
        let documented = documented();
        let here = documented.iter().filter_map(|(key, default)| Some((key.strip_prefix(prefix)?, default)));
        for (key, default) in here.filter(|(key, default)| !key.contains('.') && *default != "-") {
            let told = read(&format!("{head}{key} = {default}\n"));
            let told = told.unwrap_or_else(|problems| panic!("{prefix}{key} = {default}: {problems:?}"));
            let told = Config { listen_is_chosen: false, ..told };
            assert_eq!(told, bare, "{prefix}{key} = {default} is not what is so without it");
        }
    }
}

#[test]
fn variables_and_flags_are_those_of_the_command_line() {
    let command = Cli::command();
    let real: BTreeSet<(String, String)> = command
        .get_arguments()
        .filter_map(|argument| {
            let variable = argument.get_env()?.to_str()?.to_owned();
            Some((variable, format!("--{}", argument.get_long()?)))
        })
        .collect();
    let rows = rows(&document("REFERENCE.md"), "variable");
    let told = rows.iter().filter(|row| !row[1].is_empty()).map(|row| (row[0].clone(), row[1].clone()));
    assert_eq!(told.collect::<BTreeSet<_>>(), real);
}
