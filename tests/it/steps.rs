//! SIGKILL at each step of a refresh, against each way in which providers rotate.

use std::collections::BTreeMap;
use std::process::Stdio;
use std::time::Duration;

use everfresh_e2e::{Daemon, World, until};
use everfresh_testkit::provider::{Behaviour, Counters, Fault, Model, ProviderServer, Rotation};
use tokio::io::{AsyncBufReadExt, BufReader};

const SECOND: Duration = Duration::from_secs(1);

/// What system calls do in a refresh. Which of several names is used is the libraries' business; each
/// of these things is done, and dying there must be tried.
const STEPS: [(&str, &[&str]); 8] = [
    ("opening a file", &["openat"]),
    ("writing a file", &["write", "pwrite64"]),
    ("syncing a file", &["fsync", "fdatasync"]),
    ("giving a file its name", &["rename", "renameat", "renameat2"]),
    ("closing", &["close"]),
    ("connecting", &["connect"]),
    ("sending", &["sendto", "sendmsg", "writev"]),
    ("receiving", &["recvfrom", "recvmsg", "readv", "read"]),
];

/// How often each system call is let die at, at most: threads that only wait make some, too.
const DEATHS_MAX: u32 = 6;

fn policies() -> [(&'static str, Rotation); 3] {
    [
        ("no grace", Rotation::SingleUse { grace: Duration::ZERO }),
        ("10 s of grace", Rotation::SingleUse { grace: SECOND * 10 }),
        ("good until its successor is used", Rotation::PreviousUntilUsed),
    ]
}

async fn world(rotation: Rotation) -> World {
    let behaviour = Behaviour { access_lifetime: SECOND * 600, rotation, ..Behaviour::default() };
    World::new(behaviour, "min_spacing = \"200ms\"\nbackoff_base = \"200ms\"\nhourly_budget = 10000").await
}

/// Asks for a refresh without waiting for its end, which may never come.
fn ask(daemon: &Daemon) -> tokio::task::JoinHandle<bool> {
    let request = daemon.request(reqwest::Method::POST, "/api/v1/servers/demo/refresh").send();
    tokio::spawn(async move { request.await.is_ok_and(|answer| answer.status().is_success()) })
}

/// Waits until the login is either fresh or said to be over, and returns why.
async fn settled(daemon: &Daemon) -> String {
    let end = || async {
        let server = daemon.server("demo").await;
        let reason = server["health"]["reason"].as_str().unwrap_or_default().to_owned();
        let refresh = &server["refresh"];
        let answered = refresh["last_attempt_at"].as_str() <= refresh["last_success_at"].as_str();
        let over = ["rotation_lost", "refresh_token_rejected"].contains(&reason.as_str());
        (over || (reason == "ok" && answered)).then_some(reason)
    };
    until("an end of it", SECOND * 30, end).await.0
}

/// After a death: a login that could be kept is kept, and one that could not is told by its name.
async fn judge(world: &World, daemon: &Daemon, rotation: Rotation, before: Counters, step: &str) -> bool {
    let reason = settled(daemon).await;
    let processed = world.counters().refreshes > before.refreshes;
    if reason == "ok" {
        // So soon after another one it may be held back for a moment.
        let refreshed = || async { (daemon.run(&["refresh", "demo"]).await.code == 0).then_some(()) };
        until("one more refresh", SECOND * 10, refreshed).await;
        daemon.expect_call("demo").await;
        return true;
    }
    let strict = rotation == Rotation::SingleUse { grace: Duration::ZERO };
    assert!(strict && processed, "{step}: {reason}, with {rotation:?}");
    assert_eq!(reason, "rotation_lost", "{step}");
    let ran = daemon.run(&["--browser-cmd", "curl -sSL -o /dev/null --max-time 20", "login", "demo"]).await;
    assert_eq!(ran.code, 0, "{ran:?}");
    false
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_while_the_provider_holds_the_request_or_its_answer() {
    let steps = [
        ("the request has come, and is not processed", Some(Fault::Hang)),
        ("it is processed, and nothing is answered", Some(Fault::HangAfter)),
        ("half of the answer is sent", Some(Fault::HalfAnswer)),
        ("the answer is sent", None),
    ];
    for (policy, rotation) in policies() {
        let world = world(rotation).await;
        let mut daemon = world.daemon().await;
        world.log_in(&daemon, "demo").await;
        for (step, fault) in &steps {
            let before = world.counters();
            world.provider.with(|model| model.switches.fault.clone_from(fault));
            let asked = ask(&daemon);
            let come = || async { (world.counters().token_requests > before.token_requests).then_some(()) };
            until(step, SECOND * 10, come).await;
            daemon.kill().await;
            drop(asked.await);
            world.provider.with(|model| model.switches.fault = None);
            daemon = world.daemon().await;
            let kept = judge(&world, &daemon, rotation, before, step).await;
            println!("(k) killed when {step}; {policy}: {}", if kept { "kept" } else { "lost, and told so" });
        }
        daemon.kill().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_before_the_request_can_be_sent() {
    for (policy, rotation) in policies() {
        let world = world(rotation).await;
        let provider = ProviderServer::start(Model::new(world.provider.with(|model| model.behaviour.clone()))).await;
        let provider = provider.unwrap();
        let (address, model) = (provider.address(), provider.model());
        let upstream = everfresh_testkit::mcp::McpServer::start(&provider).await.unwrap();
        let daemon = world.daemon().await;
        crate::many::log_in(&daemon, "demo", &upstream).await;
        drop(provider);
        // It is connected to, and nobody ever reads: the mark is stored, and nothing is processed.
        let free = || async { std::net::TcpListener::bind(address).ok() };
        let (silent, _) = until("the port to be free", SECOND * 10, free).await;
        let asked = ask(&daemon);
        let (connection, _) = tokio::task::spawn_blocking(move || silent.accept().unwrap()).await.unwrap();
        daemon.kill().await;
        drop(connection);
        drop(asked.await);
        let free = || async { ProviderServer::serve(address, model.clone()).await.ok() };
        let (_provider, _) = until("the port to be free", SECOND * 10, free).await;
        let daemon = world.daemon().await;
        assert_eq!(settled(&daemon).await, "ok");
        daemon.run(&["refresh", "demo"]).await.expect(0);
        assert_eq!(model.lock().unwrap().counters.reuses, 0);
        println!("(k) killed when the request is written and not read; {policy}: kept");
        daemon.kill().await;
    }
}

/// Lets the daemon die at the `number`-th `call` of one of its threads from here on.
pub(crate) async fn kill_at(daemon: &Daemon, call: &str, number: u32) -> Option<tokio::process::Child> {
    let (pid, inject) = (daemon.pid().to_string(), format!("inject={call}:signal=SIGKILL:when={number}"));
    let trace = format!("trace={call}");
    let mut strace = tokio::process::Command::new("strace")
        .args(["-f", "-q", "-q", "-o", "/dev/null", "-e", &trace, "-e", &inject, "-p", &pid])
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .ok()?;
    drop(strace.stderr.take().map(|stderr| BufReader::new(stderr).lines()));
    let traced = || async { is_traced(&pid).then_some(true) };
    let (attached, _) = tokio::time::timeout(SECOND * 5, until("the tracer", SECOND * 10, traced)).await.ok()?;
    attached.then_some(strace)
}

/// Whether every thread of a process has a tracer.
fn is_traced(pid: &str) -> bool {
    let has_tracer = |task: std::fs::DirEntry| {
        let status = std::fs::read_to_string(task.path().join("status")).unwrap_or_default();
        status.lines().any(|line| line.starts_with("TracerPid:") && !line.ends_with("\t0"))
    };
    let tasks = std::fs::read_dir(format!("/proc/{pid}/task"));
    tasks.is_ok_and(|mut tasks| tasks.all(|task| task.is_ok_and(has_tracer)))
}

/// Whether there is a tracer, and it may trace here.
pub(crate) async fn can_trace() -> bool {
    let own = tokio::process::Command::new("strace").args(["-o", "/dev/null", "true"]).output().await;
    own.is_ok_and(|output| output.status.success())
}

/// Dies at every occurrence of every system call in turn, and counts by what it does.
async fn sweep(rotation: Rotation) -> (BTreeMap<&'static str, u32>, u32) {
    let world = world(rotation).await;
    let mut daemon = world.daemon().await;
    world.log_in(&daemon, "demo").await;
    let (mut deaths, mut lost) = (BTreeMap::<&str, u32>::new(), 0);
    let calls = STEPS.iter().flat_map(|(step, calls)| calls.iter().map(move |call| (*step, *call)));
    for (step, call) in calls {
        for number in 1..=DEATHS_MAX {
            let before = world.counters();
            let Some(strace) = kill_at(&daemon, call, number).await else { panic!("strace does not attach") };
            let survived = ask(&daemon).await.unwrap_or(false);
            drop(strace);
            if survived {
                break;
            }
            *deaths.entry(step).or_default() += 1;
            daemon.ended().await;
            daemon = world.daemon().await;
            let kept = judge(&world, &daemon, rotation, before, &format!("{call} number {number}")).await;
            lost += u32::from(!kept);
        }
    }
    assert_eq!(world.counters().families_revoked, u64::from(lost), "no other login ended");
    daemon.kill().await;
    (deaths, lost)
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_at_every_system_call_of_a_refresh() {
    if !can_trace().await {
        assert!(std::env::var_os("GITHUB_ACTIONS").is_none(), "continuous integration has strace");
        println!("(k) SKIPPED: no strace here, so no death at a system call was tried; the other steps were");
        return;
    }
    let began = std::time::Instant::now();
    let sweeps = policies().map(|(policy, rotation)| async move { (policy, sweep(rotation).await) });
    for (policy, (deaths, lost)) in futures_util::future::join_all(sweeps).await {
        println!("(k) killed while {deaths:?}; {policy}: {lost} logins lost that nobody could keep");
        for (step, _) in STEPS {
            assert!(deaths.contains_key(step), "nothing died while {step}: {deaths:?}");
        }
    }
    println!("(k) the sweep took {:.0?}", began.elapsed());
}
