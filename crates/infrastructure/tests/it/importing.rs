//! The files of other programs: folders of mcp-remote as its versions laid them out, and a database
//! that bbolt itself wrote, with what mcpproxy-go keeps in one.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use everfresh_domain::grant::ClientAuthMethod;
use everfresh_domain::{Secret, Timestamp};
use everfresh_infrastructure::import::{
    FoundLogin, Launch, Origin, SourceError, disarm, find_mcp_remote, find_mcpproxy, launches_in,
};
use serde_json::json;

const URL: &str = "https://remote.mcp.server/sse";
/// What mcp-remote names the files of that URL by.
const DIGEST: &str = "2499d8b26827bb8c0b6efe76f75fcbe2";

fn kept(folder: &Path, refresh_token: &str, age: Duration) -> PathBuf {
    fs::create_dir_all(folder).unwrap();
    let tokens = json!({ "access_token": "a", "token_type": "bearer", "expires_in": 3600, "scope": "read write",
        "refresh_token": refresh_token });
    let client = json!({ "client_id": format!("client of {refresh_token}"), "redirect_uris":
        ["http://localhost:3334/oauth/callback"], "token_endpoint_auth_method": "none" });
    let path = folder.join(format!("{DIGEST}_tokens.json"));
    fs::write(&path, tokens.to_string()).unwrap();
    File::options().append(true).open(&path).unwrap().set_modified(SystemTime::now() - age).unwrap();
    fs::write(folder.join(format!("{DIGEST}_client_info.json")), client.to_string()).unwrap();
    fs::write(folder.join(format!("{DIGEST}_code_verifier.txt")), "v").unwrap();
    path
}

fn found(folder: &Path) -> FoundLogin {
    let mut found = find_mcp_remote(folder, &[Launch::of(URL)]).unwrap();
    assert_eq!((found.logins.len(), found.problems.len()), (1, 0), "{found:?}");
    found.logins.remove(0)
}

fn refresh_token(found: &FoundLogin) -> &str {
    found.login.refresh_token.as_ref().map_or("", Secret::expose)
}

#[test]
fn a_login_is_found_in_every_layout_of_mcp_remote() {
    for layout in ["", "mcp-remote-0.0.22", "mcp-remote-0.1.38", "mcp-remote", "mcp-remote-v1"] {
        let folder = tempfile::tempdir().unwrap();
        kept(&folder.path().join(layout), "r", Duration::from_secs(60));
        let found = found(folder.path());
        let login = &found.login;
        assert_eq!((refresh_token(&found), login.url.as_str()), ("r", URL), "{layout}");
        assert_eq!(login.client_id.as_deref(), Some("client of r"));
        assert_eq!(login.token_endpoint_auth_method, Some(ClientAuthMethod::None));
        assert_eq!(login.scopes, ["read", "write"]);
        let (issued, ends) = (login.issued_at.unwrap(), login.expires_at.unwrap());
        assert_eq!(ends.since(issued), Duration::from_secs(3600), "its life began when it was saved");
    }
}

#[test]
fn of_several_versions_the_newest_login_counts_and_its_copies_go_with_it() {
    let folder = tempfile::tempdir().unwrap();
    let old = kept(&folder.path().join("mcp-remote-0.1.9"), "old", Duration::from_secs(3000));
    let copied = kept(&folder.path().join("mcp-remote-0.1.38"), "new", Duration::from_secs(2000));
    let new = kept(&folder.path().join("mcp-remote-v1"), "new", Duration::from_secs(10));
    let found = found(folder.path());
    assert_eq!(refresh_token(&found), "new");
    let Origin::Files(files) = &found.origin else { panic!("{found:?}") };
    assert!(files.contains(&copied) && files.contains(&new) && files.len() == 2);
    assert!(found.notes.iter().any(|note| note.contains("0.1.9") && note.contains("older")), "{:?}", found.notes);
    assert_eq!(disarm(&found.origin, &Secret::new("new")).unwrap().told.len(), 2);
    assert!(old.exists() && !copied.exists() && !new.exists());
    assert!(new.with_added_extension("moved-to-everfresh").exists());
    kept(&folder.path().join("mcp-remote-v1"), "newer", Duration::ZERO);
    disarm(&Origin::Files(vec![new.clone()]), &Secret::new("newer")).unwrap();
    assert!(new.with_added_extension("moved-to-everfresh.2").exists(), "nothing is written over");
}

/// mcp-remote has refreshed since its file was read: what lies there is the login, and not its copy.
#[test]
fn a_copy_that_became_the_login_again_is_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    let path = kept(folder.path(), "first", Duration::ZERO);
    let second = kept(&folder.path().join("mcp-remote-v1"), "first", Duration::ZERO);
    let found = found(folder.path());
    kept(folder.path(), "second", Duration::ZERO);
    let told = disarm(&found.origin, &Secret::new("first")).unwrap_err();
    assert!(told.to_string().contains("another login"), "{told}");
    assert!(path.exists() && !second.exists(), "and only it");
}

