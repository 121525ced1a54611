//! The recipes of docs/RECIPES.md, taken from there and run as they stand against the programs they are
//! for. A program that is not here is told to be missing.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use everfresh_e2e::daemon::binary;
use everfresh_e2e::{Asked, Daemon, Ran, Reply, Scripted, World, until};
use everfresh_testkit::canary;
use everfresh_testkit::corporate::{Authority, TlsFront};
use serde_json::{Value, json};
use tempfile::TempDir;

const RECIPES: &str = include_str!("../../docs/RECIPES.md");

const LIFETIME: Duration = Duration::from_secs(600);

/// Where everfresh is in the recipes.
const BASE_URL: &str = "http://127.0.0.1:7411";

/// How long a program may take.
const LIMIT: Duration = Duration::from_secs(60);

/// The `number`-th piece in `language` under a heading.
fn recipe(heading: &str, language: &str, number: usize) -> &'static str {
    let section = RECIPES.split("\n## ").find(|section| section.lines().next() == Some(heading));
    let section = section.unwrap_or_else(|| panic!("there is no recipe for {heading}"));
    let mut pieces = section.split("\n```").skip(1).step_by(2).filter_map(|piece| piece.split_once('\n'));
    let mut found = pieces.by_ref().filter(|(found, _)| *found == language);
    found.nth(number).unwrap_or_else(|| panic!("no {language} under {heading}")).1
}

/// A person's shell: everfresh is in the path, and the home folder is empty.
struct Shell {
    home: TempDir,
}

impl Shell {
    fn of(world: &World) -> Self {
        let home = tempfile::tempdir().unwrap();
        let folder = world.folder().display();
        let script = format!(
            "#!/bin/sh\nexport EVERFRESH_TEST_CLOCK={folder}/clock\n\
             exec {} --config {folder}/config.toml --data-dir {folder}/data \"$@\"\n",
            binary().display()
        );
        let path = home.path().join("everfresh");
        std::fs::write(&path, script).unwrap();
        let made = std::process::Command::new("chmod").arg("755").arg(&path).status();
        assert!(made.unwrap().success());
        Self { home }
    }

    fn command(&self, program: &str) -> tokio::process::Command {
        let mut command = everfresh_e2e::daemon::plain(program);
        let path = format!("{}:{}", self.home.path().display(), std::env::var("PATH").unwrap_or_default());
        command.env("PATH", path).env("HOME", self.home.path()).current_dir(self.home.path()).kill_on_drop(true);
        command.env("GIT_TERMINAL_PROMPT", "0").stdin(std::process::Stdio::null());
        command
    }

    async fn run(&self, script: &str, environment: &[(&str, &str)]) -> Ran {
        let output = self.command("sh").args(["-c", script]).envs(environment.iter().copied()).output();
        tokio::time::timeout(LIMIT, output).await.expect("the program ends").unwrap().into()
    }

    /// Whether a program is here, and runs.
    async fn has(&self, program: &str) -> bool {
        self.run(program, &[]).await.code == 0
    }
}

/// A world in which `name` is logged in to, its daemon, a shell, and a key that reaches it.
async fn ready(name: &str) -> (World, Daemon, Shell, String) {
    let world = World::with_lifetime(LIFETIME).await;
    let daemon = world.daemon().await;
    world.log_in(&daemon, name).await;
    let made = daemon.run(&["key", "add", "recipe", "--server", name]).await.expect(0);
    let key = made.stdout.trim().to_owned();
    canary::keep(&key);
    let shell = Shell::of(&world);
    (world, daemon, shell, key)
}

