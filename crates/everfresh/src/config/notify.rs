//! The section `[notify]`: what is told without being asked, and by which ways.

#![expect(
    clippy::wildcard_enum_match_arm,
    reason = "of a foreign enum one variant is right and all others are wrong alike"
)]

use std::collections::BTreeSet;
use std::path::Path;
use std::time::Duration;

use everfresh_application::SecretSource;
use everfresh_domain::{NoticeKind, NoticePolicy};
use everfresh_infrastructure::http::check_authorities;
use everfresh_infrastructure::notices::WebhookSettings;
use toml::de::DeValue;

use super::file::upstream_url;
use super::oauth::secret_source;
use super::reader::{Reader, Section};

/// How long a command or a webhook may take, unless told otherwise.
const TIME_LIMIT: Duration = Duration::from_secs(10);

/// The longest time that may be given: a sink that takes longer holds up its next notice.
const TIME_LIMIT_MAX: Duration = Duration::from_secs(300);

/// A command of the user's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct CommandSettings {
    pub(crate) run: Vec<String>,
    pub(crate) limit: Duration,
}

/// What is told, and how.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct NotifySettings {
    pub(crate) desktop: bool,
    pub(crate) kinds: BTreeSet<NoticeKind>,
    pub(crate) policy: NoticePolicy,
    pub(crate) command: Option<CommandSettings>,
    pub(crate) webhook: Option<WebhookSettings>,
    /// What opens the page when a person clicks, where not the system's opener.
    pub(crate) browser: Option<String>,
}

impl Default for NotifySettings {
    fn default() -> Self {
        Self {
            desktop: true,
            kinds: NoticeKind::ALL.into_iter().filter(|kind| *kind != NoticeKind::Restored).collect(),
            policy: NoticePolicy::default(),
            command: None,
            webhook: None,
            browser: None,
        }
    }
}

/// Reads the section.
pub(super) fn notify_of(reader: &mut Reader<'_>, mut section: Section<'_, '_>, folder: &Path) -> NotifySettings {
    let mut settings = NotifySettings::default();
    settings.desktop = section.truth(reader, "desktop").unwrap_or(settings.desktop);
    if let Some(kinds) = kinds(reader, &mut section) {
        settings.kinds = kinds;
    }
    if let Some(warn_before) = warn_before(reader, &mut section) {
        settings.policy.warn_before = warn_before;
    }
    if let Some(after) = section.duration(reader, "outage_after") {
        settings.policy.outage_after = after;
    }
    settings.command = section.section(reader, "command").and_then(|command| command_of(reader, command));
    settings.webhook = section.section(reader, "webhook").and_then(|webhook| webhook_of(reader, webhook, folder));
    section.finish(reader);
    settings
}

fn kinds(reader: &mut Reader<'_>, section: &mut Section<'_, '_>) -> Option<BTreeSet<NoticeKind>> {
    let line = section.place(reader, "on").unwrap_or_else(|| section.line());
    let mut kinds = BTreeSet::new();
    for text in section.texts(reader, "on")? {
        match NoticeKind::ALL.into_iter().find(|kind| kind.as_str() == text) {
            Some(kind) => drop(kinds.insert(kind)),
            None => {
                let known = NoticeKind::ALL.map(NoticeKind::as_str).join(", ");
                reader.problem(line, format!("notify.on = {text:?} is not known; known are: {known}"));
            }
        }
    }
    Some(kinds)
}

/// How long before an end it is warned of, the longest first.
fn warn_before(reader: &mut Reader<'_>, section: &mut Section<'_, '_>) -> Option<Vec<Duration>> {
    let line = section.place(reader, "warn_before").unwrap_or_else(|| section.line());
    let mut times = Vec::new();
    for text in section.texts(reader, "warn_before")? {
        match humantime::parse_duration(&text) {
            Ok(time) => times.push(time),
            Err(_) => {
                let fix = "write it like \"3d\" or \"12h\"";
                reader.problem(line, format!("notify.warn_before = {text:?} is not a time; {fix}"));
            }
        }
    }
    times.sort_unstable_by(|a, b| b.cmp(a));
    Some(times)
}

