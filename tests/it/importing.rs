//! Moving in, on the real binary: found, stored, refreshed, disarmed; undone, repeated, refused; and
//! through a dead provider and a dead daemon.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use everfresh_domain::Timestamp;
use everfresh_e2e::{Daemon, Ran, World};
use everfresh_testkit::provider::{Behaviour, Fault, Reply};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::io::AsyncWriteExt;

/// With quick spacing and backoff.
pub(crate) const QUICK: &str =
    "min_spacing = \"300ms\"\nbackoff_base = \"300ms\"\nbackoff_cap = \"1s\"\nhourly_budget = 10000";

/// RFC 7636, appendix B.
const VERIFIER: &str = "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk";
const CHALLENGE: &str = "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM";

fn body(reply: &Reply) -> Value {
    serde_json::from_str(&reply.body).unwrap()
}

/// A login that another program makes: its client, and the answer of the token endpoint.
fn log_in_elsewhere(world: &World) -> (Value, Value) {
    let redirect_uri = "http://localhost:5926/oauth/callback";
    let form = |pairs: &[(&str, &str)]| -> BTreeMap<String, String> {
        pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    };
    let now = Timestamp::from_millis(
        i64::try_from(std::time::SystemTime::UNIX_EPOCH.elapsed().unwrap().as_millis()).unwrap(),
    );
    world.provider.with(|model| {
        let wish = json!({ "redirect_uris": [redirect_uri], "token_endpoint_auth_method": "none" });
        let client = body(&model.register(now, &wish));
        let id = client["client_id"].as_str().unwrap();
        let reply = model.authorize(&form(&[
            ("response_type", "code"),
            ("client_id", id),
            ("redirect_uri", redirect_uri),
            ("state", "a state of its own"),
            ("code_challenge", CHALLENGE),
            ("code_challenge_method", "S256"),
            ("resource", &world.upstream.url()),
        ]));
        let location = &reply.headers.iter().find(|(name, _)| name == "location").unwrap().1;
        let code = location.split(['?', '&']).find_map(|pair| pair.strip_prefix("code=")).unwrap();
        let tokens = model.token(
            now,
            &form(&[
                ("grant_type", "authorization_code"),
                ("code", code),
                ("client_id", id),
                ("redirect_uri", redirect_uri),
                ("code_verifier", VERIFIER),
                ("resource", &world.upstream.url()),
            ]),
            None,
        );
        let tokens = body(&tokens);
        assert!(tokens["refresh_token"].is_string(), "{tokens}");
        (client, tokens)
    })
}

/// The user's home folder, and what mcp-remote keeps in it.
pub(crate) struct Home {
    folder: TempDir,
    tokens: PathBuf,
}

impl Home {
    pub(crate) fn with_mcp_remote(world: &World) -> Self {
        let (client, tokens) = log_in_elsewhere(world);
        let folder = tempfile::tempdir().unwrap();
        let kept = folder.path().join(".mcp-auth/mcp-remote-v1");
        std::fs::create_dir_all(&kept).unwrap();
        let arguments = json!({ "mcpServers": { "x": { "args": ["mcp-remote", world.upstream.url()] } } });
        std::fs::write(folder.path().join(".claude.json"), arguments.to_string()).unwrap();
        let digest = md5_of(&world.upstream.url());
        let path = kept.join(format!("{digest}_tokens.json"));
        std::fs::write(&path, tokens.to_string()).unwrap();
        std::fs::write(kept.join(format!("{digest}_client_info.json")), client.to_string()).unwrap();
        Self { folder, tokens: path }
    }

    /// The user's home folder.
    pub(crate) fn path(&self) -> &Path {
        self.folder.path()
    }

    /// The copy is where it was, or is set aside.
    pub(crate) fn is_armed(&self) -> bool {
        let aside = self.tokens.with_added_extension("moved-to-everfresh").exists();
        assert_ne!(self.tokens.exists(), aside, "never both, never neither");
        !aside
    }

    /// Somebody puts the copy back.
    fn rearm(&self) {
        std::fs::rename(self.tokens.with_added_extension("moved-to-everfresh"), &self.tokens).unwrap();
    }

