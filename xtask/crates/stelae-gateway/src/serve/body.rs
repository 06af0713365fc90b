//! A body that is looked at on its way out.

use std::pin::Pin;
use std::task::{Context, Poll};

use axum::body::{Body, Bytes, HttpBody};
use http_body::{Frame, SizeHint};

/// The same body. `look` sees each piece of it, and is dropped with it: when the last piece was handed over, or nobody wants
/// any more.
pub(crate) fn looked_at(body: Body, look: impl FnMut(&Bytes) + Send + Unpin + 'static) -> Body {
    Body::new(LookedAt { body, look })
}

struct LookedAt<L> {
    body: Body,
    look: L,
}

impl<L: FnMut(&Bytes) + Unpin> HttpBody for LookedAt<L> {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let frame = Pin::new(&mut self.body).poll_frame(cx);
        if let Poll::Ready(Some(Ok(frame))) = &frame
            && let Some(piece) = frame.data_ref()
        {
            (self.look)(piece);
        }
        frame
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
