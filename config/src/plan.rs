//! The plan: a configuration parsed, defaulted, checked and resolved. Nothing past this type looks
//! at TOML again, and nothing checks again what is checked here.

use std::{collections::BTreeMap, net::SocketAddr, path::PathBuf, sync::Arc, time::Duration};

use tidemill_core::{
    dispatch::Batch, filter::Filter, rate::Rate, retry::RetryPolicy, schedule::Schedule,
    selector::Selector,
};

use crate::reference::Text;

/// Everything a file declares. Maps go by the names of the file.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The file it was read from.
    pub file: PathBuf,
    /// `[engine]`.
    pub engine: EnginePlan,
    /// `[connections.*]`.
    pub connections: BTreeMap<String, Arc<ConnectionPlan>>,
    /// `[buckets.*]`.
    pub buckets: BTreeMap<String, Arc<BucketPlan>>,
    /// `[functions.*]`.
    pub functions: BTreeMap<String, Arc<FunctionPlan>>,
    /// `[triggers.*]`.
    pub triggers: BTreeMap<String, Arc<TriggerPlan>>,
    /// What the file asks for that this engine does not have yet: `check` is content with it,
    /// `run` says so and stops.
    pub not_built: Vec<NotBuilt>,
}

/// A part of the file that parses but cannot run yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NotBuilt {
    /// Where it stands: `file:line:column`.
    pub at: String,
    /// What it is, such as ``trigger `billing`: source `amqp` ``.
    pub what: String,
}

/// `[engine]`.
#[derive(Clone, Debug)]
pub struct EnginePlan {
    /// The folder of the journal, the lock and the compiled components; absolute.
    pub data: PathBuf,
    /// Where HTTP triggers listen.
    pub http: SocketAddr,
    /// Where console, API, metrics and health listen.
    pub admin: SocketAddr,
    /// What a client of the admin address must show; always there if it is not a loopback address.
    pub admin_token: Option<Text>,
    /// The journal's size, in bytes, at which the intake stops.
    pub journal_limit: u64,
    /// How long running attempts may go on after SIGTERM.
    pub drain: Duration,
    /// The memory of all handlers together, in bytes; absent, it depends on the machine.
    pub memory: Option<u64>,
    /// How long the journal keeps what nobody waits for.
    pub retention: Retention,
}

/// `[engine.retention]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Retention {
    /// How old a dead letter grows before it is thrown away.
    pub dead_letters: Duration,
    /// How long it is known what functions used on a day.
    pub usage: Duration,
}

/// `[connections.NAME]`.
#[derive(Clone, Debug, PartialEq)]
pub struct ConnectionPlan {
    /// Its name.
    pub name: String,
    /// What it leads to.
    pub to: Connection,
}

/// What a connection leads to.
#[derive(Clone, Debug, PartialEq)]
pub enum Connection {
    /// An AMQP 0-9-1 broker, by its URL.
    Amqp(Text),
    /// A Kafka cluster.
    Kafka {
        /// `host:port` of some of its brokers.
        brokers: Vec<String>,
        /// Properties for librdkafka.
        properties: BTreeMap<String, Text>,
    },
    /// One that is not built yet.
    NotBuilt,
}

/// `[buckets.NAME]`.
#[derive(Clone, Debug)]
pub struct BucketPlan {
    /// Its name.
    pub name: String,
    /// Where its objects are.
    pub store: Store,
    /// How to reach an object store; nothing of it is for folders.
    pub options: StoreOptions,
}

/// Where a bucket's objects are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Store {
    /// Files below a folder; absolute.
    File {
        /// The folder.
        root: PathBuf,
    },
    /// Objects of an object store.
    Remote {
        /// Whose it is.
        provider: Provider,
        /// The name of the bucket, or container, there.
        bucket: String,
        /// How the keys of all its objects start there, up to a slash that is not part of it; empty,
        /// the bucket is taken whole. Keys are told without it.
        prefix: String,
    },
}

/// Who made an object store, or whose interface it has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Provider {
    /// Amazon S3, and all that speak its language.
    S3,
    /// Google Cloud Storage.
    Gs,
    /// Azure Blob Storage.
    Az,
}

