//! (r) Traces reach a collector (OTLP over HTTP), and show no secret. A build without the feature
//! says so.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use everfresh_e2e::{Daemon, World, until};
use everfresh_testkit::canary;
use reqwest::Method;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};

/// Set where the binary was built to export traces.
const EXPECTED: &str = "EVERFRESH_EXPECT_TRACES";

const PATIENCE: Duration = Duration::from_secs(20);

/// A caller's trace, as W3C Trace Context writes it.
const TRACEPARENT: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
const TRACE_ID: [u8; 16] =
    [0x4b, 0xf9, 0x2f, 0x35, 0x77, 0xb3, 0x4d, 0xa6, 0xa3, 0xce, 0x92, 0x9d, 0x0e, 0x0e, 0x47, 0x36];

/// What exporters have sent, one after the other.
#[derive(Clone, Default)]
struct Collector(Arc<Mutex<Vec<u8>>>);

impl Collector {
    async fn start() -> (Self, String) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let collector = Self::default();
        let own = collector.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(own.clone().take(stream));
            }
        });
        (collector, url)
    }

    async fn take(self, stream: TcpStream) -> Option<()> {
        let mut stream = BufReader::new(stream);
        loop {
            let (mut line, mut length) = (String::new(), 0);
            while stream.read_line(&mut line).await.ok()? > 2 {
                let header = line.to_ascii_lowercase();
                if let Some(value) = header.strip_prefix("content-length:") {
                    length = value.trim().parse().ok()?;
                }
                line.clear();
            }
            let mut body = vec![0; length];
            stream.read_exact(&mut body).await.ok()?;
            self.0.lock().unwrap().extend(body);
            stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").await.ok()?;
        }
    }

    fn has(&self, part: &[u8]) -> bool {
        self.0.lock().unwrap().windows(part.len()).any(|window| window == part)
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn traces_tell_of_logins_refreshes_and_requests_and_of_no_secret() {
    let world = World::with_lifetime(Duration::from_secs(600)).await;
    let (collector, url) = Collector::start().await;
    let environment = [("OTEL_EXPORTER_OTLP_ENDPOINT", url), ("OTEL_BSP_SCHEDULE_DELAY", "100".to_owned())];
    let daemon = Daemon::start_in(world.folder(), 0, &environment).await;
    if std::env::var_os(EXPECTED).is_none() {
        assert!(daemon.log().contains("build it with --features otel"), "{}", daemon.log());
        daemon.kill().await;
        return;
    }
    world.log_in(&daemon, "demo").await;
    daemon.run(&["refresh", "demo"]).await.expect(0);
    let call = daemon.request(Method::POST, "/mcp/demo").header("traceparent", TRACEPARENT).body("{}");
    call.send().await.unwrap();
    let wanted: [&[u8]; 6] =
        [b"oauth.login", b"oauth.refresh", b"POST /mcp/demo", b"everfresh.attempt_id", b"service.version", &TRACE_ID];
    let mut took = Duration::ZERO;
    for part in wanted {
        let arrived = || async { collector.has(part).then_some(()) };
        took += until(&String::from_utf8_lossy(part), PATIENCE, arrived).await.1;
    }
    println!("(r) spans of a login, a refresh and a request were at the collector {took:.1?} later");
    assert!(!collector.has(b"engine"), "the engine's steps are no spans");
    assert_eq!(canary::found_in(&collector.0.lock().unwrap()), None, "a trace shows a secret");
    assert_eq!(daemon.stop().await, 0);
}
