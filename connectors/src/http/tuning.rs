//! The times and bounds of the server, in one place with their reasons. Tests make them small.

use std::time::Duration;

use tidemill_core::limits;

#[derive(Clone, Copy, Debug)]
pub(super) struct Tuning {
    /// How many connections are open at a time; one path has half as many requests under way.
    pub(super) connections: usize,
    /// The bytes of bodies in memory, besides one largest body for each path.
    pub(super) bodies: usize,
    /// How long a head may take from its first byte to its last; the first one of a connection, from
    /// its opening.
    pub(super) head: Duration,
    /// How long a connection may say nothing between two requests. Longer than common proxies keep
    /// one open (60 s), so that they close it and not we, just when they send a request.
    pub(super) idle: Duration,
    /// How long a body may pause.
    pub(super) pause: Duration,
    /// How long a body may take, and besides that for each second of it how many bytes it must bring.
    pub(super) slow: (Duration, u64),
    /// How long a notification of a bucket may take: object stores wait half a minute, or longer.
    pub(super) notification: Duration,
    /// How long a client may leave an answer unread.
    pub(super) unread: Duration,
    /// From how many requests on, under way at a time to become durable, a path is crowded: more than a commit
    /// needs to be worth its while, and fewer than would keep another request waiting for long.
    pub(super) crowd: usize,
    /// For how many requests a path is crowded after that, and a connection gives way after its last request that did.
    pub(super) calm: u8,
    /// For how many seconds after another path's last request a crowded one gives way. Not for long: meanwhile it has
    /// up to a quarter less of its rate, which helps nobody who is not there.
    pub(super) beside: u64,
    /// How many bytes are read, and thrown away, of a body that nobody wants: a client that is
    /// answered while it sends sees the answer only if it can go on.
    pub(super) unwanted: usize,
}

impl Tuning {
    pub(super) const STANDARD: Tuning = Tuning {
        connections: limits::HTTP_CONNECTIONS,
        bodies: limits::HTTP_BODIES,
        head: Duration::from_secs(10),
        idle: Duration::from_secs(75),
        pause: Duration::from_secs(20),
        slow: (Duration::from_secs(60), 16 << 10),
        notification: Duration::from_secs(20),
        unread: Duration::from_secs(30),
        crowd: 16,
        calm: 64,
        beside: 1,
        unwanted: 16 << 20,
    };
}

/// How many clients are told at a time that there are too many.
pub(super) const REFUSING: usize = 64;

/// How long one of them has to read it.
pub(super) const REFUSAL: Duration = Duration::from_secs(1);

/// How long nobody is let in after the operating system could not: for want of files, mostly.
pub(super) const NO_FILES: Duration = Duration::from_secs(1);