fn time_limit(reader: &mut Reader<'_>, section: &mut Section<'_, '_>) -> Duration {
    let Some(limit) = section.duration(reader, "timeout") else { return TIME_LIMIT };
    if limit.is_zero() || limit > TIME_LIMIT_MAX {
        let (name, line) = (section.named("timeout"), section.place(reader, "timeout"));
        reader.problem(line.unwrap_or_else(|| section.line()), format!("{name} must be between 1 ms and 5 min"));
    }
    limit
}

fn command_of(reader: &mut Reader<'_>, mut section: Section<'_, '_>) -> Option<CommandSettings> {
    let told = section.place(reader, "run");
    let run = section.texts(reader, "run");
    if told.is_none() || run.as_ref().is_some_and(Vec::is_empty) {
        let name = section.named("run");
        let fix = "names no command; write run = [\"program\", \"argument\"]";
        reader.problem(told.unwrap_or_else(|| section.line()), format!("{name} {fix}"));
    }
    let limit = time_limit(reader, &mut section);
    section.finish(reader);
    Some(CommandSettings { run: run?, limit })
}

fn webhook_of(reader: &mut Reader<'_>, mut section: Section<'_, '_>, folder: &Path) -> Option<WebhookSettings> {
    let told = section.place(reader, "url").is_some();
    let url = section.text(reader, "url");
    let url = url.and_then(|(text, span)| upstream_url(reader, &section.named("url"), text, &span));
    if !told {
        let name = section.named("url");
        reader.problem(section.line(), format!("{name} is missing; add url = \"https://...\""));
    }
    let secrets = secrets(reader, &mut section, folder);
    let limit = time_limit(reader, &mut section);
    let ca_file = section.text(reader, "ca_file").map(|(text, span)| {
        let path = folder.join(text);
        if let Err(error) = check_authorities(&path) {
            reader.wrong(&span, format!("{}: {error}", section.named("ca_file")));
        }
        path
    });
    section.finish(reader);
    Some(WebhookSettings { url: url?, secrets, limit, ca_file })
}

/// One reference to a secret, or a list while the old one is replaced by a new one.
fn secrets(reader: &mut Reader<'_>, section: &mut Section<'_, '_>, folder: &Path) -> Vec<SecretSource> {
    const KEY: &str = "secret";
    let Some(value) = section.take(KEY) else { return Vec::new() };
    let name = section.named(KEY);
    let fix = "write { env = \"VARIABLE\" }, { file = \"...\" } or { command = [...] }";
    let read = |reader: &mut Reader<'_>, value: &toml::Spanned<DeValue<'_>>| match value.get_ref() {
        DeValue::Table(table) => {
            let line = reader.line(&value.span());
            secret_source(reader, KEY, Section::new(name.clone(), table, line), folder)
        }
        _ => {
            reader.wrong(&value.span(), format!("{name} must not stand in the configuration itself; {fix}"));
            None
        }
    };
    match value.get_ref() {
        DeValue::Array(list) => list.iter().filter_map(|value| read(reader, value)).collect(),
        _ => read(reader, value).into_iter().collect(),
    }
}

#[cfg(test)]
mod tests {
    use everfresh_infrastructure::notices::WebhookSettings;

    use super::super::parse;
    use super::*;

    fn read(text: &str) -> Result<NotifySettings, Vec<String>> {
        let parsed = parse(text, Path::new("/etc/everfresh"));
        parsed.map(|config| config.notify).map_err(|wrong| wrong.iter().map(ToString::to_string).collect())
    }

    #[test]
    fn everything_is_told_to_the_desktop_but_that_all_is_well() {
        let settings = read("").unwrap();
        assert!(settings.desktop && settings.command.is_none() && settings.webhook.is_none());
        assert!(settings.kinds.contains(&NoticeKind::LoginNeeded) && !settings.kinds.contains(&NoticeKind::Restored));
    }

