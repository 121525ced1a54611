//! Files are replaced whole, with a copy, or not at all.

use super::*;

fn at(second: i64) -> Timestamp {
    format!("2026-11-23T14:05:{second:02}Z").parse().unwrap()
}

fn names(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let mut names: Vec<String> = entries.collect();
    names.sort();
    names
}

#[test]
fn a_file_is_replaced_and_kept_beside() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("mcp.json");
    fs::write(&path, "old").unwrap();
    let backup = Held::open(&path).unwrap().replace("new", false, at(1)).unwrap().unwrap();
    assert_eq!(fs::read_to_string(&path).unwrap(), "new");
    assert_eq!(fs::read_to_string(&backup).unwrap(), "old");
    assert_eq!(names(folder.path()), ["mcp.json", "mcp.json.everfresh-backup-20261123T140501Z"]);
}

#[test]
fn a_new_file_is_made_with_its_folder_and_without_a_copy() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a/b/mcp.json");
    assert_eq!(Held::open(&path).unwrap().replace("new", false, at(1)).unwrap(), None);
    assert_eq!(names(path.parent().unwrap()), ["mcp.json"]);
}

#[test]
fn only_the_last_copies_are_kept() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("mcp.json");
    fs::write(&path, "0").unwrap();
    for second in 1..9 {
        Held::open(&path).unwrap().replace(&second.to_string(), false, at(second)).unwrap();
    }
    // Two within one second are two.
    Held::open(&path).unwrap().replace("9", false, at(8)).unwrap();
    let kept = names(folder.path());
    assert_eq!(kept.len(), 1 + BACKUPS_MAX, "{kept:?}");
    let last = fs::read_to_string(folder.path().join(kept.last().unwrap())).unwrap();
    assert_eq!(last, "8", "{kept:?}");
}

#[test]
fn what_somebody_else_wrote_meanwhile_is_not_overwritten() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("mcp.json");
    fs::write(&path, "old").unwrap();
    let (held, missing) = (Held::open(&path).unwrap(), Held::open(&folder.path().join("new.json")).unwrap());
    fs::write(&path, "theirs").unwrap();
    fs::write(folder.path().join("new.json"), "theirs").unwrap();
    for held in [held, missing] {
        let failure = held.replace("ours", false, at(1)).unwrap_err();
        assert!(failure.text.contains("at the same time"), "{}", failure.text);
        assert_eq!(fs::read_to_string(held.path()).unwrap(), "theirs");
    }
    assert_eq!(names(folder.path()), ["mcp.json", "new.json"], "nothing is left behind");
}

#[test]
fn a_file_or_folder_that_takes_no_writing_stays_as_it_is() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("mcp.json");
    fs::write(&path, "old").unwrap();
    let mut permissions = fs::metadata(&path).unwrap().permissions();
    permissions.set_readonly(true);
    fs::set_permissions(&path, permissions).unwrap();
    let failure = Held::open(&path).unwrap().replace("new", true, at(1)).unwrap_err();
    assert!(failure.text.contains("read-only") && failure.text.contains("nothing was changed"), "{}", failure.text);
    assert_eq!(names(folder.path()), ["mcp.json"]);
    // What should be a folder is a file.
    let below = Held { path: path.join("mcp.json"), seen: None };
    assert!(below.replace("new", false, at(1)).unwrap_err().text.contains("cannot be written"));
    assert_eq!(fs::read_to_string(&path).unwrap(), "old");
}

#[test]
fn text_that_is_no_text_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("mcp.json");
    fs::write(&path, [b'{', 0xff, 0xfe]).unwrap();
    assert!(Held::open(&path).unwrap().text().unwrap_err().text.contains("byte 1"));
}

#[test]
fn a_repository_is_seen_from_below() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a/b/mcp.json");
    assert_eq!(Held::open(&path).unwrap().repository(), None);
    fs::create_dir_all(folder.path().join("a/.git")).unwrap();
    let found = Held::open(&path).unwrap().repository().unwrap();
    assert_eq!(found, folder.path().join("a").canonicalize().unwrap());
}

#[cfg(unix)]
mod unix {
    use std::os::unix::fs::{PermissionsExt, symlink};

    use super::*;

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().permissions().mode() & 0o777
    }

    #[test]
    fn permissions_stay_but_where_a_key_goes_in() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("mcp.json");
        fs::write(&path, "0").unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
        let backup = Held::open(&path).unwrap().replace("1", false, at(1)).unwrap().unwrap();
        assert_eq!((mode(&path), mode(&backup)), (0o644, 0o600));
        assert!(Held::open(&path).unwrap().is_open_to_others());
        Held::open(&path).unwrap().replace("2", true, at(2)).unwrap();
        assert_eq!(mode(&path), 0o600);
        assert!(!Held::open(&path).unwrap().is_open_to_others());
    }

    #[test]
    fn links_are_followed_and_stay() {
        let folder = tempfile::tempdir().unwrap();
        let (real, link, far) =
            (folder.path().join("dots/real.json"), folder.path().join("mcp.json"), folder.path().join("far.json"));
        fs::create_dir_all(folder.path().join("dots/.git")).unwrap();
        fs::write(&real, "old").unwrap();
        symlink("dots/real.json", &link).unwrap();
        symlink(&link, &far).unwrap();
        let held = Held::open(&far).unwrap();
        assert_eq!(held.text().unwrap(), "old");
        assert!(held.repository().is_some(), "what is linked to is in a repository");
        held.replace("new", false, at(1)).unwrap();
        assert_eq!(fs::read_to_string(&real).unwrap(), "new");
        assert!(fs::symlink_metadata(&link).unwrap().is_symlink() && fs::symlink_metadata(&far).unwrap().is_symlink());
        // A link to nothing yet.
        fs::remove_file(&real).unwrap();
        Held::open(&link).unwrap().replace("again", false, at(2)).unwrap();
        assert_eq!(fs::read_to_string(&real).unwrap(), "again");
    }
}
