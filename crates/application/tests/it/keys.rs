//! The ring of keys: what is kept before it is in force, and what is in force after a crash.

use std::sync::Arc;
use std::time::Duration;

use everfresh_application::ports::KeyFileError;
use everfresh_application::{KeyError, KeyRing, LocalKey, NewKey, Shown};
use everfresh_domain::{KeyRight, KeyScope, Secret};
use everfresh_testkit::clock::{SeededEntropy, VirtualClock};
use everfresh_testkit::memory::MemoryKeys;

const MINUTE: Duration = Duration::from_secs(60);

struct World {
    files: MemoryKeys,
    clock: Arc<VirtualClock>,
}

impl World {
    fn new() -> Self {
        Self { files: MemoryKeys::default(), clock: Arc::new(VirtualClock::default()) }
    }

    /// The ring of a process that starts here and now.
    async fn ring(&self, seed: u64) -> KeyRing {
        let local = self.files.local().unwrap_or_else(|| Secret::new("first"));
        self.ring_with(LocalKey::Kept(local), seed).await
    }

    async fn ring_with(&self, local: LocalKey, seed: u64) -> KeyRing {
        let entropy = Arc::new(SeededEntropy::new(seed));
        KeyRing::open(&local, Arc::new(self.files.clone()), Arc::clone(&self.clock) as _, entropy).await
    }

    fn sleep(&self, duration: Duration) {
        self.clock.jump(i64::try_from(duration.as_millis()).unwrap());
    }
}

fn wish(name: &str, lifetime: Option<Duration>) -> NewKey {
    let scope = KeyScope::new([], None, KeyRight::DataPlane).unwrap();
    NewKey { name: name.parse().unwrap(), scope, lifetime, replaces: false, holder: None }
}

/// What `text` is, in a word.
fn known(ring: &KeyRing, text: &str) -> String {
    match ring.recognise(text) {
        Shown::Local => "local".to_owned(),
        Shown::Limited(held) => held.key.name.to_string(),
        Shown::Over(held) => format!("{} is over", held.key.name),
        Shown::Unknown => "unknown".to_owned(),
    }
}

#[tokio::test(start_paused = true)]
async fn a_key_that_was_shown_is_known_after_a_crash_and_one_that_was_removed_is_not() {
    let world = World::new();
    let ring = world.ring(1).await;
    let (_, kept) = ring.add(wish("kept", None)).await.unwrap();
    let (_, rotated) = ring.add(wish("rotated", None)).await.unwrap();
    let (_, removed) = ring.add(wish("removed", None)).await.unwrap();
    let (_, newer) = ring.rotate(&"rotated".parse().unwrap()).await.unwrap();
    ring.remove(&"removed".parse().unwrap()).await.unwrap();
    let local = ring.rotate_local().await.unwrap();
    for ring in [ring, world.ring(2).await] {
        assert_eq!(known(&ring, kept.expose()), "kept");
        assert_eq!(known(&ring, newer.expose()), "rotated");
        assert_eq!(known(&ring, local.expose()), "local");
        for gone in [rotated.expose(), removed.expose(), "first", "", "kept"] {
            assert_eq!(known(&ring, gone), "unknown");
        }
    }
    let stored = serde_json::to_string(&world.files.limited()).unwrap();
    assert!(!stored.contains(kept.expose()) && !stored.contains(newer.expose()), "only hashes are kept");
}

#[tokio::test(start_paused = true)]
async fn what_cannot_be_kept_is_not_in_force() {
    let world = World::new();
    let ring = world.ring(1).await;
    let (_, before) = ring.add(wish("ci", None)).await.unwrap();
    world.files.fail_writes(Some("disk full"));
    let name = "ci".parse().unwrap();
    assert!(ring.add(wish("more", None)).await.unwrap_err().to_string().contains("disk full"));
    assert!(ring.rotate(&name).await.is_err());
    assert!(ring.remove(&name).await.is_err());
    assert!(ring.rotate_local().await.is_err());
    assert_eq!((known(&ring, before.expose()), known(&ring, "first")), ("ci".to_owned(), "local".to_owned()));
    assert_eq!(ring.list().len(), 1);
    world.files.fail_writes(None);
    ring.remove(&name).await.unwrap();
    assert_eq!(known(&ring, before.expose()), "unknown");
}

#[tokio::test(start_paused = true)]
async fn keys_that_cannot_be_read_open_nothing_and_are_not_written_over() {
    let world = World::new();
    let (_, key) = world.ring(1).await.add(wish("ci", None)).await.unwrap();
    world.files.fail_reads(Some("torn"));
    let ring = world.ring(2).await;
    assert_eq!((known(&ring, key.expose()), known(&ring, "first")), ("unknown".to_owned(), "local".to_owned()));
    let error = ring.add(wish("new", None)).await.unwrap_err();
    assert!(matches!(error, KeyError::Files(KeyFileError::Unreadable { .. })), "{error}");
    world.files.fail_reads(None);
    assert_eq!(world.files.limited().len(), 1);
    assert_eq!(known(&world.ring(3).await, key.expose()), "ci");
}

#[tokio::test(start_paused = true)]
async fn a_key_is_over_when_its_time_is_and_lives_as_long_again_when_rotated() {
    let world = World::new();
    let ring = world.ring(1).await;
    let (view, key) = ring.add(wish("ci", Some(MINUTE))).await.unwrap();
    assert_eq!((view.is_over, view.key.expires_at), (false, Some(view.key.created_at.after(MINUTE))));
    world.sleep(MINUTE - Duration::from_millis(1));
    assert_eq!(known(&ring, key.expose()), "ci");
    world.sleep(Duration::from_millis(1));
    assert_eq!(known(&ring, key.expose()), "ci is over");
    assert!(ring.list()[0].is_over);
    let (_, newer) = ring.rotate(&"ci".parse().unwrap()).await.unwrap();
    assert_eq!(known(&ring, newer.expose()), "ci");
    world.sleep(MINUTE);
    assert_eq!(known(&ring, newer.expose()), "ci is over");
}

#[tokio::test(start_paused = true)]
async fn the_last_use_is_known_to_the_minute_and_only_of_keys_that_are_good() {
    let world = World::new();
    let ring = world.ring(1).await;
    let (view, key) = ring.add(wish("ci", Some(MINUTE * 10))).await.unwrap();
    let last = || ring.list()[0].last_used_at;
    assert_eq!(last(), None);
    known(&ring, key.expose());
    assert_eq!(last(), Some(view.key.created_at));
    world.sleep(MINUTE - Duration::from_millis(1));
    known(&ring, key.expose());
    assert_eq!(last(), Some(view.key.created_at));
    world.sleep(Duration::from_millis(1));
    known(&ring, key.expose());
    assert_eq!(last(), Some(view.key.created_at.after(MINUTE)));
    world.sleep(MINUTE * 10);
    known(&ring, key.expose());
    assert_eq!(last(), Some(view.key.created_at.after(MINUTE)));
}

#[tokio::test(start_paused = true)]
async fn a_local_key_of_the_environment_is_changed_there() {
    let world = World::new();
    let ring = world.ring_with(LocalKey::Given(Secret::new("given")), 1).await;
    assert!(matches!(ring.rotate_local().await, Err(KeyError::LocalKeyIsGiven)));
    assert_eq!(known(&ring, "given"), "local");
    assert!(world.files.local().is_none());
}
