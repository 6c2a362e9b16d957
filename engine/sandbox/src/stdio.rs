//! Standard output and error of guests that have them: their lines go to the log.
//!
//! Nothing is ever written to the standard streams of the engine itself.

use std::{
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll},
};

use bytes::Bytes;
use tokio::io::AsyncWrite;
use wasmtime_wasi::{
    cli::{IsTerminal, StdoutStream},
    p2::{OutputStream, Pollable, StreamError, StreamResult},
};

use crate::output::{Output, Stream};

/// How much a guest may write at a time.
const PERMIT: usize = 64 << 10;

/// The output of the attempt that an instance serves: what it opened outlives an attempt if it is reused.
pub(crate) struct Current(Mutex<Arc<Output>>);

impl Current {
    pub(crate) fn new(output: Arc<Output>) -> Current {
        Current(Mutex::new(output))
    }

    pub(crate) fn set(&self, output: Arc<Output>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = output;
    }

    fn get(&self) -> Arc<Output> {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }
}

/// One end of a guest's stream. All ends of one stream share the line that is begun.
#[derive(Clone)]
pub(crate) struct Lines {
    pub(crate) output: Arc<Current>,
    pub(crate) stream: Stream,
}

impl StdoutStream for Lines {
    fn async_stream(&self) -> Box<dyn AsyncWrite + Send + Sync> {
        Box::new(self.clone())
    }

    fn p2_stream(&self) -> Box<dyn OutputStream> {
        Box::new(self.clone())
    }
}

impl IsTerminal for Lines {
    fn is_terminal(&self) -> bool {
        false
    }
}

impl OutputStream for Lines {
    fn write(&mut self, bytes: Bytes) -> StreamResult<()> {
        self.output
            .get()
            .write(self.stream, &bytes)
            .map_err(|error| StreamError::Trap(wasmtime::Error::new(error)))
    }

    fn flush(&mut self) -> StreamResult<()> {
        Ok(())
    }

    fn check_write(&mut self) -> StreamResult<usize> {
        Ok(PERMIT)
    }
}

#[wasmtime_wasi::async_trait]
impl Pollable for Lines {
    async fn ready(&mut self) {}
}

/// [`StdoutStream`] asks for this side too; components of WASI 0.2 use the one above.
impl AsyncWrite for Lines {
    fn poll_write(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<std::io::Result<usize>> {
        Poll::Ready(match self.output.get().write(self.stream, bytes) {
            Ok(()) => Ok(bytes.len()),
            Err(error) => Err(std::io::Error::other(error)),
        })
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}
