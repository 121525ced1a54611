//! The command line as people and programs meet it: documents of their schemas, errors with the next
//! step, completions, manual pages, progress.

use std::process::Stdio;
use std::time::Duration;

use everfresh_e2e::daemon::{binary, command};
use everfresh_e2e::{Terminal, World};
use everfresh_testkit::provider::Fault;
use serde_json::{Value, json};

/// A schema that also refuses what it does not name: nothing is printed that is not documented.
pub(super) fn closed(mut schema: Value) -> jsonschema::Validator {
    close(&mut schema);
    jsonschema::draft202012::new(&schema).expect("the schema is one")
}

fn close(part: &mut Value) {
    match part {
        Value::Object(members) => {
            if members.contains_key("properties") {
                members.insert("additionalProperties".to_owned(), json!(false));
            }
            members.values_mut().for_each(close);
        }
        Value::Array(items) => items.iter_mut().for_each(close),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

async fn expect_valid(world: &World, shape: &str, arguments: &[&str], document: &Value) {
    let schema = closed(world.run(&["schema", shape]).await.expect(0).json());
    let problems: Vec<String> = schema.iter_errors(document).map(|error| error.to_string()).collect();
    assert!(problems.is_empty(), "{arguments:?}: {problems:?} in {document}");
    assert!(!schema.is_valid(&json!({ "surprise": 1 })), "a schema that takes anything says nothing");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_printed_as_json_is_what_its_schema_says() {
    let world = World::with_lifetime(Duration::from_secs(600)).await;
    let daemon = world.daemon().await;
    world.log_in(&daemon, "demo").await;
    daemon.run(&["refresh", "demo"]).await.expect(0);
    daemon.run(&["add", "other", "https://mcp.invalid/mcp", "--no-login"]).await.expect(0);
    world.provider.with(|model| model.switches.fault = Some(Fault::Html));
    daemon.run(&["refresh", "demo"]).await.expect(4);
    let shapes: [(&str, &[&str]); 6] = [
        ("list", &["list", "-o", "json"]),
        ("show", &["show", "demo", "-o", "json"]),
        ("show", &["show", "other", "-o", "json"]),
        ("journal", &["journal", "demo", "-o", "json"]),
        ("token", &["token", "demo", "-o", "json"]),
        ("doctor", &["doctor", "-o", "json"]),
    ];
    for (shape, arguments) in shapes {
        let ran = daemon.run(arguments).await;
        expect_valid(&world, shape, arguments, &ran.json()).await;
    }
    // The same where no daemon runs.
    daemon.kill().await;
    let listed = world.run(&["list", "-o", "json"]).await.expect(0).json();
    expect_valid(&world, "list", &["list"], &listed).await;
    let checked = world.run(&["doctor", "demo", "-o", "json"]).await.json();
    expect_valid(&world, "doctor", &["doctor"], &checked).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_error_says_what_to_do_next() {
    let world = World::with_lifetime(Duration::from_secs(600)).await;
    let daemon = world.daemon().await;
    world.log_in(&daemon, "demo").await;
    daemon.run(&["add", "other", "https://mcp.invalid/mcp", "--no-login"]).await.expect(0);
    let cases: [(&[&str], i32, &str); 8] = [
        (&["show", "dmeo"], 5, "did you mean demo?"),
        (&["doctor", "dem"], 5, "did you mean demo?"),
        (&["token", "nobody"], 5, "`everfresh list` shows those there are"),
        (&["token", "other"], 3, "Run: everfresh login other"),
        (&["refresh", "other"], 3, "Run: everfresh login other"),
        (&["login", "other"], 4, "everfresh doctor other looks closer"),
        (&["add", "demo", "https://mcp.invalid", "--no-login"], 1, "everfresh remove demo"),
        (&["disable", "demo@work"], 2, "name the server: demo"),
    ];
    for (arguments, code, words) in cases {
        let ran = daemon.run(arguments).await;
        assert_eq!(ran.code, code, "{arguments:?}: {ran:?}");
        assert!(ran.stderr.contains(words) && ran.stdout.is_empty(), "{arguments:?}: {ran:?}");
    }
    // Another folder's key is not this daemon's.
    let foreign = tempfile::tempdir().unwrap();
    std::fs::create_dir(foreign.path().join("data")).unwrap();
    std::fs::write(foreign.path().join("config.toml"), "").unwrap();
    std::fs::write(foreign.path().join("data/local-key"), "00".repeat(32)).unwrap();
    let listen = format!("127.0.0.1:{}", daemon.port());
    let ran = everfresh_e2e::daemon::run(foreign.path(), &["--listen", &listen, "list"]).await;
    assert!(ran.code == 8 && ran.stderr.contains("--data-dir"), "{ran:?}");
    let ran = daemon.run(&["--listen", "127.0.0.1:1", "list"]).await;
    assert!(ran.code == 6 && ran.stderr.contains(&daemon.base_url), "{ran:?}");
    daemon.kill().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_takes_long_is_told_on_a_terminal_and_leaves_no_trace() {
    let world = World::with_lifetime(Duration::from_secs(600)).await;
    let daemon = world.daemon().await;
    world.log_in(&daemon, "demo").await;
    world.provider.with(|model| model.switches.delay_ms = 1_500);
    let piped = daemon.run(&["refresh", "demo"]).await.expect(0);
    assert_eq!(piped.stderr, "", "a pipe hears nothing of it");
    let terminal = Terminal::start(world.folder(), (80, 24), &[], &["refresh", "demo"]).await;
    terminal.expect_after(0, "demo: asking the provider ... ").await;
    let (code, drawn) = terminal.ended().await;
    assert_eq!(code, 0, "{drawn}");
    let (_, after) = drawn.rsplit_once("asking the provider").unwrap();
    assert!(after.contains("\r\u{1b}[K") && after.contains("demo: refreshed"), "{after:?}");
    let dumb = Terminal::start(world.folder(), (80, 24), &[("TERM", "dumb")], &["refresh", "demo"]).await;
    let (_, drawn) = dumb.ended().await;
    assert!(!drawn.contains('\u{1b}'), "{drawn:?}");
    daemon.kill().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn colours_are_for_terminals_that_want_them() {
    let world = World::with_lifetime(Duration::from_secs(600)).await;
    let daemon = world.daemon().await;
    daemon.run(&["add", "demo", &world.upstream.url(), "--no-login"]).await.expect(0);
    let cases: [(&[(&str, &str)], bool); 4] =
        [(&[], true), (&[("NO_COLOR", "1")], false), (&[("TERM", "dumb")], false), (&[("CLICOLOR", "0")], false)];
    for (variables, coloured) in cases {
        let terminal = Terminal::start(world.folder(), (80, 24), variables, &["list"]).await;
        let (_, drawn) = terminal.ended().await;
        assert_eq!(drawn.contains("\u{1b}["), coloured, "{variables:?}: {drawn:?}");
    }
    let piped = daemon.run(&["list"]).await.expect(0);
    assert!(!piped.stdout.contains('\u{1b}'), "{piped:?}");
    let forced = command(world.folder()).arg("list").env_remove("NO_COLOR").env("CLICOLOR_FORCE", "1").output();
    let forced = String::from_utf8(forced.await.unwrap().stdout).unwrap();
    assert!(forced.contains("\u{1b}["), "{forced:?}");
    daemon.kill().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn shells_complete_the_names_of_servers_with_and_without_a_daemon() {
    let world = World::with_lifetime(Duration::from_secs(600)).await;
    world.configure("[servers.from-file]\nurl = \"https://mcp.invalid/mcp\"\n");
    let daemon = world.daemon().await;
    daemon.run(&["add", "linear", "https://mcp.invalid/mcp", "--no-login"]).await.expect(0);
    let config = world.folder().join("config.toml");
    let data = world.folder().join("data");
    let asked = async |word: &str| {
        let mut asking = command(world.folder());
        // As the script for bash asks: the words of the line, and which of them is completed.
        let words =
            ["everfresh", "--config", config.to_str().unwrap(), "--data-dir", data.to_str().unwrap(), "show", word];
        asking.env("EVERFRESH_COMPLETE", "bash").env("_CLAP_COMPLETE_INDEX", "6").env("_CLAP_COMPLETE_COMP_TYPE", "9");
        asking.env("_CLAP_COMPLETE_SPACE", "true").env("_CLAP_IFS", "\n").arg("--").args(words);
        let output = asking.output().await.unwrap();
        String::from_utf8(output.stdout).unwrap()
    };
    assert!(asked("").await.contains("linear") && asked("").await.contains("from-file"), "{}", asked("").await);
    assert_eq!(asked("lin").await.trim(), "linear");
    daemon.kill().await;
    assert_eq!(asked("lin").await.trim(), "linear");
    assert_eq!(asked("from").await.trim(), "from-file");
}

#[tokio::test(flavor = "multi_thread")]
async fn completion_scripts_are_what_their_shells_can_read() {
    let world = World::with_lifetime(Duration::from_secs(600)).await;
    for (shell, check) in [("bash", "-n"), ("zsh", "-n"), ("fish", "--no-execute")] {
        let script = world.run(&["completions", shell]).await.expect(0).stdout;
        assert!(script.contains("EVERFRESH_COMPLETE"), "{shell}: {script}");
        let path = world.folder().join(shell);
        std::fs::write(&path, &script).unwrap();
        match std::process::Command::new(shell).arg(check).arg(&path).stderr(Stdio::piped()).output() {
            Ok(read) => assert!(read.status.success(), "{shell}: {read:?}"),
            Err(_) => println!("command line: there is no {shell} here, so its script was not read by it"),
        }
    }
    for shell in ["elvish", "powershell"] {
        assert!(world.run(&["completions", shell]).await.expect(0).stdout.contains("everfresh"), "{shell}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_command_has_a_manual_page_that_is_well_formed() {
    let world = World::with_lifetime(Duration::from_secs(600)).await;
    let folder = world.folder().join("man");
    world.run(&["man", folder.to_str().unwrap()]).await.expect(0);
    let mut pages: Vec<_> = std::fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    pages.sort();
    let names: Vec<_> = pages.iter().map(|page| page.file_name().unwrap().to_string_lossy().into_owned()).collect();
    for wanted in ["everfresh.1", "everfresh-add.1", "everfresh-login.1", "everfresh-doctor.1", "everfresh-token.1"] {
        assert!(names.iter().any(|name| name == wanted), "{wanted} in {names:?}");
    }
    let linted = std::process::Command::new("mandoc").args(["-T", "lint", "-W", "error"]).args(&pages).output();
    match linted {
        Ok(linted) => assert!(linted.status.success(), "{}", String::from_utf8_lossy(&linted.stdout)),
        Err(_) => println!("command line: there is no mandoc here, so the pages were not read by it"),
    }
    let page = std::fs::read_to_string(folder.join("everfresh-add.1")).unwrap();
    assert!(page.contains("everfresh add linear"), "examples belong to the page");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reader_that_leaves_early_is_no_error() {
    let world = World::with_lifetime(Duration::from_secs(600)).await;
    for arguments in ["list", "completions bash", "schema list", "man", "--help"] {
        let line = format!("'{}' {arguments} | head -c 1 > /dev/null; exit ${{PIPESTATUS[0]}}", binary().display());
        let data = world.folder().join("data");
        let ran = std::process::Command::new("bash").args(["-c", &line]).env("EVERFRESH_DATA_DIR", &data).output();
        let ran = ran.unwrap();
        assert!(!String::from_utf8_lossy(&ran.stderr).contains("panicked"), "{arguments}: {ran:?}");
    }
}