impl Provider {
    /// All of them.
    pub const ALL: [Provider; 3] = [Provider::S3, Provider::Gs, Provider::Az];

    /// The scheme of its URLs.
    pub fn scheme(self) -> &'static str {
        match self {
            Provider::S3 => "s3",
            Provider::Gs => "gs",
            Provider::Az => "az",
        }
    }
}

/// `[buckets.NAME.options]`: what is left out comes from the provider's own chain: its environment
/// variables, then the machine's own identity.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StoreOptions {
    /// The URL of the server, if it is not the provider's own.
    pub endpoint: Option<Text>,
    /// The region of the bucket.
    pub region: Option<Text>,
    /// Whether the bucket's name goes into the path of requests, in place of the host's name.
    pub path_style: bool,
    /// The id of the access key.
    pub access_key_id: Option<Text>,
    /// The secret of the access key.
    pub secret_access_key: Option<Text>,
    /// The token of a session.
    pub session_token: Option<Text>,
    /// The profile of the files of AWS to take from what is not said here.
    pub profile: Option<Text>,
    /// The storage account of Azure.
    pub account: Option<Text>,
    /// The key of the storage account.
    pub access_key: Option<Text>,
    /// The key of a service account of Google, as JSON.
    pub service_account: Option<Text>,
    /// Whether requests go unsigned, to public buckets.
    pub anonymous: bool,
}

/// `[functions.NAME]`.
#[derive(Clone, Debug)]
pub struct FunctionPlan {
    /// Its name.
    pub name: String,
    /// The component's file; absolute.
    pub component: PathBuf,
    /// The most linear memory of an instance, in bytes.
    pub memory: u64,
    /// The longest an attempt may take.
    pub timeout: Duration,
    /// The most an attempt may reply, emit and write in all, in bytes.
    pub output: u64,
    /// The most attempts at a time.
    pub concurrency: usize,
    /// Instances kept ready.
    pub warm: usize,
    /// Whether an instance serves many events.
    pub reuse: bool,
    /// What the handler reads by `wasi:config` and as environment variables.
    pub env: BTreeMap<String, Text>,
    /// The same, never shown.
    pub secrets: BTreeMap<String, Text>,
    /// What it may touch.
    pub allow: Allow,
}

/// What a function may touch.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Allow {
    /// Buckets it may read.
    pub read: Vec<String>,
    /// Buckets it may write.
    pub write: Vec<String>,
    /// `host:port` it may call.
    pub http: Vec<String>,
    /// Key-value stores it may use.
    pub store: Vec<String>,
    /// Types of events it may emit.
    pub emit: Vec<String>,
}

/// `[triggers.NAME]`.
#[derive(Clone, Debug)]
pub struct TriggerPlan {
    /// Its name.
    pub name: String,
    /// The function it runs; one of [`Plan::functions`].
    pub function: String,
    /// What it listens to.
    pub source: SourcePlan,
    /// Which of its source's events it is about; absent, all.
    pub filter: Option<Filter>,
    /// What becomes of an event of its source that no trigger matches. The same for all triggers of
    /// a source.
    pub unmatched: Unmatched,
    /// Events that mean the same run once.
    pub idempotency: Option<Idempotency>,
    /// Which events run one after another.
    pub order: Order,
    /// How often attempts start at most.
    pub rate: Option<Rate>,
    /// Several events in one attempt; absent, each has its own.
    pub batch: Option<Batch>,
    /// What follows a failure.
    pub retry: RetryPolicy,
    /// Where the handler's replies go.
    pub on_success: Option<DestinationPlan>,
    /// Where dead letters go, besides the journal.
    pub dead_letter: Option<DestinationPlan>,
}

/// What becomes of an event that no trigger of its source matches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unmatched {
    /// It is counted and let go.
    Settle,
    /// It becomes a dead letter, of the first trigger of the source by name.
    DeadLetter,
}

/// Which events of a trigger run one after another.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Order {
    /// None.
    None,
    /// Those that are equal here.
    By(Selector),
    /// Those with the same message key: what Kafka does unless told otherwise.
    MessageKey,
    /// Those of the same partition.
    Partition,
}

