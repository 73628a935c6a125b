//! A connection that can be looked at while a request is served.

use std::io;
use std::pin::{Pin, pin};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::task::{Context, Poll, Waker};

use payjoin_core::Timestamp;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::{Payer, Stream};

/// Its bytes, for the one who serves it.
pub(super) struct Line(Arc<Shared>);

type Shared = Mutex<Box<dyn Stream>>;

/// Whether the payer is there, for whoever makes the reply. It does not keep the connection open.
#[derive(Clone, Debug)]
pub(super) struct End(Weak<Shared>);

/// What a payer says after his request is read away, so much at most.
const READS: usize = 16;

impl Line {
    pub(super) fn new(stream: Box<dyn Stream>) -> Self {
        Self(Arc::new(Mutex::new(stream)))
    }

    pub(super) fn end(&self) -> End {
        End(Arc::downgrade(&self.0))
    }

    fn with<T>(&self, act: impl FnOnce(Pin<&mut dyn Stream>) -> T) -> T {
        act(Pin::new(&mut **lock(&self.0)))
    }
}

fn lock(shared: &Shared) -> MutexGuard<'_, Box<dyn Stream>> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A payer who has closed his sending side counts as gone: to tell him from one who left, he would have to be answered.
impl Payer for End {
    fn waits(&self, _: Timestamp) -> bool {
        let Some(shared) = self.0.upgrade() else { return false };
        let mut stream = lock(&shared);
        // hyper reads nothing while it waits for the reply: nobody else wants to be woken.
        let mut context = Context::from_waker(Waker::noop());
        for _ in 0..READS {
            let mut rest = [0; 512];
            let mut rest = ReadBuf::new(&mut rest);
            match pin!(&mut **stream).poll_read(&mut context, &mut rest) {
                Poll::Pending => return true,
                Poll::Ready(Ok(())) if !rest.filled().is_empty() => {}
                Poll::Ready(_) => return false,
            }
        }
        true
    }
}

impl AsyncRead for Line {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        self.with(|stream| stream.poll_read(cx, buf))
    }
}

impl AsyncWrite for Line {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.with(|stream| stream.poll_write(cx, bytes))
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.with(|stream| stream.poll_flush(cx))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.with(|stream| stream.poll_shutdown(cx))
    }
}
