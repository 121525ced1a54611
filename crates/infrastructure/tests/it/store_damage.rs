//! Damage to any one file of the store: right data or a reported problem, never stale data in
//! silence, never a panic, never a hang.

use std::fs;
use std::path::Path;

use everfresh_application::ports::{LoadedGrant, TokenStore};
use everfresh_domain::Generation;
use everfresh_testkit::contract::store::record;

use crate::store::{files, open};

/// The state that every damage is done to: one login, thrice refreshed.
async fn filled(folder: &Path) {
    let store = open(folder).unwrap();
    store.replace(None, &record("linear", 1)).await.unwrap();
    store.replace(Some(Generation(1)), &record("linear", 2)).await.unwrap();
    drop(store);
    let store = open(folder).unwrap();
    store.replace(Some(Generation(2)), &record("linear", 3)).await.unwrap();
}

fn copy_of(folder: &Path, to: &Path) {
    for file in files(folder) {
        let place = to.join(file.strip_prefix(folder).unwrap());
        fs::create_dir_all(place.parent().unwrap()).unwrap();
        fs::copy(&file, &place).unwrap();
    }
}

/// What must hold of a damaged store: the newest data, or words about what is not.
async fn check(folder: &Path, damage: &str) {
    let store = match open(folder) {
        Ok(store) => store,
        Err(error) => panic!("{damage}: one damaged file must not close the store: {error}"),
    };
    let loaded = store.load().await.unwrap();
    match loaded.as_slice() {
        [LoadedGrant::Record(found)] => assert_eq!(**found, record("linear", 3), "{damage}: stale"),
        other => panic!("{damage}: {other:?}"),
    }
    store.replace(Some(Generation(3)), &record("linear", 4)).await.unwrap();
    drop(store);
    let store = open(folder).unwrap();
    assert_eq!(store.read(&record("linear", 4).id).await.unwrap(), Some(record("linear", 4)), "{damage}: afterwards");
}

#[tokio::test]
async fn no_damage_to_a_single_file_loses_or_ages_a_login() {
    let whole = tempfile::tempdir().unwrap();
    filled(whole.path()).await;
    for file in files(whole.path()) {
        let name = file.strip_prefix(whole.path()).unwrap();
        let length = fs::metadata(&file).unwrap().len();
        let mut damages = vec![("removed".to_owned(), None), ("emptied".to_owned(), Some(Vec::new()))];
        let bytes = fs::read(&file).unwrap();
        for part in [4, 2] {
            let cut = bytes[..bytes.len() * (part - 1) / part].to_vec();
            damages.push((format!("cut to {} of {length} bytes", cut.len()), Some(cut)));
        }
        let used = bytes.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
        for step in 0..36 {
            let mut flipped = bytes.clone();
            // Every byte of the head, where each means something, then all over the file.
            let at = if step < 24 { step } else { used * (step - 24) / 12 };
            let Some(byte) = flipped.get_mut(at) else { continue };
            *byte ^= 1 << (step % 8);
            damages.push((format!("bit {} of byte {at} flipped", step % 8), Some(flipped)));
        }
        damages.push(("replaced by something foreign".to_owned(), Some(b"<html>not ours</html>".to_vec())));
        for (damage, content) in damages {
            let folder = tempfile::tempdir().unwrap();
            copy_of(whole.path(), folder.path());
            let place = folder.path().join(name);
            match content {
                None => fs::remove_file(place).unwrap(),
                Some(content) => fs::write(place, content).unwrap(),
            }
            check(folder.path(), &format!("{} {damage}", name.display())).await;
        }
    }
}

#[tokio::test]
async fn a_record_damaged_in_both_copies_is_reported_and_not_overwritten() {
    let folder = tempfile::tempdir().unwrap();
    filled(folder.path()).await;
    let store = open(folder.path()).unwrap();
    store.replace(None, &record("whole", 1)).await.unwrap();
    drop(store);
    let path = folder.path().join("records/grant.linear.sealed");
    fs::write(&path, b"EVFR damaged").unwrap();
    fs::remove_dir_all(folder.path().join("sled")).unwrap();
    for _ in 0..2 {
        let store = open(folder.path()).unwrap();
        let loaded = store.load().await.unwrap();
        let unreadable = loaded
            .iter()
            .any(|grant| matches!(grant, LoadedGrant::Unreadable { grant, .. } if *grant == record("linear", 1).id));
        assert!(unreadable && loaded.len() == 2, "{loaded:?}");
        assert!(store.read(&record("linear", 1).id).await.is_err());
        assert!(store.warnings().iter().any(|warning| warning.contains("grant.linear")), "{:?}", store.warnings());
        assert_eq!(fs::read(&path).unwrap(), b"EVFR damaged");
    }
    let store = open(folder.path()).unwrap();
    store.replace(None, &record("linear", 1)).await.unwrap();
    assert_eq!(store.read(&record("linear", 1).id).await.unwrap(), Some(record("linear", 1)));
    let kept = files(&folder.path().join("aside"));
    assert!(kept.iter().any(|file| fs::read(file).unwrap() == b"EVFR damaged"), "{kept:?}");
}

#[tokio::test]
async fn a_sled_of_older_days_never_wins_over_the_files() {
    let old = tempfile::tempdir().unwrap();
    filled(old.path()).await;
    let folder = tempfile::tempdir().unwrap();
    copy_of(old.path(), folder.path());
    let store = open(folder.path()).unwrap();
    store.replace(Some(Generation(3)), &record("linear", 4)).await.unwrap();
    drop(store);
    fs::remove_dir_all(folder.path().join("sled")).unwrap();
    copy_of(&old.path().join("sled"), &folder.path().join("sled"));
    let store = open(folder.path()).unwrap();
    assert_eq!(store.read(&record("linear", 4).id).await.unwrap(), Some(record("linear", 4)));
}

#[tokio::test]
async fn files_of_older_days_never_win_over_sled() {
    let old = tempfile::tempdir().unwrap();
    filled(old.path()).await;
    let folder = tempfile::tempdir().unwrap();
    copy_of(old.path(), folder.path());
    let store = open(folder.path()).unwrap();
    store.replace(Some(Generation(3)), &record("linear", 4)).await.unwrap();
    drop(store);
    copy_of(&old.path().join("records"), &folder.path().join("records"));
    let store = open(folder.path()).unwrap();
    assert_eq!(store.read(&record("linear", 4).id).await.unwrap(), Some(record("linear", 4)));
    assert!(store.warnings().iter().any(|warning| warning.contains("restored")), "{:?}", store.warnings());
}