/// Whoever can write to the folder can put a pipe there, which nobody ever writes to.
#[cfg(unix)]
#[test]
fn pipes_and_folders_are_not_waited_for() {
    let folder = tempfile::tempdir().unwrap();
    let pipe = |name: &str| {
        let made = std::process::Command::new("mkfifo").arg(folder.path().join(name)).status().unwrap();
        assert!(made.success());
    };
    pipe(&format!("{DIGEST}_tokens.json"));
    fs::create_dir(folder.path().join("00000000000000000000000000000000_tokens.json")).unwrap();
    let found = find_mcp_remote(folder.path(), &[Launch::of(URL)]).unwrap();
    assert!(found.logins.is_empty() && found.problems.len() == 2, "{found:?}");
    assert!(found.problems.iter().all(|problem| problem.contains("not a file")), "{:?}", found.problems);
    pipe("config.db");
    let told = find_mcpproxy(folder.path(), true).unwrap_err().to_string();
    assert!(told.contains("not a file"), "{told}");
}

#[test]
fn what_newer_versions_note_counts_before_what_follows_from_the_file() {
    let folder = tempfile::tempdir().unwrap();
    let path = kept(folder.path(), "r", Duration::ZERO);
    let tokens = json!({ "access_token": "a", "token_type": "Bearer", "expires_in": "3600",
        "expires_at": 1_800_000_000_000_i64, "requested_scope": "read", "issuer": "https://as.example" });
    fs::write(path, tokens.to_string()).unwrap();
    let login = found(folder.path()).login;
    assert_eq!(login.expires_at, Some(Timestamp::from_millis(1_800_000_000_000)));
    assert_eq!(login.issued_at, Some(Timestamp::from_millis(1_799_996_400_000)));
    assert_eq!((login.issuer.as_deref(), login.refresh_token), (Some("https://as.example"), None));
}

#[test]
fn arguments_of_clients_lead_to_files_and_to_configured_clients() {
    let folder = tempfile::tempdir().unwrap();
    let secret = folder.path().join("client.json");
    fs::write(&secret, r#"{ "client_id": "by hand", "client_secret": "s", "client_secret_expires_at": 0 }"#).unwrap();
    let arguments = json!({ "args": ["mcp-remote", URL, "--static-oauth-client-info", format!("@{}", secret.display()),
        "--disable-resource-parameter"] });
    kept(folder.path(), "r", Duration::ZERO);
    let found = find_mcp_remote(folder.path(), &launches_in(&arguments.to_string())).unwrap();
    let login = &found.logins[0].login;
    assert_eq!((login.client_id.as_deref(), login.resource.as_deref()), (Some("by hand"), Some("none")));
    assert_eq!((login.client_secret.as_ref().map(Secret::expose), login.client_secret_expires_at), (Some("s"), None));
}

#[test]
fn what_cannot_be_told_or_read_is_said() {
    let folder = tempfile::tempdir().unwrap();
    kept(folder.path(), "r", Duration::ZERO);
    let found = find_mcp_remote(folder.path(), &[Launch::of("https://other.example")]).unwrap();
    assert!(found.logins.is_empty() && found.problems[0].contains("--url URL"), "{found:?}");
    fs::write(folder.path().join(format!("{DIGEST}_tokens.json")), "{ \"refresh_token\": \"hunter2").unwrap();
    let found = find_mcp_remote(folder.path(), &[Launch::of(URL)]).unwrap();
    assert!(found.problems[0].contains("not JSON") && !found.problems[0].contains("hunter2"), "{found:?}");
    let missing = find_mcp_remote(&folder.path().join("none"), &[]).unwrap_err();
    assert!(matches!(missing, SourceError::Missing(_)) && missing.to_string().contains("everfresh import"));
}

#[cfg(unix)]
#[test]
fn files_that_others_can_read_are_warned_of() {
    use std::os::unix::fs::PermissionsExt;

    let folder = tempfile::tempdir().unwrap();
    let path = kept(folder.path(), "r", Duration::ZERO);
    for (mode, warned) in [(0o644, true), (0o600, false)] {
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        assert_eq!(found(folder.path()).notes.iter().any(|note| note.contains("other users")), warned, "{mode:o}");
    }
}

/// A folder of mcpproxy, with its database.
fn mcpproxy() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let database = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/mcpproxy.bolt");
    fs::copy(database, folder.path().join("config.db")).unwrap();
    folder
}

