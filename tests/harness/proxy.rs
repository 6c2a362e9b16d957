//! A proxy before a server, which can fall silent: its connections stay open, and nothing comes through.
//! Or they are cut, and nobody can connect.

use std::{
    io::{Read, Write},
    net::{Shutdown, SocketAddr, TcpListener, TcpStream},
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    thread,
};

/// Carries bytes between clients and one address, until the test's process ends.
pub struct Proxy {
    address: SocketAddr,
    line: Arc<Line>,
}

#[derive(Default)]
struct Line {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Clone, Copy, Default, PartialEq, Eq)]
enum State {
    #[default]
    Open,
    Silent,
    Cut,
}

impl Proxy {
    /// Before this address, `host:port`.
    pub fn new(to: &str) -> Proxy {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("it listens");
        let line = Arc::new(Line::default());
        let (to, carries) = (to.to_owned(), line.clone());
        thread::spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                // Whoever cannot be carried is hung up on.
                if *carries.lock() == State::Cut {
                    continue;
                }
                let Ok(server) = TcpStream::connect(&to) else {
                    continue;
                };
                for (from, to) in [(&client, &server), (&server, &client)] {
                    let ends = (from.try_clone(), to.try_clone());
                    let (Ok(from), Ok(to)) = ends else { continue };
                    let line = carries.clone();
                    thread::spawn(move || line.carry(from, to));
                }
            }
        });
        Proxy { address, line }
    }

    /// Where clients find it.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Carries nothing from now on, or all again, with what has waited.
    pub fn silence(&self, silent: bool) {
        self.line.set(match silent {
            true => State::Silent,
            false => State::Open,
        });
    }

    /// Cuts each connection that is used from now on, or lets clients connect again.
    pub fn cut(&self, cut: bool) {
        self.line.set(match cut {
            true => State::Cut,
            false => State::Open,
        });
    }
}

impl Line {
    fn set(&self, state: State) {
        *self.lock() = state;
        self.changed.notify_all();
    }

    fn carry(&self, mut from: TcpStream, mut to: TcpStream) {
        let mut bytes = vec![0; 64 << 10];
        while let Ok(read @ 1..) = from.read(&mut bytes) {
            let state = self.lock();
            let silent = |state: &mut State| *state == State::Silent;
            let state = self.changed.wait_while(state, silent);
            let cut = *state.unwrap_or_else(PoisonError::into_inner) == State::Cut;
            if cut || to.write_all(&bytes[..read]).is_err() {
                break;
            }
        }
        to.shutdown(Shutdown::Write).ok();
        from.shutdown(Shutdown::Read).ok();
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
