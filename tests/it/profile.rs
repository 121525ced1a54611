//! A provider with ways of its own, met by the binary: with its profile, and by its name.

use everfresh_e2e::World;
use everfresh_testkit::provider::presets;

/// A whole browser.
const BROWSER: &str = "curl -sSL -o /dev/null --max-time 20";

async fn world(name: &str) -> World {
    let preset = presets().into_iter().find(|preset| preset.name == name).expect("a preset");
    let world = World::new(preset.behaviour, "min_spacing = \"500ms\"\nbackoff_base = \"500ms\"").await;
    world.provider.with(|model| model.switches = preset.switches);
    world
}

#[tokio::test(flavor = "multi_thread")]
async fn a_profile_is_added_shown_and_kept_to() {
    let world = world("Google").await;
    let daemon = world.daemon().await;
    let url = world.upstream.url();
    let add = ["--browser-cmd", BROWSER, "add", "drive", &url, "--timeout", "20s", "--profile", "google"];
    let ran = daemon.run(&add).await.expect(0);
    assert!(ran.stdout.contains("it is kept fresh from here on"), "{ran:?}");
    assert!(ran.stderr.contains("Google: While the consent screen's status is Testing"), "{ran:?}");
    let shown = daemon.run(&["show", "drive"]).await.expect(0).stdout;
    assert!(shown.contains("profile             google (While"), "{shown}");
    assert!(!shown.contains("refresh token ends  -"), "{shown}");
    assert!(shown.contains(&format!("issuer              {}", world.provider.url())), "{shown}");
    daemon.run(&["refresh", "drive"]).await.expect(0);
    assert_eq!(daemon.stop().await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn without_its_profile_the_same_provider_gives_no_refresh_token() {
    let world = world("Google").await;
    let daemon = world.daemon().await;
    let url = world.upstream.url();
    let ran = daemon.run(&["--browser-cmd", BROWSER, "add", "drive", &url, "--timeout", "20s"]).await.expect(0);
    assert!(ran.stdout.contains("the provider gave no refresh token"), "{ran:?}");
    let unknown = ["add", "other", &url, "--no-login", "--profile", "googel"];
    let ran = daemon.run(&unknown).await;
    assert!(ran.code != 0 && ran.stderr.contains("use auto, none, or one of apify"), "{ran:?}");
    assert_eq!(daemon.stop().await, 0);
}
