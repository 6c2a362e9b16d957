//! A proxy before a broker, which can fall silent: its connections stay open, and nothing comes through.

use std::{
    io::{Read, Write},
    net::{Shutdown, SocketAddr, TcpListener, TcpStream},
    sync::{Arc, Condvar, Mutex, PoisonError},
    thread,
};

/// Carries bytes between clients and one address, until the test's process ends.
pub struct Proxy {
    address: SocketAddr,
    silence: Arc<Silence>,
}

#[derive(Default)]
struct Silence {
    silent: Mutex<bool>,
    ended: Condvar,
}

impl Proxy {
    /// Before this address, `host:port`.
    pub fn new(to: &str) -> Proxy {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("it listens");
        let silence = Arc::new(Silence::default());
        let (to, carries) = (to.to_owned(), silence.clone());
        thread::spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                // Whoever cannot be carried is hung up on.
                let Ok(server) = TcpStream::connect(&to) else {
                    continue;
                };
                for (from, to) in [(&client, &server), (&server, &client)] {
                    let ends = (from.try_clone(), to.try_clone());
                    let (Ok(from), Ok(to)) = ends else { continue };
                    let silence = carries.clone();
                    thread::spawn(move || silence.carry(from, to));
                }
            }
        });
        Proxy { address, silence }
    }

    /// Where clients find it.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Carries nothing from now on, or all again, with what has waited.
    pub fn silence(&self, silent: bool) {
        *self.silence.lock() = silent;
        self.silence.ended.notify_all();
    }
}

impl Silence {
    fn carry(&self, mut from: TcpStream, mut to: TcpStream) {
        let mut bytes = vec![0; 64 << 10];
        while let Ok(read @ 1..) = from.read(&mut bytes) {
            let silent = self.lock();
            let ended = self.ended.wait_while(silent, |silent| *silent);
            drop(ended.unwrap_or_else(PoisonError::into_inner));
            if to.write_all(&bytes[..read]).is_err() {
                break;
            }
        }
        to.shutdown(Shutdown::Write).ok();
        from.shutdown(Shutdown::Read).ok();
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, bool> {
        self.silent.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
