//! The model over HTTP on loopback, with an admin endpoint for tests in other processes.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use http::Method;
use serde::de::DeserializeOwned;
use serde_json::json;

use super::model::{Form, Model};
use super::reply::Reply;
use crate::canary;
use crate::serving::{Received, Serving, now, send, serve};

/// An authorization server that runs until it is dropped. Cloning the model's handle is cheap.
pub struct ProviderServer {
    url: String,
    model: Arc<Mutex<Model>>,
    _serving: Serving,
}

impl ProviderServer {
    /// Serves `model` on a free port of this machine.
    pub async fn start(model: Model) -> io::Result<Self> {
        Self::start_at((Ipv4Addr::LOCALHOST, 0).into(), model).await
    }

    /// Serves `model` at `address`.
    pub async fn start_at(address: SocketAddr, model: Model) -> io::Result<Self> {
        Self::serve(address, Arc::new(Mutex::new(model))).await
    }

    /// Serves a model that outlives this server: stopping and starting it is an outage.
    pub async fn serve(address: SocketAddr, model: Arc<Mutex<Model>>) -> io::Result<Self> {
        let shared = Arc::clone(&model);
        let serving = serve(address, move |received| {
            let reply = answer(&shared, &received);
            async move { send(reply).await }
        })
        .await?;
        let url = format!("http://{}", serving.address);
        model.lock().unwrap_or_else(PoisonError::into_inner).issuer.clone_from(&url);
        Ok(Self { url, model, _serving: serving })
    }

    /// Its issuer.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self._serving.address
    }

    /// Looks at the model, or changes it.
    pub fn with<T>(&self, look: impl FnOnce(&mut Model) -> T) -> T {
        look(&mut self.model.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// The model itself, which outlives the server.
    pub fn model(&self) -> Arc<Mutex<Model>> {
        Arc::clone(&self.model)
    }
}

fn answer(model: &Mutex<Model>, received: &Received) -> Reply {
    let mut model = model.lock().unwrap_or_else(PoisonError::into_inner);
    let not_found = Reply { status: 404, ..Reply::default() };
    match (&received.method, received.uri.path()) {
        (&Method::GET, "/.well-known/oauth-authorization-server" | "/.well-known/openid-configuration") => {
            model.metadata()
        }
        (&Method::GET, "/authorize") => {
            let query = form(received.uri.query().unwrap_or_default().as_bytes());
            keep(&query, "state");
            model.authorize(&query)
        }
        (&Method::POST, "/register") => {
            model.register(now(), &serde_json::from_slice(&received.body).unwrap_or_default())
        }
        (&Method::POST, "/token") if model.switches.old_token_endpoint_gone => not_found,
        (&Method::POST, "/token" | "/oauth/token") => {
            let basic = basic(received);
            let basic = basic.as_ref().map(|(id, secret)| (id.as_str(), secret.as_str()));
            let (url, form) = (received.url(), form(&received.body));
            keep(&form, "code_verifier");
            model.token_proven(now(), &form, basic, received.proof(&url).as_ref())
        }
        (&Method::POST, "/device") => model.authorize_device(now(), &form(&received.body)),
        (&Method::POST, "/revoke") => model.revoke(&form(&received.body)),
        (method, path) => match path.strip_prefix("/admin/") {
            Some(what) => admin(&mut model, method, what, &received.body).unwrap_or(not_found),
            None => not_found,
        },
    }
}

/// What a test in another process may look at and change.
fn admin(model: &mut Model, method: &Method, what: &str, body: &[u8]) -> Option<Reply> {
    let done = Some(Reply { status: 204, ..Reply::default() });
    match (method, what) {
        (&Method::GET, "counters") => Some(Reply::json(200, &json!(model.counters))),
        (&Method::GET, "switches") => Some(Reply::json(200, &json!(model.switches))),
        (&Method::GET, "behaviour") => Some(Reply::json(200, &json!(model.behaviour))),
        (&Method::PUT, "switches") => Some(taken(body, &mut model.switches)),
        (&Method::PUT, "behaviour") => Some(taken(body, &mut model.behaviour)),
        (&Method::POST, "revoke-all") => {
            model.revoke_all();
            done
        }
        (&Method::POST, "expire-access-tokens") => {
            model.expire_access_tokens();
            done
        }
        (&Method::POST, "forget-clients") => {
            model.forget_clients();
            done
        }
        _ => None,
    }
}

/// Takes over what was sent, or says what is wrong with it and leaves all as it was.
fn taken<T: DeserializeOwned>(body: &[u8], into: &mut T) -> Reply {
    match serde_json::from_slice(body) {
        Ok(sent) => {
            *into = sent;
            Reply { status: 204, ..Reply::default() }
        }
        Err(error) => Reply { status: 400, body: error.to_string(), ..Reply::default() },
    }
}

/// A secret of the client's, which everfresh must not show either.
fn keep(form: &Form, name: &str) {
    form.get(name).into_iter().for_each(|secret| canary::keep(secret));
}

fn form(bytes: &[u8]) -> Form {
    url::form_urlencoded::parse(bytes).into_owned().collect()
}

/// Basic credentials, form-decoded as RFC 6749 section 2.3.1 wants it.
fn basic(received: &Received) -> Option<(String, String)> {
    let header = received.headers.get(http::header::AUTHORIZATION)?.to_str().ok()?.strip_prefix("Basic ")?;
    let decoded = String::from_utf8(BASE64_STANDARD.decode(header).ok()?).ok()?;
    let (id, secret) = decoded.split_once(':')?;
    let text = |encoded: &str| form(format!("x={encoded}").as_bytes()).remove("x");
    Some((text(id)?, text(secret)?))
}
