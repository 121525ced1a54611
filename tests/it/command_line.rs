//! The command line as people and programs meet it: documents of their schemas, errors with the next
//! step, manual pages, progress.

use std::time::Duration;

use everfresh_e2e::daemon::{binary, command, plain};
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
    let shapes: [(&str, &[&str]); 8] = [
        ("list", &["list", "-o", "json"]),
        ("show", &["show", "demo", "-o", "json"]),
        ("show", &["show", "other", "-o", "json"]),
        ("journal", &["journal", "demo", "-o", "json"]),
        ("refresh", &["refresh", "demo", "-o", "json"]),
        ("refresh", &["refresh", "other", "-o", "json"]),
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
    let cases: [(&[&str], i32, &str); 10] = [
        (&["show", "dmeo"], 5, "did you mean demo?"),
        (&["doctor", "dem"], 5, "did you mean demo?"),
        (&["token", "nobody"], 5, "`everfresh list` shows those there are"),
        (&["token", "other"], 3, "Run: everfresh login other"),
        (&["refresh", "other"], 3, "Run: everfresh login other"),
        (&["login", "other"], 4, "everfresh doctor other looks closer"),
        (&["add", "demo", "https://mcp.invalid", "--no-login"], 1, "everfresh remove demo"),
        (&["disable", "demo@work"], 2, "name the server: demo"),
        (&["show", "demo@"], 5, "did you mean demo?"),
        (&["show", ""], 5, "\"\" is no name of a login"),
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

#[cfg(target_os = "linux")]
#[tokio::test(flavor = "multi_thread")]
async fn a_result_that_could_not_be_written_is_an_error() {
    let world = World::with_lifetime(Duration::from_secs(600)).await;
    for arguments in [["schema", "list"], ["completions", "bash"], ["explain", "login_required"]] {
        let full = std::fs::File::options().write(true).open("/dev/full").unwrap();
        let asked =
            command(world.folder()).args(arguments).stdout(full).stderr(std::process::Stdio::piped()).spawn().unwrap();
        let ran = asked.wait_with_output().await.unwrap();
        let said = String::from_utf8_lossy(&ran.stderr).into_owned();
        assert!(ran.status.code() == Some(1) && said.contains("could not be written to stdout"), "{ran:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_usage_error_speaks_of_what_was_typed_alone() {
    let world = World::with_lifetime(Duration::from_secs(600)).await;
    for arguments in [["show"].as_slice(), &["list", "--watch", "--check"], &["key"]] {
        let mut asked = plain(binary());
        asked.args(arguments).env("HOME", world.folder()).env("BROWSER", "firefox").env("EVERFRESH_LOG", "info");
        let ran = asked.env("EVERFRESH_DATA_DIR", world.folder()).output().await.unwrap();
        let said = String::from_utf8_lossy(&ran.stderr).into_owned();
        let usage = said.lines().find(|line| line.contains("Usage: everfresh"));
        let usage = usage.unwrap_or_else(|| panic!("{arguments:?}: {said}"));
        assert_eq!(ran.status.code(), Some(2), "{arguments:?}: {said}");
        assert!(!["--browser-cmd", "--data-dir", "--log-level"].iter().any(|name| usage.contains(name)), "{usage}");
    }
    for limit in ["0", "-1"] {
        let ran = world.run(&["journal", "demo", "--limit", limit]).await.expect(2);
        assert!(ran.stderr.contains("is not in 1.."), "{ran:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_login_that_nobody_keeps_fresh_is_told_to_be_that() {
    let world = World::with_lifetime(Duration::from_secs(600)).await;
    world.run(&["list", "--check"]).await.expect(0);
    let daemon = world.daemon().await;
    world.log_in(&daemon, "demo").await;
    daemon.run(&["list", "--check"]).await.expect(0);
    for command in ["show", "url"] {
        let ran = daemon.run(&[command, "demo"]).await.expect(0);
        assert!(!ran.stderr.contains("everfresh serve"), "{ran:?}");
    }
    assert_eq!(daemon.stop().await, 0);
    world.run(&["list", "--check"]).await.expect(6);
    for command in ["show", "url"] {
        let ran = world.run(&[command, "demo"]).await.expect(0);
        assert!(ran.stderr.contains("everfresh serve"), "{ran:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_daemon_that_hangs_is_told_to_hang_and_not_to_be_another_one() {
    let world = World::with_lifetime(Duration::from_secs(600)).await;
    let daemon = world.daemon().await;
    let pid = daemon.pid().to_string();
    let signal =
        |name: &str| assert!(std::process::Command::new("kill").args([name, &pid]).status().unwrap().success());
    signal("-STOP");
    let (listed, ready, checked) =
        tokio::join!(daemon.run(&["list"]), daemon.run(&["ready"]), daemon.run(&["doctor", "-o", "json"]));
    signal("-CONT");
    assert!(listed.code == 6 && listed.stderr.contains(&format!("its process {pid} still has")), "{listed:?}");
    assert!(ready.code == 6 && ready.stderr.contains("it has ended without a word, or hangs"), "{ready:?}");
    let report = checked.expect(6).json();
    let checks = report["checks"].as_array().unwrap();
    let result = |name: &str| checks.iter().find(|check| check["check"] == name).unwrap()["result"].as_str().unwrap();
    let results = ["daemon", "port", "local key", "store", "master key"].map(result);
    assert_eq!(results, ["failed", "skipped", "ok", "skipped", "skipped"], "{report}");
    daemon.run(&["list"]).await.expect(0);
    daemon.kill().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_command_waits_for_the_one_that_has_the_data_folder() {
    let world = World::with_lifetime(Duration::from_secs(600)).await;
    world.run(&["add", "demo", &world.upstream.url(), "--no-login"]).await.expect(0);
    let lock = std::fs::File::options().read(true).write(true).open(world.folder().join("data/lock")).unwrap();
    lock.try_lock().unwrap();
    let waiting = Terminal::start(world.folder(), (100, 24), &[], &["list"]).await;
    waiting.expect_after(0, "waiting for the everfresh that has the data folder").await;
    drop(lock);
    let (code, drawn) = waiting.ended().await;
    assert!(code == 0 && drawn.contains("Login required"), "{drawn}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_password_in_a_url_is_refused_and_repeated_nowhere() {
    let world = World::with_lifetime(Duration::from_secs(600)).await;
    let daemon = world.daemon().await;
    let ran = daemon.run(&["add", "demo", "https://ann:hunter2@mcp.invalid/mcp", "--no-login"]).await.expect(2);
    assert!(ran.stderr.contains("a password in it") && !ran.stderr.contains("hunter2"), "{ran:?}");
    daemon.run(&["show", "demo"]).await.expect(5);
    daemon.kill().await;
    world.configure("[servers.demo]\nurl = \"https://ann:hunter2@mcp.invalid/mcp\"\n");
    let ran = world.run(&["list"]).await.expect(2);
    assert!(ran.stderr.contains("servers.demo.url has") && !ran.stderr.contains("hunter2"), "{ran:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_last_day_of_a_login_is_one_line_as_the_terminal_can_show_it() {
    let world = World::with_lifetime(Duration::from_secs(600)).await;
    let daemon = world.daemon().await;
    world.log_in(&daemon, "demo").await;
    let last_sign = |text: &str| {
        let line = text.lines().skip_while(|line| !line.contains("Last 24 h (")).nth(1).map(str::trim_end);
        line.and_then(|line| line.chars().last())
    };
    let piped = daemon.run(&["show", "demo"]).await.expect(0).stdout;
    assert!(last_sign(&piped) == Some('=') && piped.is_ascii(), "{piped}");
    let cases: [(&[(&str, &str)], char); 3] = [
        (&[("NO_COLOR", "1"), ("LANG", "C.UTF-8")], '▄'),
        (&[("NO_COLOR", "1"), ("LANG", "C")], '='),
        (&[("TERM", "dumb"), ("LANG", "C.UTF-8")], '='),
    ];
    for (variables, sign) in cases {
        let (code, drawn) = Terminal::start(world.folder(), (40, 24), variables, &["show", "demo"]).await.ended().await;
        assert_eq!((code, last_sign(&drawn)), (0, Some(sign)), "{variables:?}: {drawn}");
        let own = drawn.lines().filter(|line| !line.contains("pid="));
        assert!(own.map(|line| line.trim_end().chars().count()).max() <= Some(40), "{drawn}");
    }
    daemon.kill().await;
}
