//! The bodies on the way in and out: the first is held to the message limit, the second tells how the
//! call ended.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use tonic::{Code, Status};

use super::trace::Call;

type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// gRPC's length-prefixed message: a byte for compression, then four of length, big endian.
const PREFIX: usize = 5;

/// A request's body whose messages are at most so long. It looks at the prefixes only.
pub(super) struct Limited<B> {
    inner: Pin<Box<B>>,
    limit: usize,
    prefix: [u8; PREFIX],
    have: usize,
    /// Of the present message, still to come.
    remaining: usize,
}

impl<B> Limited<B> {
    pub(super) fn new(inner: B, limit: usize) -> Self {
        Self { inner: Box::pin(inner), limit, prefix: [0; PREFIX], have: 0, remaining: 0 }
    }

    fn check(&mut self, mut data: &[u8]) -> Result<(), Status> {
        while !data.is_empty() {
            if self.remaining > 0 {
                let skipped = self.remaining.min(data.len());
                self.remaining -= skipped;
                data = &data[skipped..];
                continue;
            }
            let taken = (PREFIX - self.have).min(data.len());
            self.prefix[self.have..self.have + taken].copy_from_slice(&data[..taken]);
            self.have += taken;
            data = &data[taken..];
            if self.have == PREFIX {
                let [_, a, b, c, d] = self.prefix;
                let length =
                    usize::try_from(u32::from_be_bytes([a, b, c, d])).unwrap_or(usize::MAX);
                if length > self.limit {
                    let limit = self.limit;
                    return Err(Status::resource_exhausted(format!(
                        "the message has {length} bytes, at most {limit} are allowed"
                    )));
                }
                (self.have, self.remaining) = (0, length);
            }
        }
        Ok(())
    }
}

impl<B> Body for Limited<B>
where
    B: Body<Data = Bytes>,
    B::Error: Into<BoxError>,
{
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let frame = match ready!(self.inner.as_mut().poll_frame(cx)) {
            Some(Ok(frame)) => frame,
            Some(Err(error)) => return Poll::Ready(Some(Err(error.into()))),
            None => return Poll::Ready(None),
        };
        let checked = frame.data_ref().map_or(Ok(()), |data| self.check(data));
        Poll::Ready(Some(checked.map(|()| frame).map_err(Into::into)))
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

/// A response's body that ends its call: with the code in the trailers, as cancelled when it is
/// dropped before them.
pub(super) struct Watched<B> {
    inner: Pin<Box<B>>,
    call: Option<Call>,
}

impl<B> Watched<B> {
    pub(super) fn new(inner: B, call: Option<Call>) -> Self {
        Self { inner: Box::pin(inner), call }
    }
}

impl<B> Body for Watched<B>
where
    B: Body<Data = Bytes>,
    B::Error: Into<BoxError>,
{
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let this = &mut *self;
        let polled = {
            let _in_span = this.call.as_ref().map(|call| call.span().enter());
            ready!(this.inner.as_mut().poll_frame(cx))
        };
        let code = match &polled {
            None => Some(Code::Unknown), // gRPC ends with trailers.
            Some(Err(_)) => Some(Code::Unknown),
            Some(Ok(frame)) => frame.trailers_ref().map(|trailers| {
                Status::from_header_map(trailers).map_or(Code::Unknown, |status| status.code())
            }),
        };
        if let Some((code, call)) = code.and_then(|code| Some((code, this.call.take()?))) {
            call.end(code);
        }
        Poll::Ready(polled.map(|frame| frame.map_err(Into::into)))
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}