/// The token that is good now.
async fn token(daemon: &Daemon, name: &str) -> String {
    daemon.run(&["token", name]).await.expect(0).stdout.trim().to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn http_clients_call_through_everfresh_and_with_a_token() {
    let (world, daemon, shell, key) = ready("linear").await;
    let here = |recipe: &str| {
        recipe.replace(BASE_URL, &daemon.base_url).replace("https://mcp.linear.app/mcp", &world.upstream.url())
    };
    let environment = [("EVERFRESH_KEY", key.as_str())];
    let sum = |ran: Ran| assert!(ran.clone().expect(0).stdout.contains(r#""text":"5""#), "{ran:?}");
    sum(shell.run(&here(recipe("curl", "sh", 0)), &environment).await);
    sum(shell.run(&here(recipe("curl", "sh", 1)), &[]).await);
    if shell.has("node --version").await {
        std::fs::write(shell.home.path().join("recipe.js"), here(recipe("Node", "js", 0))).unwrap();
        sum(shell.run("node recipe.js", &[]).await);
    } else {
        println!("(recipes) SKIPPED: no node here");
    }
    if shell.has("python3 -c 'import requests'").await {
        std::fs::write(shell.home.path().join("recipe.py"), here(recipe("Python", "python", 0))).unwrap();
        sum(shell.run("python3 recipe.py", &environment).await);
    } else {
        println!("(recipes) SKIPPED: no python3 with requests here");
    }
    daemon.kill().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_headers_helper_prints_one_object_of_strings() {
    let (_world, daemon, shell, _) = ready("linear").await;
    let settings: Value = serde_json::from_str(recipe("Claude Code", "json", 0)).unwrap();
    let helper = settings["mcpServers"]["linear"]["headersHelper"].as_str().unwrap();
    let headers = shell.run(helper, &[]).await.expect(0).json();
    let expected = json!({ "Authorization": format!("Bearer {}", token(&daemon, "linear").await) });
    assert_eq!(headers, expected);
    daemon.kill().await;
}

/// Serves the files of a repository to whoever shows a token that is not refused.
async fn git_server(repository: std::path::PathBuf, refused: Arc<Mutex<Vec<String>>>) -> Scripted {
    Scripted::start(move |asked: &Asked| {
        let path = asked.target.split('?').next().unwrap_or_default();
        let shown = asked.header("authorization").unwrap_or_default().to_owned();
        if shown.is_empty() || refused.lock().unwrap().contains(&shown) {
            return Reply::Whole(401, "www-authenticate: Basic realm=\"git\"\r\n", String::new());
        }
        let file = repository.join(path.trim_start_matches("/repository/"));
        std::fs::read(file).map_or_else(|_| Reply::status(404), Reply::Bytes)
    })
    .await
}

fn basic(username: &str, token: &str) -> String {
    format!("Basic {}", BASE64_STANDARD.encode(format!("{username}:{token}")))
}

#[tokio::test(flavor = "multi_thread")]
async fn git_gets_a_token_and_a_new_one_after_a_refusal() {
    let (world, daemon, shell, _) = ready("gitlab").await;
    let made = "git init -q source && cd source && git -c user.name=a -c user.email=a@b commit -q --allow-empty -m one \
                && git clone -q --bare . ../repository && cd ../repository && git update-server-info";
    shell.run(made, &[]).await.expect(0);
    let refused = Arc::new(Mutex::new(Vec::new()));
    let server = git_server(shell.home.path().join("repository"), Arc::clone(&refused)).await;
    let origin = server.url.strip_suffix("/mcp").unwrap().to_owned();
    let host = origin.strip_prefix("http://").unwrap();
    let configure = recipe("git", "sh", 0).replace("https://gitlab.com", &origin).replace("gitlab.com", host);
    shell.run(&configure, &[]).await.expect(0);
    let first = token(&daemon, "gitlab").await;
    shell.run(&format!("git clone -q {origin}/repository clone && cd clone && git log -1"), &[]).await.expect(0);
    let shown =
        |number: usize| server.seen().iter().rev().nth(number).unwrap().header("authorization").unwrap().to_owned();
    assert_eq!(shown(0), basic("oauth2", &first));
    // A token that the host refuses is told to the helper, and is another the next time.
    refused.lock().unwrap().push(basic("oauth2", &first));
    assert_ne!(shell.run(&format!("git ls-remote {origin}/repository"), &[]).await.code, 0);
    assert_eq!(world.counters().refreshes, 1);
    shell.run(&format!("git ls-remote {origin}/repository"), &[]).await.expect(0);
    let second = token(&daemon, "gitlab").await;
    assert!(first != second && shown(0) == basic("oauth2", &second));
    // An older token that is refused late renews nothing.
    let erase = |password: &str| {
        let script = format!(
            "printf 'protocol=http\\nhost={host}\\npassword={password}\\n\\n' | everfresh git-credential gitlab --host {host} erase"
        );
        let shell = &shell;
        async move { shell.run(&script, &[]).await.expect(0) }
    };
    erase(&first).await;
    assert_eq!(world.counters().refreshes, 1);
    daemon.kill().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn git_is_answered_for_the_servers_own_host_and_no_other() {
    let (world, daemon, shell, _) = ready("gitlab").await;
    let helper = "git -c credential.helper='!everfresh git-credential gitlab'";
    let fill = |url: String, more: &'static str| {
        let script = format!("printf 'url={url}\\n{more}\\n' | {helper} credential fill");
        let shell = &shell;
        async move { shell.run(&script, &[]).await }
    };
    let own = format!("http://{}", world.upstream.address());
    let told = fill(format!("{own}/group/repository.git"), "").await.expect(0).stdout;
    let good = token(&daemon, "gitlab").await;
    assert!(told.contains("username=oauth2\n") && told.contains(&format!("password={good}\n")), "{told}");
    let server = daemon.server("gitlab").await;
    let end: everfresh_domain::Timestamp = server["token"]["expires_at"].as_str().unwrap().parse().unwrap();
    assert!(told.contains(&format!("password_expiry_utc={}", end.as_millis() / 1000)), "{told}");
    let port = world.upstream.address().port();
    let others = ["https://gitlab.com".to_owned(), format!("http://192.0.2.1:{port}"), "http://127.0.0.1:9".to_owned()];
    for other in others {
        let told = fill(other.clone(), "").await;
        assert!(told.code != 0 && !told.stdout.contains("password"), "{other}: {told:?}");
    }
    // git stores and asks for what helpers do not know: silence.
    for operation in ["store", "capability"] {
        let script = format!("printf 'url={own}\\n\\n' | everfresh git-credential gitlab {operation}");
        assert_eq!(shell.run(&script, &[]).await.expect(0).stdout, "");
    }
    daemon.kill().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn kubectl_shows_the_token_to_its_cluster() {
    let (_world, daemon, shell, _) = ready("cluster").await;
    let good = token(&daemon, "cluster").await;
    let beta = [("KUBERNETES_EXEC_INFO", r#"{"apiVersion":"client.authentication.k8s.io/v1beta1","spec":{}}"#)];
    let told = shell.run("everfresh token cluster -o exec-credential", &beta).await.expect(0).json();
    assert_eq!((&told["kind"], &told["status"]["token"]), (&json!("ExecCredential"), &json!(good)));
    assert_eq!(told["apiVersion"], "client.authentication.k8s.io/v1beta1");
    assert!(told["status"]["expirationTimestamp"].is_string());
    if shell.has("kubectl version --client").await {
        let version = json!({ "major": "1", "minor": "32", "gitVersion": "v1.32.0" }).to_string();
        let server =
            Scripted::start(move |_| Reply::Whole(200, "content-type: application/json\r\n", version.clone())).await;
        let behind = server.url.strip_prefix("http://").and_then(|url| url.strip_suffix("/mcp")).unwrap();
        let authority = Authority::new().unwrap();
        authority.write(&shell.home.path().join("ca.pem")).unwrap();
        // kubectl shows credentials over TLS only.
        let tls = authority.server(&["cluster.example"], None).unwrap();
        let front = TlsFront::start(tls, behind.parse().unwrap()).await.unwrap();
        let config = format!(
            "apiVersion: v1\nkind: Config\ncurrent-context: here\nclusters:\n- name: here\n  cluster:\n    \
             server: https://{}\n    certificate-authority: ca.pem\n    tls-server-name: cluster.example\n\
             contexts:\n- name: here\n  context: {{ cluster: here, user: me }}\n{}",
            front.address(),
            recipe("kubectl", "yaml", 0)
        );
        std::fs::write(shell.home.path().join("kubeconfig"), config).unwrap();
        let asked = shell.run("kubectl --kubeconfig kubeconfig get --raw /version", &[]).await.expect(0);
        assert!(asked.stdout.contains("v1.32.0"), "{asked:?}");
        let seen = server.seen();
        assert_eq!(seen.last().unwrap().header("authorization"), Some(&*format!("Bearer {good}")), "{seen:?}");
    } else {
        println!("(recipes) SKIPPED: no kubectl here");
    }
    daemon.kill().await;
}

/// As much of AWS's Security Token Service as a command-line client needs.
fn token_service(asked: &Asked) -> Reply {
    let what = if asked.body.contains("Action=AssumeRoleWithWebIdentity") {
        "<AssumeRoleWithWebIdentityResponse><AssumeRoleWithWebIdentityResult><Credentials>\
         <AccessKeyId>ASIAEXAMPLE</AccessKeyId><SecretAccessKey>secret</SecretAccessKey>\
         <SessionToken>session</SessionToken><Expiration>2099-01-01T00:00:00Z</Expiration></Credentials>\
         </AssumeRoleWithWebIdentityResult></AssumeRoleWithWebIdentityResponse>"
    } else {
        "<GetCallerIdentityResponse><GetCallerIdentityResult><Arn>arn:aws:sts::123456789012:assumed-role/everfresh/me\
         </Arn><UserId>u</UserId><Account>123456789012</Account></GetCallerIdentityResult></GetCallerIdentityResponse>"
    };
    Reply::Whole(200, "content-type: text/xml\r\n", what.to_owned())
}

#[tokio::test(flavor = "multi_thread")]
async fn aws_exchanges_the_token_in_the_file() {
    let (_world, daemon, shell, _) = ready("idp").await;
    let file = shell.home.path().join("token").display().to_string();
    let here = |recipe: &str| recipe.replace("/run/user/1000/everfresh-aws", &file);
    shell.run(&here(recipe("AWS", "sh", 0)).replace("--watch", ""), &[]).await.expect(0);
    let good = token(&daemon, "idp").await;
    assert_eq!(std::fs::read_to_string(&file).unwrap(), good, "the token, and nothing after it");
    if shell.has("aws --version").await {
        std::fs::write(shell.home.path().join("aws-config"), here(recipe("AWS", "ini", 0))).unwrap();
        let server = Scripted::start(token_service).await;
        let place = server.url.strip_suffix("/mcp").unwrap().to_owned();
        let environment = [
            ("AWS_CONFIG_FILE", "aws-config"),
            ("AWS_PROFILE", "work"),
            ("AWS_DEFAULT_REGION", "us-east-1"),
            ("AWS_ENDPOINT_URL_STS", &place),
            ("AWS_EC2_METADATA_DISABLED", "true"),
        ];
        let told = shell.run("aws sts get-caller-identity", &environment).await.expect(0);
        assert!(told.stdout.contains("assumed-role/everfresh/me"), "{told:?}");
        let seen = server.seen();
        assert!(
            seen[0].body.contains(&format!("WebIdentityToken={good}&")) || seen[0].body.ends_with(&good),
            "{seen:?}"
        );
    } else {
        println!("(recipes) SKIPPED: no aws here");
    }
    daemon.kill().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_watched_file_has_each_new_token_soon_and_is_its_owners_only() {
    let (_world, daemon, shell, _) = ready("idp").await;
    let file = shell.home.path().join("token");
    let arguments = ["token", "idp", "--write", "token", "--watch"];
    let mut watching = shell.command("everfresh").args(arguments).stderr(std::process::Stdio::piped()).spawn().unwrap();
    let written = |not: String| {
        let file = &file;
        move || {
            let text = std::fs::read_to_string(file).unwrap_or_default();
            std::future::ready((!text.is_empty() && text != not).then_some(text))
        }
    };
    let (first, _) = until("the file", LIMIT, written(String::new())).await;
    assert_eq!(first, token(&daemon, "idp").await);
    daemon.run(&["refresh", "idp"]).await.expect(0);
    let (second, took) = until("the new token", Duration::from_secs(15), written(first)).await;
    println!("(recipes) a refreshed token of 600 s was in the watched file after {took:.1?}");
    assert_eq!(second, token(&daemon, "idp").await);
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        assert_eq!(std::fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    }
    assert!(watching.try_wait().unwrap().is_none(), "it goes on");
    watching.kill().await.unwrap();
    assert_eq!(daemon.stop().await, 0);
    let alone = shell.run("everfresh token idp --write token --watch", &[]).await.expect(6);
    assert!(alone.stderr.contains("needs the daemon"), "{alone:?}");
    let nowhere = shell.run("everfresh token idp --write no/such/folder/token", &[]).await.expect(1);
    assert!(nowhere.stderr.contains("cannot be written to no/such/folder/token"), "{nowhere:?}");
}