    async fn import(&self, world: &World, arguments: &[&str]) -> Ran {
        run(world, self.folder.path(), &[&["import", "mcp-remote"], arguments].concat(), "").await
    }
}

fn md5_of(text: &str) -> String {
    use md5::Digest;

    md5::Md5::digest(text).iter().map(|byte| format!("{byte:02x}")).collect()
}

async fn run(world: &World, home: &Path, arguments: &[&str], stdin: &str) -> Ran {
    let mut command = everfresh_e2e::daemon::command(world.folder());
    command.env("HOME", home).env("XDG_CONFIG_HOME", home.join(".config"));
    command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    child.stdin.take().unwrap().write_all(stdin.as_bytes()).await.unwrap();
    child.wait_with_output().await.unwrap().into()
}

async fn world() -> World {
    World::new(Behaviour::default(), QUICK).await
}

async fn until(daemon: &Daemon, name: &str, reason: &str) {
    let is_so = async || (daemon.server(name).await["health"]["reason"] == reason).then_some(());
    everfresh_e2e::until(reason, Duration::from_secs(20), is_so).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_login_of_mcp_remote_moves_in_and_its_copy_is_set_aside() {
    let world = world().await;
    let home = Home::with_mcp_remote(&world);
    let daemon = world.daemon().await;
    let ran = home.import(&world, &["--name", "moved"]).await.expect(0);
    assert!(ran.stdout.contains("moved: imported and refreshed") && ran.stdout.contains("is dead"), "{ran:?}");
    assert!(!home.is_armed() && world.counters().refreshes == 1);
    daemon.expect_call("moved").await;
    home.rearm();
    let again = home.import(&world, &["--name", "twice", "-o", "json"]).await.expect(0).json();
    assert_eq!(again["logins"][0]["outcome"], "already_here", "{again}");
    assert!(!home.is_armed(), "what is here already is set aside as well");
    daemon.run(&["refresh", "moved"]).await.expect(0);
    daemon.expect_call("moved").await;
    assert_eq!((world.counters().reuses, world.counters().refreshes), (0, 2));
    let late = run(&world, home.folder.path(), &["import", "--undo", "moved"], "").await.expect(8);
    assert!(late.stderr.contains("cannot be undone"), "{late:?}");
    assert_eq!(daemon.run(&["token", "moved"]).await.code, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn where_no_daemon_runs_the_store_takes_it() {
    let world = world().await;
    let home = Home::with_mcp_remote(&world);
    home.import(&world, &["--name", "moved"]).await.expect(0);
    assert_eq!(world.counters().refreshes, 1);
    world.daemon().await.expect_call("moved").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dry_run_shows_what_there_is_and_leaves_no_trace() {
    let world = world().await;
    let home = Home::with_mcp_remote(&world);
    let asked = world.counters();
    let ran = home.import(&world, &["--dry-run"]).await.expect(0);
    assert!(ran.stdout.contains(&world.upstream.url()) && ran.stderr.contains("Nothing was changed"), "{ran:?}");
    let listed = home.import(&world, &["--dry-run", "-o", "json"]).await.expect(0).json();
    assert_eq!(listed["logins"][0]["refresh_token"].as_str().unwrap().len(), 8, "a fingerprint: {listed}");
    assert!(!world.folder().join("data").exists() && home.is_armed());
    assert_eq!(world.counters(), asked);
    let nothing = home.import(&world, &["--only", "other"]).await.expect(1);
    assert!(nothing.stderr.contains("no login of that name"), "{nothing:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_import_is_undone_and_the_copy_is_the_login_again() {
    let world = world().await;
    let home = Home::with_mcp_remote(&world);
    let daemon = world.daemon().await;
    let ran = home.import(&world, &["--name", "moved", "--no-refresh"]).await.expect(0);
    assert!(ran.stdout.contains("--undo moved") && home.is_armed(), "{ran:?}");
    daemon.expect_call("moved").await;
    run(&world, home.folder.path(), &["import", "--undo", "moved"], "").await.expect(0);
    assert_eq!(daemon.run(&["show", "moved"]).await.code, 5, "its server went with it");
    assert_eq!((world.counters().refreshes, home.is_armed()), (0, true));
    home.import(&world, &["--name", "moved"]).await.expect(0);
    assert_eq!(world.counters().refreshes, 1);
    let never = run(&world, home.folder.path(), &["import", "--undo", "nobody"], "").await;
    assert_eq!(never.code, 5);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_spent_login_is_told_from_a_dead_provider() {
    let world = world().await;
    let home = Home::with_mcp_remote(&world);
    let daemon = world.daemon().await;
    world.provider.with(|model| model.switches.fault = Some(Fault::CloseBefore));
    let down = home.import(&world, &["--name", "moved"]).await.expect(4);
    assert!(down.stdout.contains("not refreshed yet") && home.is_armed(), "{down:?}");
    world.provider.with(|model| model.switches.fault = None);
    until(&daemon, "moved", "ok").await;
    home.import(&world, &["--name", "moved"]).await.expect(0);
    assert!(!home.is_armed(), "the same import again sets it aside");

    let other = Home::with_mcp_remote(&world);
    world.provider.with(everfresh_testkit::provider::Model::revoke_all);
    let spent = other.import(&world, &["--name", "spent"]).await.expect(3);
    assert!(spent.stdout.contains("spent or revoked") && spent.stdout.contains("everfresh login spent"), "{spent:?}");
    assert!(other.is_armed(), "nothing of the other program's is touched");
    world.provider.with(|model| model.switches.metadata_down = true);
    let third = Home::with_mcp_remote(&world);
    let unknown = third.import(&world, &["--name", "third"]).await;
    assert!(unknown.code != 0 && unknown.stdout.contains("not imported"), "{unknown:?}");
    assert_eq!(daemon.run(&["show", "third"]).await.code, 5, "nothing is left of it");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_daemon_that_dies_during_the_first_refresh_goes_on_with_it() {
    let world = world().await;
    let home = Home::with_mcp_remote(&world);
    let daemon = world.daemon().await;
    world.provider.with(|model| model.switches.fault = Some(Fault::Hang));
    let importing = tokio::spawn({
        let (folder, home) = (world.folder().to_owned(), home.folder.path().to_owned());
        async move {
            let mut command = everfresh_e2e::daemon::command(&folder);
            command.env("HOME", &home).args(["import", "mcp-remote", "--name", "moved"]).output().await.unwrap()
        }
    });
    let asked = async || (world.counters().token_requests > 1).then_some(());
    everfresh_e2e::until("the refresh is sent", Duration::from_secs(20), asked).await;
    daemon.kill().await;
    let ran = Ran::from(importing.await.unwrap());
    assert!(ran.code != 0 && home.is_armed(), "{ran:?}");
    world.provider.with(|model| model.switches.fault = None);
    let daemon = world.daemon().await;
    // Whether the daemon has refreshed it by itself already, or not yet: the same import completes it.
    home.import(&world, &[]).await.expect(0);
    daemon.expect_call("moved").await;
    assert!(!home.is_armed());
    assert_eq!((world.counters().reuses, world.counters().refreshes), (0, 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn documents_come_from_stdin_and_one_bad_login_stops_no_other() {
    let world = world().await;
    let home = tempfile::tempdir().unwrap();
    let (client, tokens) = log_in_elsewhere(&world);
    let document = json!([
        { "name": "bad", "url": world.upstream.url(), "refresh_token": "r" },
        { "name": "good", "url": world.upstream.url(), "issuer": world.provider.url(), "client_id": client["client_id"],
          "refresh_token": tokens["refresh_token"] },
    ]);
    let ran = run(&world, home.path(), &["import", "json", "-", "-o", "json"], &document.to_string()).await;
    let told = ran.json();
    assert_eq!((ran.code, told["logins"][0]["outcome"].as_str()), (2, Some("error")), "{told}");
    assert!(told["logins"][0]["messages"][0].as_str().unwrap().contains("client_id is missing"), "{told}");
    assert_eq!(told["logins"][1]["outcome"], "refreshed", "{told}");
    world.daemon().await.expect_call("good").await;
    let typo = run(&world, home.path(), &["import", "json", "-"], "{ \"url\": \"u\", \"refreshToken\": \"r\" }").await;
    assert!(typo.code == 2 && typo.stderr.contains("unknown field `refreshToken`"), "{typo:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_of_mcpproxy_is_read_unless_mcpproxy_runs() {
    let world = world().await;
    let home = tempfile::tempdir().unwrap();
    let kept = home.path().join(".mcpproxy");
    std::fs::create_dir(&kept).unwrap();
    let database = concat!(env!("CARGO_MANIFEST_DIR"), "/../crates/infrastructure/tests/data/mcpproxy.bolt");
    std::fs::copy(database, kept.join("config.db")).unwrap();
    let listed =
        run(&world, home.path(), &["import", "mcpproxy", "--dry-run", "-o", "json"], "").await.expect(0).json();
    let names: Vec<&str> =
        listed["logins"].as_array().unwrap().iter().map(|one| one["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["linear", "static"]);
    let owner = std::fs::File::open(kept.join("config.db")).unwrap();
    owner.lock().unwrap();
    let refused = run(&world, home.path(), &["import", "mcpproxy"], "").await.expect(8);
    assert!(refused.stderr.contains("its program runs") && !world.folder().join("data").exists(), "{refused:?}");
}

/// The data folder of another machine, with the same provider.
fn other_machine(world: &World) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    std::fs::copy(world.folder().join("config.toml"), folder.path().join("config.toml")).unwrap();
    folder
}

async fn with_passphrase(folder: &Path, arguments: &[&str], passphrase: &str) -> Ran {
    let mut command = everfresh_e2e::daemon::command(folder);
    command.env("EVERFRESH_BACKUP_PASSPHRASE", passphrase).args(arguments).current_dir(folder);
    command.output().await.unwrap().into()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backup_moves_all_logins_to_another_machine() {
    const PASSPHRASE: &str = "correct horse battery";
    let world = world().await;
    let daemon = world.daemon().await;
    world.log_in(&daemon, "demo").await;
    let file = world.folder().join("backup");
    let (file, elsewhere) = (file.to_str().unwrap(), other_machine(&world));
    let running = with_passphrase(world.folder(), &["export", file], PASSPHRASE).await.expect(7);
    assert!(running.stderr.contains("stop it first"), "{running:?}");
    assert_eq!(daemon.stop().await, 0);
    with_passphrase(world.folder(), &["export", file], "short").await.expect(2);
    let exported = with_passphrase(world.folder(), &["export", file], PASSPHRASE).await.expect(0);
    assert!(exported.stdout.contains("1 servers, 1 logins"), "{exported:?}");
    let again = with_passphrase(world.folder(), &["export", file], PASSPHRASE).await.expect(1);
    assert!(again.stderr.contains("there already"), "{again:?}");
    with_passphrase(world.folder(), &["export", "by its bare name"], PASSPHRASE).await.expect(0);
    let wrong = with_passphrase(elsewhere.path(), &["restore", file], "another passphrase").await.expect(1);
    assert!(wrong.stderr.contains("passphrase is wrong") && !elsewhere.path().join("data").exists(), "{wrong:?}");

    let restored = with_passphrase(elsewhere.path(), &["restore", file], PASSPHRASE).await.expect(0);
    assert!(restored.stdout.contains("demo: restored and refreshed"), "{restored:?}");
    let daemon = Daemon::start(elsewhere.path(), 0).await;
    daemon.expect_call("demo").await;
    daemon.stop().await;
    // Somebody logged in there meanwhile: that login is not given up for one of more generations.
    let busy = other_machine(&world);
    let daemon = Daemon::start(busy.path(), 0).await;
    world.log_in(&daemon, "demo").await;
    daemon.stop().await;
    let other = with_passphrase(busy.path(), &["restore", file], PASSPHRASE).await.expect(8);
    assert!(other.stdout.contains("another login lives there"), "{other:?}");
    Daemon::start(busy.path(), 0).await.expect_call("demo").await;
    let newer = with_passphrase(elsewhere.path(), &["restore", file], PASSPHRASE).await.expect(0);
    assert!(newer.stdout.contains("left as it is"), "{newer:?}");
    assert_eq!((world.counters().refreshes, world.counters().reuses), (1, 0));

    // The token in the backup is spent by now, and that is found out and said at once.
    let third = other_machine(&world);
    let spent = with_passphrase(third.path(), &["restore", file], PASSPHRASE).await.expect(3);
    assert!(spent.stdout.contains("after the backup was taken"), "{spent:?}");
}
