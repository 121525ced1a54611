//! Request bodies on their way to an upstream, kept for one replay as long as they are small.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
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

/// The copy of a body that has been sent.
#[derive(Clone, Debug, Default)]
pub(super) struct Copy(Arc<Mutex<Kept>>);

impl Copy {
    /// The body, if all of it was sent and kept.
    pub(super) fn whole(&self) -> Option<Bytes> {
        match &*self.0.lock().unwrap_or_else(PoisonError::into_inner) {
            Kept::Whole(chunks) => match chunks.as_slice() {
                [only] => Some(only.clone()),
                chunks => Some(chunks.concat().into()),
            },
            Kept::Nothing | Kept::Partly(..) | Kept::TooLong => None,
        }
    }

    fn passed(&self, chunk: &Bytes, limit: usize) {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (mut chunks, length) = match std::mem::take(&mut *kept) {
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
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        *kept = match std::mem::take(&mut *kept) {
            Kept::Nothing => Kept::Whole(Vec::new()),
            Kept::Partly(chunks, _) | Kept::Whole(chunks) => Kept::Whole(chunks),
            Kept::TooLong => Kept::TooLong,
        };
    }
}

/// A request's body.
pub(super) enum RequestBody {
    /// As it comes from the client, with a copy made on the way.
    Passing { body: Incoming, copy: Copy, limit: usize },
    /// Known before.
    Known(Full<Bytes>),
}

impl RequestBody {
    /// The client's body and the copy that will be of it.
    pub(super) fn passing(body: Incoming, limit: usize) -> (Self, Copy) {
        let copy = Copy::default();
        if body.is_end_stream() {
            copy.ended();
            return (Self::Known(Full::default()), copy);
        }
        (Self::Passing { body, copy: copy.clone(), limit }, copy)
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
            Self::Passing { body, copy, limit } => {
                let frame = std::task::ready!(Pin::new(&mut *body).poll_frame(cx));
                if let Some(Ok(frame)) = &frame
                    && let Some(chunk) = frame.data_ref()
                {
                    copy.passed(chunk, *limit);
                }
                if frame.is_none() || body.is_end_stream() {
                    copy.ended();
                }
                Poll::Ready(frame)
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Known(body) => body.is_end_stream(),
            Self::Passing { body, .. } => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Known(body) => body.size_hint(),
            Self::Passing { body, .. } => body.size_hint(),
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
