//! A connection's bytes, watched: an answer that nobody reads is broken off.

use std::future::Future as _;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Sleep, sleep};

use super::door::Slot;

/// Whoever reads fewer bytes than this within the time has not gone on.
const STEP_BYTES: usize = 16 * 1024;

/// A stream whose writes must make progress.
pub(super) struct Watched<S> {
    stream: S,
    slot: Arc<Slot>,
    stall: Duration,
    /// Ends the wait for the other end; there while it is waited for.
    deadline: Option<Pin<Box<Sleep>>>,
    /// Bytes that were written since the deadline was set.
    written_bytes: usize,
}

impl<S> Watched<S> {
    pub(super) fn new(stream: S, slot: Arc<Slot>, stall: Duration) -> Self {
        Self {
            stream,
            slot,
            stall,
            deadline: None,
            written_bytes: 0,
        }
    }

    fn after_write(
        &mut self,
        cx: &mut Context<'_>,
        polled: Poll<io::Result<usize>>,
    ) -> Poll<io::Result<usize>> {
        match polled {
            Poll::Ready(Ok(bytes)) => {
                self.written_bytes += bytes;
                if self.deadline.is_some() && self.written_bytes >= STEP_BYTES {
                    self.deadline = None;
                    self.slot.progressed();
                }
                Poll::Ready(Ok(bytes))
            }
            Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
            Poll::Pending => {
                let (stall, slot) = (self.stall, &self.slot);
                let written_bytes = &mut self.written_bytes;
                let deadline = self.deadline.get_or_insert_with(|| {
                    slot.awaits();
                    *written_bytes = 0;
                    Box::pin(sleep(stall))
                });
                match deadline.as_mut().poll(cx) {
                    Poll::Pending => Poll::Pending,
                    Poll::Ready(()) => {
                        super::door::count("closed", "unread");
                        Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
                    }
                }
            }
        }
    }

    /// All that was to be written is written.
    fn flushed(&mut self) {
        if self.deadline.take().is_some() {
            self.slot.goes_on();
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Watched<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, into)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Watched<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.stream).poll_write(cx, bytes);
        self.after_write(cx, polled)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.stream).poll_write_vectored(cx, parts);
        self.after_write(cx, polled)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let polled = Pin::new(&mut self.stream).poll_flush(cx);
        if polled.is_ready() {
            self.flushed();
        }
        polled
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, duplex};
    use tokio::time::Instant;

    use super::*;
    use crate::http::bounds::Bounds;
    use crate::http::door::Door;

    const STALL: Duration = Duration::from_secs(10);

    #[tokio::test(start_paused = true)]
    async fn an_answer_that_nobody_reads_is_broken_off() {
        let door = Door::new(Bounds::default());
        let ticket = door.enter(IpAddr::from([127, 0, 0, 1])).unwrap();
        let (ours, _theirs) = duplex(1000);
        let mut watched = Watched::new(ours, Arc::clone(&ticket.slot), STALL);
        let began = Instant::now();
        let error = watched.write_all(&[0; 2000]).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        assert_eq!(began.elapsed().as_secs(), STALL.as_secs());
    }

    #[tokio::test(start_paused = true)]
    async fn who_reads_slowly_is_waited_for_and_who_drips_is_not() {
        for (bytes, is_whole) in [(8 * 1024, true), (100, false)] {
            let door = Door::new(Bounds::default());
            let ticket = door.enter(IpAddr::from([127, 0, 0, 1])).unwrap();
            let (ours, mut theirs) = duplex(4096);
            let mut watched = Watched::new(ours, Arc::clone(&ticket.slot), STALL);
            let reader = tokio::spawn(async move {
                let mut part = vec![0; bytes];
                while theirs.read(&mut part).await.is_ok_and(|read| read > 0) {
                    tokio::time::sleep(STALL / 5).await;
                }
            });
            let written = watched.write_all(&[0; 200 * 1024]).await;
            assert_eq!(written.is_ok(), is_whole, "{bytes} bytes in a fifth of it");
            drop(watched);
            reader.await.unwrap();
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_stream_that_has_nothing_to_write_is_not_broken_off() {
        let door = Door::new(Bounds::default());
        let ticket = door.enter(IpAddr::from([127, 0, 0, 1])).unwrap();
        let (ours, mut theirs) = duplex(100);
        let mut watched = Watched::new(ours, Arc::clone(&ticket.slot), STALL);
        for _ in 0..3 {
            let reader = async { theirs.read_exact(&mut [0; 150]).await.unwrap() };
            let writer = async {
                watched.write_all(&[0; 150]).await.unwrap();
                watched.flush().await.unwrap();
            };
            tokio::join!(writer, reader);
            tokio::time::advance(STALL * 5).await;
        }
    }
}
