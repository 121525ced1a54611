//! The body of an answer on its way to the client.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::uri::PathAndQuery;
use http_body_util::Full;
use hyper::body::{Body, Frame, SizeHint};

use super::endpoint::{EndpointError, FirstEvent, Seals};
use super::pool::ResponseBody;
use super::{Prepared, Shared};

/// Why an answer breaks off.
#[derive(Debug, thiserror::Error)]
pub enum BodyError {
    /// The upstream's broke off.
    #[error("the upstream's answer broke off")]
    Upstream(#[source] hyper::Error),
    /// It is a stream that would lead the client astray.
    #[error(transparent)]
    Endpoint(#[from] EndpointError),
}

/// What goes back to the client.
pub struct ProxyBody(pub(super) Inner);

pub(super) enum Inner {
    /// The upstream's, as it comes.
    Upstream(ResponseBody),
    /// The upstream's stream of events, whose first may be an endpoint.
    Events(Box<Events>),
    /// Our own words.
    Own(Full<Bytes>),
}

impl Body for ProxyBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        match &mut self.0 {
            Inner::Upstream(body) => Pin::new(body).poll_frame(cx).map_err(BodyError::Upstream),
            Inner::Events(events) => events.poll_frame(cx),
            Inner::Own(body) => Pin::new(body).poll_frame(cx).map_err(|never| match never {}),
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.0 {
            Inner::Upstream(body) => body.is_end_stream(),
            Inner::Events(events) => events.is_end_stream(),
            Inner::Own(body) => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.0 {
            Inner::Upstream(body) => body.size_hint(),
            // An endpoint that leads through here is longer.
            Inner::Events(_) => SizeHint::default(),
            Inner::Own(body) => body.size_hint(),
        }
    }
}

/// The path under which a client knows the upstream, and the request whose answer is a stream.
pub(super) struct Asked {
    pub(super) place: String,
    pub(super) target: PathAndQuery,
}

/// A stream of events, looked at up to the end of the first.
pub(super) struct Events {
    /// `None` once it has ended.
    body: Option<ResponseBody>,
    /// `None` once it is over.
    first: Option<FirstEvent>,
    /// What came behind bytes that were held back.
    next: Option<Frame<Bytes>>,
    asked: Asked,
    prepared: Arc<Prepared>,
    shared: Arc<Shared>,
}

impl Events {
    pub(super) fn new(body: ResponseBody, asked: Asked, prepared: Arc<Prepared>, shared: Arc<Shared>) -> Self {
        Self { body: Some(body), first: Some(FirstEvent::default()), next: None, asked, prepared, shared }
    }

    fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        loop {
            if let Some(frame) = self.next.take() {
                return Poll::Ready(Some(Ok(frame)));
            }
            let Some(body) = &mut self.body else { return Poll::Ready(None) };
            let frame = ready!(Pin::new(body).poll_frame(cx)).transpose().map_err(BodyError::Upstream)?;
            let Some(first) = &mut self.first else { return Poll::Ready(frame.map(Ok)) };
            let bytes = match frame.map(Frame::into_data) {
                Some(Ok(chunk)) => {
                    let (asked, prepared, seals) = (&self.asked, &self.prepared, &self.shared.seals);
                    match first.push(&chunk, |url| asked.endpoint(url, prepared, seals)) {
                        Ok(passed) => {
                            self.first = self.first.take().filter(|_| !passed.is_over);
                            passed.bytes
                        }
                        Err(error) => return Poll::Ready(Some(Err(self.cut(error)))),
                    }
                }
                Some(Err(trailers)) => {
                    self.next = Some(trailers);
                    self.first.take().map_or_else(Bytes::new, FirstEvent::end)
                }
                None => {
                    self.body = None;
                    self.first.take().map_or_else(Bytes::new, FirstEvent::end)
                }
            };
            if !bytes.is_empty() {
                return Poll::Ready(Some(Ok(Frame::data(bytes))));
            }
        }
    }

    /// Ends the stream before the client learns of an endpoint that would have its key.
    fn cut(&mut self, error: EndpointError) -> BodyError {
        (self.body, self.first) = (None, None);
        tracing::error!(server = %self.prepared.route.grant, %error, "a stream is cut: its endpoint must be at the server's own origin");
        error.into()
    }

    fn is_end_stream(&self) -> bool {
        self.next.is_none()
            && self.first.as_ref().is_none_or(FirstEvent::is_empty)
            && self.body.as_ref().is_none_or(Body::is_end_stream)
    }
}

impl Asked {
    /// Where a client is to post, whom the upstream sends to `url`. Its query stays readable:
    /// clients look for a session's id there.
    fn endpoint(&self, url: &str, prepared: &Prepared, seals: &Seals) -> Result<String, EndpointError> {
        let target = prepared.url.resolve(&self.target, url).ok_or(EndpointError::NoUrl)?;
        if !prepared.url.is_same_origin(&target) {
            return Err(EndpointError::OtherOrigin(target.origin().ascii_serialization()));
        }
        let tail = seals.seal(&prepared.route, target.path());
        let query = target.query().map_or_else(String::new, |query| format!("?{query}"));
        Ok(format!("{}{tail}{query}", self.place))
    }
}
