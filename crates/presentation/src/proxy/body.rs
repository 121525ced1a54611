//! Request bodies on their way to an upstream, kept for one replay as long as they are small.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::{Body, Frame, Incoming, SizeHint};

/// What has passed of a body.
#[derive(Debug, Default)]
enum Kept {
    /// So much, and more may come.
    #[default]
    Nothing,
    /// These chunks, and more may come.
    Partly(Vec<Bytes>, usize),
    /// All of it.
    Whole(Vec<Bytes>),
    /// More than is kept.
    TooLong,
}

/// The copy of a body that has been sent, and what the client still has of it.
#[derive(Clone, Debug, Default)]
pub(super) struct Copy(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    kept: Kept,
    /// Where sending broke off, more can be had here.
    rest: Option<Incoming>,
}

impl Copy {
    /// The body, all of it, unless it is longer than `limit`. What has not been sent yet is waited
    /// for: an upstream may have answered to the head alone.
    pub(super) async fn complete(&self, limit: usize) -> Option<Bytes> {
        let rest = self.lock().rest.take();
        if let Some(body) = rest {
            let mut rest = Passing { body: Some(body), copy: self.clone(), limit };
            while self.may_be_whole()
                && let Some(frame) = std::future::poll_fn(|cx| rest.poll_frame(cx)).await
            {
                frame.ok()?;
            }
        }
        self.whole()
    }

    /// The body, if all of it was sent and kept.
    fn whole(&self) -> Option<Bytes> {
        match &self.lock().kept {
            Kept::Whole(chunks) => match chunks.as_slice() {
                [only] => Some(only.clone()),
                chunks => Some(chunks.concat().into()),
            },
            Kept::Nothing | Kept::Partly(..) | Kept::TooLong => None,
        }
    }

    fn passed(&self, chunk: &Bytes, limit: usize) {
        let kept = &mut self.lock().kept;
        let (mut chunks, length) = match std::mem::take(kept) {
            Kept::Nothing => (Vec::new(), 0),
            Kept::Partly(chunks, length) => (chunks, length),
            Kept::Whole(_) | Kept::TooLong => (Vec::new(), usize::MAX),
        };
        let length = length.saturating_add(chunk.len());
        *kept = if length > limit {
            Kept::TooLong
        } else {
            chunks.push(chunk.clone());
            Kept::Partly(chunks, length)
        };
    }

    fn ended(&self) {
        let kept = &mut self.lock().kept;
        *kept = match std::mem::take(kept) {
            Kept::Nothing => Kept::Whole(Vec::new()),
            Kept::Partly(chunks, _) | Kept::Whole(chunks) => Kept::Whole(chunks),
            Kept::TooLong => Kept::TooLong,
        };
    }

    fn may_be_whole(&self) -> bool {
        !matches!(self.lock().kept, Kept::TooLong)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A request's body.
pub(super) enum RequestBody {
    /// As it comes from the client, with a copy made on the way.
    Passing(Passing),
    /// Known before.
    Known(Full<Bytes>),
}

/// A body on its way. Dropped before its end, it leaves the rest with its copy.
pub(super) struct Passing {
    /// `None` once it has ended.
    body: Option<Incoming>,
    copy: Copy,
    limit: usize,
}

impl Passing {
    fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let Some(body) = &mut self.body else { return Poll::Ready(None) };
        let frame = std::task::ready!(Pin::new(&mut *body).poll_frame(cx));
        if let Some(Ok(frame)) = &frame
            && let Some(chunk) = frame.data_ref()
        {
            self.copy.passed(chunk, self.limit);
        }
        if frame.is_none() || body.is_end_stream() {
            self.body = None;
            self.copy.ended();
        }
        Poll::Ready(frame)
    }
}

impl Drop for Passing {
    fn drop(&mut self) {
        let rest = self.body.take();
        self.copy.lock().rest = rest;
    }
}

impl RequestBody {
    /// The client's body and the copy that will be of it.
    pub(super) fn passing(body: Incoming, limit: usize) -> (Self, Copy) {
        let copy = Copy::default();
        if body.is_end_stream() {
            copy.ended();
            return (Self::Known(Full::default()), copy);
        }
        (Self::Passing(Passing { body: Some(body), copy: copy.clone(), limit }), copy)
    }

    pub(super) fn known(bytes: Bytes) -> Self {
        Self::Known(Full::new(bytes))
    }
}

impl Body for RequestBody {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        match &mut *self {
            Self::Known(body) => {
                let frame = std::task::ready!(Pin::new(body).poll_frame(cx));
                Poll::Ready(frame.map(|frame: Result<_, Infallible>| Ok(frame.unwrap_or_else(|never| match never {}))))
            }
            Self::Passing(passing) => passing.poll_frame(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Known(body) => body.is_end_stream(),
            Self::Passing(Passing { body, .. }) => body.as_ref().is_none_or(Body::is_end_stream),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Known(body) => body.size_hint(),
            Self::Passing(Passing { body, .. }) => {
                body.as_ref().map_or_else(|| SizeHint::with_exact(0), Body::size_hint)
            }
        }
    }
}

/// A whole body, if it is no longer than `limit`.
pub(super) async fn collected(body: Incoming, limit: usize) -> Option<Bytes> {
    Some(Limited::new(body, limit).collect().await.ok()?.to_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_copy_is_whole_only_when_all_has_passed_within_the_limit() {
        let copy = Copy::default();
        copy.passed(&Bytes::from_static(b"ab"), 4);
        assert_eq!(copy.whole(), None);
        copy.passed(&Bytes::from_static(b"cd"), 4);
        copy.ended();
        assert_eq!(copy.whole().unwrap(), "abcd");
        let long = Copy::default();
        long.passed(&Bytes::from_static(b"abcde"), 4);
        long.passed(&Bytes::from_static(b"f"), 4);
        long.ended();
        assert_eq!(long.whole(), None);
        let empty = Copy::default();
        empty.ended();
        assert_eq!(empty.whole().unwrap(), "");
    }
}
