//! The dialer over real sockets: straight, through a tunnel, and in words where it fails.

use everfresh_application::ServerSettings;
use everfresh_application::ports::Dialer;
use everfresh_infrastructure::dialer::NetDialer;
use everfresh_infrastructure::http::HttpFactory;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::raw::{Raw, Reply};

fn server(url: &str) -> ServerSettings {
    ServerSettings::new("linear".parse().unwrap(), url)
}

#[tokio::test]
async fn a_plain_connection_carries_bytes_both_ways() {
    let raw = Raw::start().await;
    raw.at("/", Reply::http("204 No Content", "", ""));
    let dialer = NetDialer::new(HttpFactory::new());
    let mut stream = dialer.dial(&server(&raw.origin)).await.unwrap();
    stream.write_all(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 204"), "{answer}");
}

#[tokio::test]
async fn a_failure_names_the_host_and_the_cause() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let origin = format!("http://{}", listener.local_addr().unwrap());
    drop(listener);
    let error = NetDialer::new(HttpFactory::new()).dial(&server(&origin)).await.err().unwrap();
    assert!(error.to_string().contains("127.0.0.1") && error.to_string().contains("refused"), "{error}");
}