/// `idempotency = { ... }`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Idempotency {
    /// Where the event says what it means.
    pub key: Selector,
    /// How long a completed meaning is remembered.
    pub window: Duration,
}

/// A destination of a trigger.
#[derive(Clone, Debug, PartialEq)]
pub enum DestinationPlan {
    /// `{ bucket = { ... } }`: each becomes an object.
    Bucket {
        /// One of [`Plan::buckets`].
        bucket: String,
        /// The object's key. `{trigger}`, `{id}`, `{subject}`, `{type}` and `{date}` stand for what
        /// they name; the id is that of the delivery, and the same over all tries.
        key: String,
    },
    /// `{ http = { ... } }`: each is posted, as a CloudEvent.
    Http(HttpDestination),
    /// `{ event = { ... } }`: each becomes an event, as if the function had emitted it.
    Event {
        /// The event's type.
        kind: String,
    },
    /// `{ amqp = { ... } }`: each is published, as a CloudEvent.
    Amqp(AmqpDestination),
    /// `{ kafka = { ... } }`: each is produced, as a CloudEvent, with the event's subject as its key.
    Kafka(KafkaDestination),
}

/// `{ amqp = { ... } }` of a destination.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AmqpDestination {
    /// One of [`Plan::connections`], which leads to an AMQP broker.
    pub connection: String,
    /// The exchange; empty, the default one.
    pub exchange: String,
    /// The routing key.
    pub routing_key: String,
}

/// `{ kafka = { ... } }` of a destination.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KafkaDestination {
    /// One of [`Plan::connections`], which leads to a Kafka cluster.
    pub connection: String,
    /// The topic.
    pub topic: String,
}

/// `{ http = { ... } }` of a destination.
#[derive(Clone, Debug, PartialEq)]
pub struct HttpDestination {
    /// Where to.
    pub url: Text,
    /// Headers to send along, by name.
    pub headers: BTreeMap<String, Text>,
    /// How long one try may take.
    pub timeout: Duration,
}

/// What a trigger listens to.
#[derive(Clone, Debug)]
pub enum SourcePlan {
    /// `bucket = { ... }`.
    Bucket(BucketSource),
    /// `http = { ... }`.
    Http(HttpSource),
    /// `schedule = { ... }`.
    Schedule(Schedule),
    /// `event = { ... }`.
    Event(EventSource),
    /// `amqp = { ... }`.
    Amqp(AmqpSource),
    /// `kafka = { ... }`.
    Kafka(KafkaSource),
    /// A source that is not built yet.
    NotBuilt {
        /// Its key in the file.
        key: String,
    },
}

impl SourcePlan {
    /// Its key in the file.
    pub fn key(&self) -> &str {
        match self {
            SourcePlan::Bucket(_) => "bucket",
            SourcePlan::Http(_) => "http",
            SourcePlan::Schedule(_) => "schedule",
            SourcePlan::Event(_) => "event",
            SourcePlan::Amqp(_) => "amqp",
            SourcePlan::Kafka(_) => "kafka",
            SourcePlan::NotBuilt { key } => key,
        }
    }
}

/// `bucket = { ... }`.
#[derive(Clone, Debug)]
pub struct BucketSource {
    /// One of [`Plan::buckets`].
    pub bucket: String,
    /// Whether objects that come or change are events for this trigger.
    pub created: bool,
    /// Whether objects that go are.
    pub deleted: bool,
    /// How their keys start.
    pub prefix: String,
    /// How their keys end, one of these; empty, any.
    pub suffix: Vec<String>,
    /// The least size of an object, in bytes.
    pub min_size: u64,
    /// The largest size of an object, in bytes; the largest number, if any will do.
    pub max_size: u64,
    /// What becomes of a delivery whose object is gone or was replaced before it was read.
    pub missing: Missing,
    /// What becomes of an object when all its deliveries are ok. The same for all triggers of a
    /// bucket.
    pub after: After,
    /// How often the bucket is listed to find what was missed. The same for all triggers of a
    /// bucket.
    pub rescan: Duration,
    /// Whether what was there before the bucket was listened to for the first time makes no events.
    /// The same for all triggers of a bucket.
    pub only_new: bool,
    /// How the store tells of changes itself; absent, it does not. The same for all triggers of a
    /// bucket.
    pub notify: Option<Notify>,
}

