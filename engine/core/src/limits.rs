//! The limits that no user sets, each with its reason. What a user sets is in the table of keys of
//! `tidemill-config`.

use std::time::Duration;

/// The last hop that is still delivered; the next one is a loop that feeds itself.
pub const HOPS: u32 = 16;

/// How many pending deliveries of one trigger are kept in memory. The rest waits in the journal,
/// so that a backlog of millions costs disk and not memory. At about 150 bytes each: 1.5 MB.
pub const WINDOW: usize = 10_000;

/// How often an attempt whose reads were overtaken runs again before it counts as a failure.
pub const CONFLICT_RERUNS: u32 = 10;

/// The largest count of a [`crate::rate::Rate`]: the start of each is remembered for its span.
pub const RATE_COUNT: u32 = 10_000;

/// The most ticks that a schedule catches up on.
pub const CATCH_UP: usize = 1000;

/// How late a tick may be and still run whatever `catch_up` says: beyond, it was missed. Long enough
/// for a restart.
pub const TICK_GRACE: Duration = Duration::from_secs(60);

/// How many ticks that were left out are counted: after a year there are 31 million of each second.
pub const COUNTED_TICKS: u64 = 1000;

/// How far a schedule's cursor may be ahead of the clock without a warning: corrections of a clock
/// are smaller.
pub const CLOCK_BACK: Duration = Duration::from_secs(3600);

/// How long a schedule sleeps at most before it looks at the clock again: should nothing else tell
/// that the clock was set, it is late by no more than this.
pub const CLOCK_LOOK: Duration = Duration::from_secs(60);

/// How long event ids are remembered that no ledger, cursor or watermark covers, in running time of
/// the engine: so long a source may take to send one again. Long enough for a week-end and a fix.
pub const EVENT_IDS: Duration = Duration::from_secs(7 * 24 * 3600);

/// For how many identities of deliveries memory tells at once that they are new, at 10 bits each: 20 MiB. Beyond, more
/// and more of them are looked up in the journal.
pub const KNOWN_IDS: usize = 16 << 20;

/// How long the ledger of a bucket remembers keys that went: as long as event ids. Beyond, keys are
/// told apart all the same, by where their count of deletions begins.
pub const LEDGER_GONE: Duration = EVENT_IDS;

/// How many requests of one trigger wait for their turn at a time, while their clients wait.
pub const HELD_REQUESTS: usize = 1024;

/// How long an event that its source holds waits behind others of its lane or key before the journal
/// takes it over: its place in the source's window is for others.
pub const HELD_IN_LINE: Duration = Duration::from_secs(60);

/// How long a message is held without having begun before the journal takes it over: RabbitMQ closes
/// a channel after 30 minutes without an acknowledgement.
pub const HELD_UNSTARTED: Duration = Duration::from_secs(600);

/// How long a held delivery that may not begin now rests before it is looked at again.
pub const HELD_LOOK: Duration = Duration::from_secs(1);

/// How many deliveries of one lane or key may be parked. Beyond, those that follow stay with their
/// source, which waits.
pub const LANE_PARKED: usize = 10_000;

/// The longest text of a reason that is kept with an attempt, in bytes.
pub const REASON: usize = 4 << 10;

/// The longest name of a key, store, bucket or type that a handler may pass, in bytes.
pub const NAME: usize = 1024;

/// The longest attribute of a CloudEvent from outside, in bytes: room for an address or the path of
/// an object, and small enough that a few of them fit the headers of a request.
pub const ATTRIBUTE: usize = 4 << 10;

/// The longest name of an extension attribute of a CloudEvent; the standard asks for 20 at most.
pub const ATTRIBUTE_NAME: usize = 64;

/// The most extension attributes of one CloudEvent.
pub const EXTENSIONS: usize = 64;

/// The longest value of a header that goes along with an event to an HTTP server, in bytes as it is
/// sent: servers refuse lines of headers longer than 8 KiB.
pub const SENT_HEADER: usize = 4 << 10;

/// How much of an HTTP server's answer is read, in bytes: so much is worth it to use the connection
/// again.
pub const ANSWER: usize = 64 << 10;

