//! The unit, word for word, and what is read of `systemctl`.

use proptest::prelude::*;

use super::*;

fn plan(data: &str, runs_commands: bool) -> Plan {
    Plan {
        program: "/usr/local/bin/everfresh".into(),
        arguments: ["serve", "--data-dir", data, "--listen", "127.0.0.1:7500"].map(str::to_owned).to_vec(),
        data: data.into(),
        environment: "/users/ann/.config/everfresh/environment".into(),
        runs_commands,
    }
}

#[test]
fn the_unit_is_what_it_should_be() {
    let plan = plan("/users/ann/.local/state/everfresh", false);
    insta::assert_snapshot!("unit", unit(&plan, Sandbox::Full));
}

#[test]
fn paths_with_blanks_and_signs_of_systemd_stay_what_they_are() {
    let unit = unit(&plan("/data of \"50 %\" $HOME\\x", false), Sandbox::Full);
    let line = |key: &str| unit.lines().find(|line| line.starts_with(key)).unwrap().to_owned();
    assert!(line("ExecStart=").contains(r#""/data of \"50 %%\" $$HOME\\x""#), "{unit}");
    assert!(line("ReadWritePaths=").contains(r#""/data of \"50 %%\" $HOME\\x""#), "{unit}");
}

#[test]
fn each_sandbox_has_what_works_there() {
    let plan = plan("/data", false);
    let (full, calls, commands) =
        (unit(&plan, Sandbox::Full), unit(&plan, Sandbox::WithoutNamespaces), unit(&plan, Sandbox::ForCommands));
    for text in [&full, &calls, &commands] {
        assert!(text.contains("\nNoNewPrivileges=yes\n") && text.contains("\nUMask=0077\n"), "{text}");
    }
    assert!(full.contains("ProtectSystem=strict") && full.contains("ReadWritePaths=\"/data\""));
    assert!(!calls.contains("ProtectSystem") && !calls.contains("PrivateUsers") && calls.contains("SystemCallFilter"));
    assert!(
        !commands.contains("SystemCallFilter") && !commands.contains("MemoryDeny") && !commands.contains("Private")
    );
}

#[test]
fn the_socket_unit_holds_every_address() {
    let addresses = ["127.0.0.1:7411".parse().unwrap(), "[::1]:7411".parse().unwrap()];
    insta::assert_snapshot!("socket", socket_unit(&addresses));
}

#[test]
fn the_packaged_unit_is_the_same_without_what_depends_on_the_machine() {
    let packaged = Plan {
        program: "/usr/bin/everfresh".into(),
        arguments: vec!["serve".to_owned()],
        data: "/".into(),
        environment: "/ENVIRONMENT".into(),
        runs_commands: false,
    };
    let made = unit(&packaged, Sandbox::WithoutNamespaces).replace("-/ENVIRONMENT", "-%E/everfresh/environment");
    let settings =
        |text: &str| text.lines().filter(|line| !line.starts_with('#')).map(str::to_owned).collect::<Vec<_>>();
    let shipped = include_str!("../../packaging/everfresh.service");
    assert_eq!(settings(shipped), settings(&made), "packaging/everfresh.service should be:\n{made}");
}

#[test]
fn the_state_is_read() {
    let told = "LoadState=loaded\nActiveState=active\nSubState=running\nUnitFileState=enabled\nMainPID=4711\n\
                FragmentPath=/x/everfresh.service\nStatusText=3 logins, 1 needs you\nActiveEnterTimestamp=@1795514400\n";
    let state = state_in(told);
    assert_eq!((state.running, state.enabled, state.pid), (Some(true), true, Some(4711)));
    assert_eq!(state.since.map(|at| at.to_string()).as_deref(), Some("2026-11-24T10:00:00Z"));
    assert_eq!(state.words.as_deref(), Some("3 logins, 1 needs you"));
    let absent =
        state_in("LoadState=not-found\nActiveState=inactive\nSubState=dead\nMainPID=0\nActiveEnterTimestamp=\n");
    let expected = State { running: Some(false), details: "inactive (dead)".to_owned(), ..State::default() };
    assert_eq!(absent, expected);
}

/// What systemd takes a line of quoted words for (systemd.service(5), systemd.unit(5)).
fn words(line: &str) -> Vec<String> {
    let (mut words, mut word, mut inside) = (Vec::new(), String::new(), false);
    let mut characters = line.chars();
    while let Some(character) = characters.next() {
        match character {
            '"' if inside => words.push(std::mem::take(&mut word)),
            '"' | ' ' if !inside => {}
            '\\' => word.extend(characters.next()),
            '%' | '$' => {
                assert_eq!(characters.next(), Some(character), "a specifier or variable is left in {line}");
                word.push(character);
            }
            other => word.push(other),
        }
        inside ^= character == '"';
    }
    words
}

proptest! {
    #[test]
    fn whatever_the_arguments_are_systemd_passes_them_on_as_they_are(arguments in proptest::collection::vec("[^\\p{Cc}]{0,12}", 1..5)) {
        let line: Vec<String> = arguments.iter().map(|argument| quoted(argument, Dollar::Doubled)).collect();
        prop_assert_eq!(words(&line.join(" ")), arguments);
    }
}
