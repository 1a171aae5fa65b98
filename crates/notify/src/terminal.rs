//! The terminal: one thread that writes, behind a bounded queue.
//!
//! A reader that stands still (a stopped pager, Ctrl-S) holds up this thread and nobody else. What
//! nobody waits for any more is not written.

use std::io::Write;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};

use tokio::sync::oneshot;

/// Texts that wait for the terminal; of more, who wants to write is told to come again.
const WAITING_MAX: usize = 256;

/// A text on its way, and who waits for it.
struct Writing {
    text: String,
    /// None = nobody waits, and it is written all the same.
    done: Option<oneshot::Sender<std::io::Result<()>>>,
}

/// Where log channels write. Cheap to clone; all clones share one writer and its thread, which
/// ends with the last of them.
#[derive(Clone)]
pub struct Terminal {
    waiting: SyncSender<Writing>,
    pub(crate) colour: bool,
}

impl Terminal {
    /// A writer, and whether it can show ANSI colours.
    pub fn new(out: Box<dyn Write + Send>, colour: bool) -> Self {
        let (waiting, taken) = sync_channel(WAITING_MAX);
        let thread = std::thread::Builder::new().name("terminal".to_owned());
        if let Err(error) = thread.spawn(move || write_all(out, &taken)) {
            // Every text is then refused with this channel's end as its reason.
            tracing::error!(%error, "the terminal's thread cannot be started");
        }
        Self { waiting, colour }
    }

    /// Standard output, in colour where it is a terminal.
    pub fn stdout() -> Self {
        let out = std::io::stdout();
        let colour = std::io::IsTerminal::is_terminal(&out);
        Self::new(Box::new(out), colour)
    }

    /// Writes a text as soon as the terminal takes it; where too much waits already, not at all.
    pub fn show(&self, text: String) {
        // Whoever is not read has no use for more.
        let _ = self.waiting.try_send(Writing { text, done: None });
    }

    /// Writes a text and waits until it is written. Who gives up waiting takes it back, unless it
    /// is being written.
    pub(crate) async fn write(&self, text: String) -> Result<(), Arc<str>> {
        let (done, written) = oneshot::channel();
        let writing = Writing {
            text,
            done: Some(done),
        };
        match self.waiting.try_send(writing) {
            Ok(()) => {}
            Err(TrySendError::Full(_)) => return Err("nobody reads the terminal".into()),
            Err(TrySendError::Disconnected(_)) => return Err("the terminal is gone".into()),
        }
        match written.await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(error)) => Err(format!("cannot write to the terminal: {error}").into()),
            Err(_) => Err("the terminal is gone".into()),
        }
    }
}

fn write_all(mut out: Box<dyn Write + Send>, taken: &Receiver<Writing>) {
    for Writing { text, done } in taken {
        if done.as_ref().is_some_and(oneshot::Sender::is_closed) {
            continue;
        }
        let written = out.write_all(text.as_bytes()).and_then(|()| out.flush());
        if let Some(done) = done {
            // Nobody may be waiting any more.
            let _ = done.send(written);
        }
    }
}
