//! The binary in a corporate network: out through an HTTP proxy, under a private authority, with a
//! client certificate.

use std::time::Duration;

use everfresh_e2e::daemon::{client, command};
use everfresh_e2e::{Daemon, World};
use everfresh_testkit::corporate::{Authority, Proxy, TlsFront};
use everfresh_testkit::mcp::McpServer;
use everfresh_testkit::provider::Behaviour;

const AS: &str = "as.corp.example";
const MCP: &str = "mcp.corp.example";

/// A world whose provider and server are reached over TLS through `proxy` only.
struct Estate {
    world: World,
    _upstream: McpServer,
    _fronts: [TlsFront; 2],
    proxy: Proxy,
    /// What the world's own tests pass to `add`.
    files: [String; 3],
}

impl Estate {
    async fn new() -> Self {
        let behaviour = Behaviour { access_lifetime: Duration::from_secs(3600), ..Behaviour::default() };
        let world = World::new(behaviour, "min_spacing = \"500ms\"").await;
        world.provider.with(|model| model.issuer = format!("https://{AS}"));
        let upstream = McpServer::start_behind("https", ([127, 0, 0, 1], 0).into(), &world.provider).await.unwrap();
        let authority = Authority::new().unwrap();
        let ca_file = world.folder().join("ca.pem");
        authority.write(&ca_file).unwrap();
        let client = authority.issue_client(world.folder(), "client").unwrap();
        let config = || authority.server(&[AS, MCP], Some(&authority)).unwrap();
        let fronts = [
            TlsFront::start(config(), world.provider.address()).await.unwrap(),
            TlsFront::start(config(), upstream.address()).await.unwrap(),
        ];
        let ways = [(format!("{AS}:443"), fronts[0].address()), (format!("{MCP}:443"), fronts[1].address())];
        let proxy = Proxy::start(ways.into()).await.unwrap();
        let files = [ca_file, client.cert_file, client.key_file].map(|path| path.display().to_string());
        Self { world, _upstream: upstream, _fronts: fronts, proxy, files }
    }

    fn add<'a>(&'a self, name: &'a str, url: &'a str, files: bool) -> Vec<&'a str> {
        let [ca_file, cert, key] = &self.files;
        let mut arguments = vec!["add", name, url, "--no-login", "--ca-file", ca_file];
        if files {
            arguments.extend(["--client-cert", cert, "--client-key", key]);
        }
        arguments
    }

    /// The daemon with the proxy in its environment.
    async fn daemon(&self) -> Daemon {
        let environment = [("HTTPS_PROXY", self.proxy.url()), ("NO_PROXY", "other.example".to_owned())];
        Daemon::start_in(self.world.folder(), 0, &environment).await
    }

    /// A person who says yes to the login that `name` is asked for.
    async fn say_yes(&self, daemon: &Daemon, name: &str) {
        let path = format!("/api/v1/servers/{name}/login");
        let answer = daemon.request(reqwest::Method::POST, &path).send().await.unwrap();
        let started: serde_json::Value = answer.json().await.unwrap();
        let url = started["authorization_url"].as_str().unwrap_or_else(|| panic!("{started}")).to_owned();
        assert!(url.starts_with(&format!("https://{AS}/authorize?")), "{url}");
        // The page itself is behind TLS for the browser, which is not the one under test.
        let page = url.replace(&format!("https://{AS}"), self.world.provider.url());
        let done = client().get(page).send().await.unwrap();
        assert!(done.status().is_success(), "{}", done.status());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_login_is_made_and_kept_through_a_proxy_with_a_client_certificate() {
    let estate = Estate::new().await;
    let daemon = estate.daemon().await;
    let url = format!("https://{MCP}/mcp");
    daemon.run(&estate.add("corp", &url, true)).await.expect(0);
    estate.say_yes(&daemon, "corp").await;
    daemon.expect_call("corp").await;
    daemon.run(&["refresh", "corp"]).await.expect(0);
    daemon.expect_call("corp").await;
    daemon.run(&["logout", "corp"]).await.expect(0);
    let counters = estate.world.counters();
    let seen = (counters.registrations, counters.exchanges, counters.refreshes, counters.executions);
    assert_eq!(seen, (1, 1, 1, 0));
    assert!(counters.revocations > 0, "{counters:?}");
    let asked = estate.proxy.asked();
    assert!(asked.len() >= 8 && asked.iter().all(|asked| [AS, MCP].contains(&asked.trim_end_matches(":443"))));
    println!("through the proxy: {} connections", asked.len());
    assert_eq!(daemon.stop().await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn without_its_certificate_it_says_which_setting_is_missing() {
    let estate = Estate::new().await;
    let daemon = estate.daemon().await;
    let url = format!("https://{MCP}/mcp");
    daemon.run(&estate.add("corp", &url, false)).await.expect(0);
    let answer = daemon.request(reqwest::Method::POST, "/api/v1/servers/corp/login").send().await.unwrap();
    let told = answer.text().await.unwrap();
    assert!(told.contains("it demands a client certificate; set client_cert_file"), "{told}");
    let (status, body) = daemon.call_tool("corp", "add").await;
    assert!(status == 200 || status == 502, "{status} {body}");
    assert_eq!(daemon.stop().await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn files_that_cannot_be_used_are_told_at_once() {
    let estate = Estate::new().await;
    let [ca_file, cert, key] = &estate.files;
    let cases = [
        (["--ca-file", key], "it holds no certificate"),
        (["--client-cert", cert], "it holds no private key"),
        (["--ca-file", "/no/such/file"], "there is no such file"),
    ];
    for (more, cause) in cases {
        let arguments = ["add", "corp", "https://mcp.corp.example/mcp", "--no-login"];
        let ran = estate.world.run(&[&arguments[..], &more[..]].concat()).await.expect(2);
        assert!(ran.stderr.contains(cause), "{ran:?}");
    }
    let wrong =
        format!("[servers.corp]\nurl = \"https://{MCP}/mcp\"\nca_file = {ca_file:?}\nclient_cert_file = {ca_file:?}");
    estate.world.configure(&wrong);
    let output = command(estate.world.folder()).arg("serve").output().await.unwrap();
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(2), "{told}");
    assert!(told.contains("config.toml:4: servers.corp.client_cert_file: the client certificate's key"), "{told}");
}
