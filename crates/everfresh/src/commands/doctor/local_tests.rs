//! The checks of this machine, both ways.

use serde_json::json;

use super::*;

fn folder() -> (tempfile::TempDir, Paths) {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    everfresh_infrastructure::files::create_private_folder(&data).unwrap();
    let paths = Paths { config: folder.path().join("config.toml"), config_is_named: true, data };
    (folder, paths)
}

#[cfg(unix)]
fn set_mode(path: &Path, mode: u32) {
    use std::os::unix::fs::PermissionsExt;

    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
}

#[cfg(unix)]
#[test]
fn what_others_can_read_or_change_is_found() {
    let (_folder, paths) = folder();
    std::fs::write(&paths.config, "").unwrap();
    set_mode(&paths.config, 0o644);
    assert_eq!(configuration_access(&paths.config).unwrap().result, Verdict::Ok);
    set_mode(&paths.config, 0o664);
    assert_eq!(configuration_access(&paths.config).unwrap().result, Verdict::Warning);
    assert_eq!(data_folder(&paths).result, Verdict::Ok);
    everfresh_infrastructure::files::write_private(&paths.local_key(), b"00").unwrap();
    assert_eq!(data_folder(&paths).result, Verdict::Ok);
    set_mode(&paths.local_key(), 0o640);
    let open = data_folder(&paths);
    assert!(open.result == Verdict::Failed && open.found.contains("local-key"), "{open:?}");
}

#[test]
fn a_data_folder_that_is_not_there_yet_is_no_fault() {
    let (folder, paths) = folder();
    let paths = Paths { data: folder.path().join("none"), ..paths };
    assert_eq!(data_folder(&paths).result, Verdict::Ok);
    assert_eq!(disk_space(&paths.data).result, Verdict::Ok);
}

#[test]
fn a_data_folder_that_is_a_file_is_told_to_be_none() {
    let (folder, paths) = folder();
    let file = folder.path().join("file");
    std::fs::write(&file, "").unwrap();
    let found = data_folder(&Paths { data: file, ..paths });
    assert!(found.result == Verdict::Failed && found.found.contains("is no folder"), "{found:?}");
}

#[test]
fn a_data_folder_outside_the_profile_is_told_where_that_decides_who_reads() {
    let (folder, paths) = folder();
    assert_eq!(in_profile(&paths.data, Some(folder.path())).result, Verdict::Ok);
    for profile in [None, Some(Path::new("/somebody/else"))] {
        let outside = in_profile(&paths.data, profile);
        assert!(outside.result == Verdict::Warning && outside.found.contains("outside your profile"), "{outside:?}");
    }
}

#[test]
fn room_is_judged_by_what_a_refresh_needs() {
    for (room, verdict) in [(1 << 20, Verdict::Failed), (32 << 20, Verdict::Warning), (20 << 30, Verdict::Ok)] {
        assert_eq!(judged_room(room, String::new()).result, verdict, "{room}");
    }
}

#[test]
fn a_port_that_another_program_has_is_found() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap();
    let found = port(&[address], true);
    assert!(found.result == Verdict::Failed && found.found.contains("in use by another program"), "{found:?}");
    drop(taken);
    assert_eq!(port(&[address], true).result, Verdict::Ok);
}

#[test]
fn the_daemon_is_compared_and_asked() {
    assert_eq!(version("0.1.0", "0.1.0").result, Verdict::Ok);
    let other = version("0.0.9", "0.1.0");
    assert!(other.result == Verdict::Warning && other.found.contains("0.0.9"), "{other:?}");
    assert_eq!(ready(&json!({ "reasons": [] })).result, Verdict::Ok);
    assert_eq!(ready(&json!({ "reasons": ["config.toml:1: no"] })).result, Verdict::Failed);
    assert_eq!(store(Path::new("/d"), &[]).result, Verdict::Ok);
    assert_eq!(store(Path::new("/d"), &["restored from sled"]).result, Verdict::Warning);
}

#[test]
fn a_key_beside_what_it_seals_is_told_to_be_that() {
    let beside = master_key(Some("the file /d/master.key"), Path::new("/d"));
    assert!(beside.found.contains("beside what it seals"), "{beside:?}");
    let elsewhere = master_key(Some("the keychain of this system"), Path::new("/d"));
    assert!(!elsewhere.found.contains("beside"), "{elsewhere:?}");
    assert_eq!(master_key(None, Path::new("/d")).result, Verdict::Skipped);
}

#[test]
fn a_proxy_is_named_without_its_password() {
    let variable = |name: &str| (name == "https_proxy").then(|| "http://user:canary@proxy.corp:3128".to_owned());
    let found = proxies(variable);
    assert!(found.found.contains("HTTPS_PROXY is proxy.corp:3128") && !found.found.contains("canary"), "{found:?}");
    assert!(proxies(|_| None).found.contains("names none"));
}
