//! An upstream that does with its connections what a test wants.

use std::future::Future;
use std::sync::Arc;

use tokio::net::TcpListener;
use tokio::sync::Mutex;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

use crate::home::within;
use crate::wire::{Message, Wire};

/// The upstream. It tells of what it reads.
pub(crate) struct Stub {
    pub(crate) origin: String,
    told: Mutex<UnboundedReceiver<Message>>,
}

/// Where an upstream tells of what it reads.
pub(crate) type Teller = UnboundedSender<Message>;

impl Stub {
    /// Hands every connection, with its number, to `serve`.
    pub(crate) async fn start<F, Fut>(serve: F) -> Self
    where
        F: Fn(usize, Wire, Teller) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = ()> + Send + 'static,
    {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let origin = format!("http://{}", listener.local_addr().unwrap());
        let (teller, told) = unbounded_channel();
        tokio::spawn(async move {
            let mut number = 0;
            while let Ok((stream, _)) = listener.accept().await {
                stream.set_nodelay(true).unwrap();
                tokio::spawn(serve(number, Wire::new(stream), teller.clone()));
                number += 1;
            }
        });
        Self { origin, told: Mutex::new(told) }
    }

    /// Answers every request with these bytes, on connections that it keeps.
    pub(crate) async fn replying(answer: impl Into<Vec<u8>>) -> Self {
        Self::replying_in_turn([answer.into()]).await
    }

    /// Answers the requests of a connection with these bytes in turn, the last again and again.
    pub(crate) async fn replying_in_turn<const N: usize>(answers: [Vec<u8>; N]) -> Self {
        let answers = Arc::new(answers);
        Self::start(move |_, mut wire, teller| {
            let answers = Arc::clone(&answers);
            async move {
                let mut turn = 0;
                while let Some(request) = wire.request().await {
                    drop(teller.send(request));
                    wire.write(&answers[turn]).await;
                    turn = (turn + 1).min(N - 1);
                }
            }
        })
        .await
    }

    /// What it tells next.
    pub(crate) async fn next(&self) -> Message {
        within("a word of the upstream", async { self.told.lock().await.recv().await.unwrap() }).await
    }

    /// What it has told and nobody has heard.
    pub(crate) async fn pending(&self) -> usize {
        self.told.lock().await.len()
    }
}

/// An answer with a length.
pub(crate) fn ok(body: &str) -> Vec<u8> {
    format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{body}", body.len()).into_bytes()
}