    #[test]
    fn the_section_is_read_whole() {
        let text = "[notify]\ndesktop = false\non = [\"login_needed\", \"restored\"]\nwarn_before = [\"1d\", \"7d\"]\n\
                    outage_after = \"5m\"\n[notify.command]\nrun = [\"hook\", \"a b\"]\ntimeout = \"3s\"\n\
                    [notify.webhook]\nurl = \"https://hooks.example/x\"\nsecret = [{ env = \"NEW\" }, { file = \"old\" }]\n";
        let day = Duration::from_secs(86_400);
        let settings = read(text).unwrap();
        assert!(!settings.desktop);
        assert_eq!(settings.kinds, BTreeSet::from([NoticeKind::LoginNeeded, NoticeKind::Restored]));
        assert_eq!(settings.policy.warn_before, [day * 7, day]);
        assert_eq!(settings.policy.outage_after, Duration::from_secs(300));
        let run = ["hook", "a b"].map(str::to_owned).into();
        assert_eq!(settings.command, Some(CommandSettings { run, limit: Duration::from_secs(3) }));
        let secrets = vec![SecretSource::Env("NEW".into()), SecretSource::File("/etc/everfresh/old".into())];
        let webhook =
            WebhookSettings { url: "https://hooks.example/x".into(), secrets, limit: TIME_LIMIT, ca_file: None };
        assert_eq!(settings.webhook, Some(webhook));
        let one = read("[notify.webhook]\nurl = \"https://a\"\nsecret = { env = \"S\" }").unwrap();
        assert_eq!(one.webhook.unwrap().secrets, [SecretSource::Env("S".into())]);
    }

    #[test]
    fn every_mistake_has_its_line_and_its_fix() {
        let cases = [
            ("[notify]\non = [\"login\"]", "2: notify.on = \"login\" is not known; known are: login_needed,"),
            ("[notify]\ndesktop = \"no\"", "2: notify.desktop must be true or false"),
            ("[notify]\nwarn_before = [\"soon\"]", "2: notify.warn_before = \"soon\" is not a time; write it like"),
            ("[notify]\nsound = true", "2: notify.sound is not known; known here are: desktop, on,"),
            ("[notify.command]\nrun = []", "2: notify.command.run names no command"),
            ("[notify.command]\ntimeout = \"1h\"", "1: notify.command.run names no command"),
            ("[notify.command]\nrun = [\"a\"]\ntimeout = \"1h\"", "3: notify.command.timeout must be between"),
            ("[notify.webhook]\n", "1: notify.webhook.url is missing"),
            ("[notify.webhook]\nurl = \"ftp://x\"", "2: notify.webhook.url = \"ftp://x\" must begin with https://"),
            (
                "[notify.webhook]\nurl = \"https://x\"\nsecret = \"whsec_x\"",
                "3: notify.webhook.secret must not stand in the configuration itself; write { env",
            ),
        ];
        for (text, expected) in cases {
            let problems = read(text).unwrap_err();
            assert!(problems[0].starts_with(expected), "{problems:?}");
        }
    }

    #[test]
    fn every_example_of_the_manual_is_right() {
        let manual = include_str!("../../../../docs/NOTIFICATIONS.md");
        let examples: Vec<&str> =
            manual.split("```toml\n").skip(1).map(|rest| rest.split("```").next().unwrap()).collect();
        assert!(examples.len() >= 5, "{examples:?}");
        for example in &examples {
            read(&example.replace("# ca_file", "#")).unwrap();
        }
        let defaults = read(examples[0]).unwrap();
        let (default, policy) = (NotifySettings::default(), NoticePolicy::default());
        assert_eq!((defaults.desktop, &defaults.kinds, &defaults.policy), (default.desktop, &default.kinds, &policy));
    }
}