/// What becomes of a delivery that fails because its object is gone, or is another one now.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Missing {
    /// It is done: what is there now, or that nothing is, is an event of its own.
    #[default]
    Skip,
    /// It is tried again, as the trigger's `retry` says.
    Retry,
    /// It is given up at once.
    DeadLetter,
}

/// `notify = { ... }`: where an object store sends the records of its events.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Notify {
    /// To a queue of SQS.
    Sqs {
        /// The URL of the queue.
        queue: Text,
        /// Its region; absent, the one in its URL, else that of the bucket.
        region: Option<Text>,
    },
    /// To a path of the HTTP address.
    Webhook {
        /// The path; no trigger has it.
        path: String,
        /// Who may send.
        verify: Option<Verify>,
    },
    /// To a queue of an AMQP broker.
    Amqp(AmqpSource),
    /// To topics of a Kafka cluster.
    Kafka(KafkaSource),
}

/// `http = { ... }`. Triggers of one path share it: all but `methods` is the same for all of them.
#[derive(Clone, Debug)]
pub struct HttpSource {
    /// The path. `{name}` stands for one segment, and at the end `{*name}` for all the rest.
    pub path: String,
    /// The methods, upper-case.
    pub methods: Vec<String>,
    /// How requests are answered.
    pub mode: Mode,
    /// The largest body, in bytes.
    pub max_body: u64,
    /// Who may send.
    pub verify: Option<Verify>,
    /// What browsers of other origins may do; absent, nothing.
    pub cors: Option<Cors>,
}

/// How HTTP requests are answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// 202, once the event is durable.
    Async,
    /// With the handler's reply.
    Sync,
}

/// How a request proves who sent it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verify {
    /// By `Authorization: Bearer`.
    Bearer(Text),
    /// By the HMAC-SHA256 of the body.
    HmacSha256 {
        /// The header it is in, lower-case: hexadecimal or base64, with or without `sha256=` before.
        header: String,
        /// The key.
        secret: Text,
    },
}

/// `cors = { ... }`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cors {
    /// The origins that may: as browsers write them, or `*` alone for all.
    pub origins: Vec<String>,
    /// The request headers they may send besides the safe ones, lower-case, or `*` alone for all.
    pub headers: Vec<String>,
    /// Whether they may send cookies and the like; not with `*`.
    pub credentials: bool,
    /// How long a browser may remember it.
    pub max_age: Duration,
}

/// `event = { ... }`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EventSource {
    /// The type of the events.
    pub kind: String,
}

/// `amqp = { ... }`. Triggers of one queue share it and agree on all of this.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AmqpSource {
    /// One of [`Plan::connections`], which leads to an AMQP broker.
    pub connection: String,
    /// The queue.
    pub queue: String,
    /// The most messages held at a time.
    pub prefetch: u16,
    /// The largest body that a function is given, in bytes; nothing to notifications of objects.
    pub max_payload: u64,
    /// Whether to declare the queue, if it is not there: a durable quorum queue with a dead-letter
    /// exchange.
    pub declare: bool,
}

/// `kafka = { ... }`. Triggers of the same connection, topics and group share a consumer and agree on
/// all of this.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KafkaSource {
    /// One of [`Plan::connections`], which leads to a Kafka cluster.
    pub connection: String,
    /// The topics, sorted.
    pub topics: Vec<String>,
    /// The consumer group.
    pub group: String,
    /// Where a group without offsets begins.
    pub start: Start,
    /// The largest value that a function is given, in bytes; nothing to notifications of objects.
    pub max_payload: u64,
}

/// Where a consumer group without offsets begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Start {
    /// At the first record there is.
    Earliest,
    /// After the last one.
    Latest,
    /// At the first record of this time or later, in milliseconds since the Unix epoch.
    At(i64),
}

/// What becomes of an object that was handled.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum After {
    /// It stays.
    Keep,
    /// It goes.
    Delete,
    /// It goes elsewhere: its key behind `prefix`, in `bucket`.
    Move {
        /// One of [`Plan::buckets`].
        bucket: String,
        /// Put before its key.
        prefix: String,
    },
}