/// How many connections to one HTTP server are kept open between events.
pub const IDLE_CONNECTIONS: usize = 16;

/// The most hints of changed files a watcher keeps before it asks for a rescan instead.
pub const WATCH_HINTS: usize = 65_536;

/// How many offers of one scan of a bucket wait for their receipt at a time: enough to fill a
/// group commit.
pub const SCAN_OFFERS: usize = 512;

/// How far behind others the kernel puts threads that step back, as a step of `nice`: it gives one a tenth of a core
/// that both want.
pub const STEP_BACK: i32 = 10;

/// The most units in one commit of the journal, so that the first of them does not wait for long.
pub const COMMIT_UNITS: usize = 4096;

/// The most bytes of events in one commit of the journal.
pub const COMMIT_BYTES: usize = 32 << 20;

/// How long a delivery rests that could not be read from the journal.
pub const JOURNAL_RETRY: Duration = Duration::from_secs(1);

/// How many HTTP connections are open at a time, if the process may have twice as many files open;
/// beyond, new ones are answered with 503. Each may hold a head and a buffer of its size. One path may
/// have half as many requests under way, so that slow ones of a path leave room for the others.
pub const HTTP_CONNECTIONS: usize = 4096;

/// How many may follow the attempts of an engine at a time: each is told of all of them.
pub const TAILS: usize = 16;

/// How many attempts wait for those who follow them, before the oldest are left out: some MiB at most,
/// should each have the longest reason.
pub const TAIL_WAITING: usize = 1024;

/// The longest request line and headers of an HTTP request, in bytes: what common servers take.
pub const HTTP_HEAD: usize = 32 << 10;

/// The most parameters of a path. Nobody names more, and the router has letters for 25.
pub const PATH_PARAMETERS: usize = 16;

/// The most headers of an HTTP request.
pub const HTTP_HEADERS: usize = 100;

/// The most bytes of HTTP bodies in memory, besides one largest body for each path, which no other
/// path can take.
pub const HTTP_BODIES: usize = 256 << 20;

/// The most records of one Kafka consumer that the intake holds at a time.
pub const KAFKA_HELD: usize = 4096;

/// The most bytes of events of one Kafka consumer that the intake holds at a time; a single event may
/// have more.
pub const KAFKA_HELD_BYTES: usize = 64 << 20;

/// How many records of one Kafka partition may be received above one that is not completed. At 24
/// bytes each, 24 MiB: at 10,000 records a second, a record may take a minute and a half.
pub const KAFKA_AHEAD: usize = 1 << 20;

/// How long the records of a Kafka partition that is given up may go on running, while its group
/// waits. Those that take longer run again elsewhere, unless the journal is the same.
pub const KAFKA_DRAIN: Duration = Duration::from_secs(10);

/// How long a Kafka consumer may take to commit and leave its group when the engine stops: while other
/// members join, its broker answers neither.
pub const KAFKA_CLOSE: Duration = Duration::from_secs(10);

/// How long sources may take to stop after the last attempt ended: Kafka takes longest.
pub const SOURCE_STOP: Duration = Duration::from_secs(12);

/// How many messages are on their way to one AMQP broker at a time: each has a channel of its own, of
/// which RabbitMQ gives a connection 2,047.
pub const AMQP_PUBLISHES: usize = 64;

/// The most bytes of headers in an AMQP message: they must fit one frame, which RabbitMQ limits to
/// 128 KiB, with the other properties.
pub const AMQP_HEADERS: usize = 120 << 10;

/// The largest body of a notification that an object store posts, in bytes: the largest message of SQS
/// and SNS.
pub const NOTIFICATION: u64 = 1 << 20;

/// How many events an instance serves that is reused, before another one takes its place: what a guest
/// leaks with each event stays small.
pub const REUSE_EVENTS: u32 = 10_000;

/// How long an instance that is reused rests before it is dropped, unless it is to be warm: with nothing
/// to do, a function takes no memory.
pub const REUSE_IDLE: Duration = Duration::from_secs(60);

/// How much larger an instance that is reused may be than it began, in bytes, before another one takes
/// its place: one rare large event is not paid for ever after.
pub const REUSE_GROWTH: u64 = 32 << 20;