#[test]
fn the_logins_of_mcpproxy_are_found_with_their_clients_and_servers() {
    let folder = mcpproxy();
    let found = find_mcpproxy(folder.path(), cfg!(not(unix))).unwrap();
    assert_eq!(found.logins.len(), 2, "{found:?}");
    let linear = &found.logins[0].login;
    assert_eq!((linear.name.as_deref(), linear.url.as_str()), (Some("Linear"), "https://mcp.linear.app/mcp"));
    assert_eq!(linear.client_id.as_deref(), Some("linear-client"));
    assert_eq!(linear.client_secret.as_ref().map(Secret::expose), Some("linear-secret"));
    assert_eq!(linear.redirect_uris, ["http://127.0.0.1:41337/oauth/callback"]);
    assert_eq!(linear.expires_at.unwrap().since(linear.issued_at.unwrap()), Duration::from_secs(3600));
    let by_hand = &found.logins[1];
    assert_eq!(by_hand.login.client_id.as_deref(), Some("by-hand"));
    assert_eq!(by_hand.login.resource.as_deref(), Some("https://mcp.example.com/"));
    assert_eq!((by_hand.login.expires_at, &by_hand.login.client_secret), (None, &None), "the year 1 is no time");
    assert!(by_hand.notes[0].contains("keyring"), "{:?}", by_hand.notes);
    assert!(found.problems.len() == 1 && found.problems[0].contains("gone"), "{:?}", found.problems);
}

#[test]
fn a_server_that_stands_only_in_the_configuration_is_found_there() {
    let folder = mcpproxy();
    let servers = json!({ "mcpServers": [{ "name": "gone", "url": "https://gone.example/mcp" }] });
    fs::write(folder.path().join("mcp_config.json"), servers.to_string()).unwrap();
    let found = find_mcpproxy(&folder.path().join("config.db"), true).unwrap();
    assert_eq!((found.logins.len(), found.problems.len()), (3, 0), "{:?}", found.problems);
}

#[cfg(unix)]
#[test]
fn a_database_in_use_is_left_alone_and_one_that_is_read_is_held() {
    let folder = mcpproxy();
    let path = folder.path().join("config.db");
    let owner = File::open(&path).unwrap();
    owner.lock().unwrap();
    let refused = find_mcpproxy(folder.path(), false).unwrap_err();
    assert!(matches!(refused, SourceError::InUse(_)) && refused.to_string().contains("stop it"), "{refused}");
    drop(owner);
    let found = find_mcpproxy(folder.path(), false).unwrap();
    assert!(File::open(&path).unwrap().try_lock().is_err(), "mcpproxy cannot start meanwhile");
    drop(found);
    File::open(&path).unwrap().try_lock().unwrap();
}

#[test]
fn a_disarmed_database_is_whole_and_lacks_one_refresh_token() {
    let folder = mcpproxy();
    let path = folder.path().join("config.db");
    let before = fs::read(&path).unwrap();
    let found = find_mcpproxy(folder.path(), true).unwrap();
    let moved = found.logins[0].login.refresh_token.clone().unwrap();
    let other = disarm(&found.logins[0].origin, &Secret::new("another")).unwrap_err();
    assert!(other.to_string().contains("another login") && fs::read(&path).unwrap() == before, "{other}");
    let done = disarm(&found.logins[0].origin, &moved).unwrap();
    assert!(done.told[0].contains("before-everfresh"), "{:?}", done.told);
    if cfg!(unix) {
        assert!(File::open(&path).unwrap().try_lock().is_err(), "the new database is held as the one before was");
    }
    drop(done);
    File::open(&path).unwrap().try_lock().unwrap();
    let after = find_mcpproxy(folder.path(), true).unwrap();
    assert_eq!((&after.logins[0].login.refresh_token, after.logins.len()), (&None, 2));
    assert_eq!(refresh_token(&after.logins[1]), "static-refresh", "the others are as they were");
    assert_eq!(fs::read(folder.path().join("config.db.before-everfresh")).unwrap(), before);
    let now = fs::read(&path).unwrap();
    let changed = before.iter().zip(&now).filter(|(one, two)| one != two).count();
    assert!(now.len() == before.len() && changed < 40, "{changed} bytes");
    assert!(disarm(&found.logins[0].origin, &moved).is_err(), "there is nothing more to blank");
    assert_eq!(fs::read(&path).unwrap(), now);
    assert!(!folder.path().join("config.db.everfresh-tmp").exists());
}

#[test]
fn what_is_no_database_is_said() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("config.db"), "not bbolt").unwrap();
    let told = find_mcpproxy(folder.path(), true).unwrap_err().to_string();
    assert!(told.contains("not a bbolt database"), "{told}");
    assert!(matches!(find_mcpproxy(&folder.path().join("none"), true), Err(SourceError::Missing(_))));
}
