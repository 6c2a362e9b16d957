//! THE table of keys: every key a file may hold, with its type, default or example, range and
//! meaning. The order is that of the documentation. To add a key, add its line here and read it in
//! `build`; it never decides anything.

use super::{Key, Kind::*, Need};

/// `path: kind, need, meaning;` with `planned` at the end of what the engine does not have yet.
macro_rules! keys {
    ($($path:literal: $kind:expr, $need:ident $(($text:literal))?, $meaning:literal $($planned:ident)?;)*) => {
        /// Every key a file may hold.
        pub static KEYS: &[Key] = &[$(Key {
            path: $path,
            kind: $kind,
            need: need!($need $($text)?),
            meaning: $meaning,
            built: built!($($planned)?),
        }),*];
    };
}
macro_rules! need {
    (required $example:literal) => {
        Need::Required($example)
    };
    (default $value:literal) => {
        Need::Default($value)
    };
    (optional) => {
        Need::Optional
    };
    (one_of $what:literal) => {
        Need::OneOf($what)
    };
}
macro_rules! built {
    () => {
        true
    };
    (planned) => {
        false
    };
}

keys! {
"engine": Table, default("{}"), "The engine itself.";
"engine.data": Path, default("./data"), "The folder of the journal, the lock and the compiled components.";
"engine.journal": Journal, default("sqlite"), "Where events are kept: sqlite in the data folder, or a PostgreSQL database that several nodes share." planned;
"engine.http": Address, default("127.0.0.1:8080"), "Where HTTP triggers listen.";
"engine.admin": Address, default("127.0.0.1:8081"), "Where console, API, metrics and health listen. Any address but a loopback one needs admin_token.";
"engine.admin_token": Secret, optional, "What a client of the admin address must show.";
"engine.journal_limit": Size("1MiB", "256TiB"), default("20GiB"), "The size of the journal at which sources pause.";
"engine.drain": Duration("0s", "1h"), default("30s"), "How long running attempts may go on after SIGTERM.";

"engine.memory": Size("16MiB", "256TiB"), optional, "The memory that all handlers together may have, as far as they use it: beyond it they wait for each other. Left out, three quarters of what the machine has, or its control group.";
"engine.retention": Table, default("{}"), "How long the journal keeps what nobody waits for.";
"engine.retention.dead_letters": Duration("1s", "3660d"), default("90d"), "How old a dead letter grows before it is thrown away.";
"engine.retention.usage": Duration("1d", "3660d"), default("400d"), "How long it is known what functions used on a day.";

"connections": Named, default("{}"), "Brokers and databases.";
"connections.*": Table, optional, "A broker or a database.";
"connections.*.amqp": AmqpUrl, one_of("broker or database"), "The URL of an AMQP 0-9-1 broker, such as RabbitMQ.";
"connections.*.kafka": Table, one_of("broker or database"), "A Kafka cluster.";
"connections.*.kafka.brokers": List(&Broker, 1), required("[\"127.0.0.1:9092\"]"), "Where to find the cluster: host:port of some of its brokers.";
"connections.*.kafka.properties": Map, default("{}"), "Properties for librdkafka, but those that the engine sets by itself.";
"connections.*.kafka.properties.*": Secret, optional, "A property of librdkafka.";
"connections.*.postgres": Secret, one_of("broker or database"), "The URL of a PostgreSQL database." planned;

"buckets": Named, default("{}"), "Places where objects are.";
"buckets.*": Table, optional, "A place where objects are.";
"buckets.*.url": BucketUrl, required("file:./buckets/uploads"), "A folder (file:) or a bucket of an object store (s3://, gs://, az://).";
"buckets.*.options": Table, default("{}"), "How to reach an object store. Credentials that are left out come from the provider's environment variables, then from the machine's own identity.";
"buckets.*.options.endpoint": HttpUrl, optional, "The server, if it is not the provider's own: MinIO, Ceph, R2 and the like.";
"buckets.*.options.region": Text, optional, "s3: the region of the bucket; left out, that of AWS_REGION, or us-east-1.";
"buckets.*.options.path_style": Flag, default("true"), "s3: whether the bucket's name goes into the path of requests; false, into the host's name.";
"buckets.*.options.access_key_id": Secret, optional, "s3: the id of the access key.";
"buckets.*.options.secret_access_key": Secret, optional, "s3: the secret of the access key.";
"buckets.*.options.session_token": Secret, optional, "s3: the token of a session.";
"buckets.*.options.profile": Text, optional, "s3: the profile of ~/.aws/config and ~/.aws/credentials to take region, endpoint and keys from, if they are left out; left out, that of AWS_PROFILE.";
"buckets.*.options.account": Text, optional, "az: the storage account.";
"buckets.*.options.access_key": Secret, optional, "az: the key of the storage account.";
"buckets.*.options.service_account": Secret, optional, "gs: the key of a service account, as JSON.";
"buckets.*.options.anonymous": Flag, default("false"), "Whether requests go unsigned, to buckets that are public.";

"functions": Named, default("{}"), "Components that handle events.";
"functions.*": Table, optional, "A component that handles events.";
"functions.*.component": Path, required("functions/thumbnail.wasm"), "The file of the WebAssembly component.";
"functions.*.memory": Size("64KiB", "4GiB"), default("128MiB"), "The most memory an instance may have.";
"functions.*.timeout": Duration("1ms", "15m"), default("30s"), "The longest an attempt may take.";
"functions.*.output": Size("1KiB", "1GiB"), default("64MiB"), "The most an attempt may reply, emit and write in all.";
"functions.*.concurrency": Whole(1, 10_000), default("64"), "The most attempts at a time.";
"functions.*.warm": Whole(0, 1_000), default("0"), "How many instances are ready before an event comes.";
"functions.*.reuse": Flag, default("false"), "Whether an instance serves many events, one after another, and what it keeps in memory lasts until it breaks, rests too long or grows.";
"functions.*.env": Map, default("{}"), "What the handler reads as configuration and environment variables.";
"functions.*.env.*": Text, optional, "The value of a variable.";
"functions.*.secrets": Map, default("{}"), "The same, never shown.";
"functions.*.secrets.*": Secret, optional, "The value of a secret variable.";
"functions.*.allow": Table, default("{}"), "What the function may touch. It may touch nothing else.";
"functions.*.allow.read": List(&Filled, 0), default("[]"), "Buckets it may read; \"@event\" is the one object that triggered.";
"functions.*.allow.write": List(&Filled, 0), default("[]"), "Buckets it may write.";
"functions.*.allow.http": List(&HostPort, 0), default("[]"), "Hosts, with ports, it may call." planned;
"functions.*.allow.store": List(&Name, 0), default("[]"), "Key-value stores it may use.";
"functions.*.allow.emit": List(&Filled, 0), default("[]"), "Types of events it may emit.";

"triggers": Named, default("{}"), "Rules that bind a source of events to a function.";
"triggers.*": Table, optional, "A rule that binds a source of events to a function.";
"triggers.*.function": Filled, required("thumbnail"), "The function it runs.";

"triggers.*.bucket": Table, one_of("source"), "Objects that come, change and go.";
"triggers.*.bucket.name": Filled, required("uploads"), "The bucket.";
"triggers.*.bucket.on": List(&Word(&["created", "deleted"]), 1), default("[\"created\"]"), "Which changes are events: created (or changed), deleted.";
"triggers.*.bucket.prefix": Prefix, default(""), "How the keys start.";
"triggers.*.bucket.suffix": List(&Suffix, 0), default("[]"), "How the keys end, one of these; none, any.";
"triggers.*.bucket.after": WordOrTable(&["keep", "delete"]), default("keep"), "What becomes of an object when all its deliveries are ok: keep, delete or { move = { bucket, prefix } }. The same in all triggers of a bucket.";
"triggers.*.bucket.after.move": Table, required("{ bucket = \"done\", prefix = \"\" }"), "Where the object goes.";
"triggers.*.bucket.after.move.bucket": Filled, required("done"), "The bucket it goes to.";
"triggers.*.bucket.after.move.prefix": Prefix, default(""), "Put before its key.";
"triggers.*.bucket.min_size": Size("0B", "256TiB"), default("0B"), "The least size of the objects. Objects that go have no size, and match.";
"triggers.*.bucket.max_size": Size("0B", "256TiB"), optional, "The largest size of the objects; left out, any.";
"triggers.*.bucket.missing": Word(&["skip", "retry", "dead-letter"]), default("skip"), "What becomes of a delivery that fails because its object is gone, or was replaced, before the handler read it: it is done (what is there now is another event), tried again as `retry` says, or given up at once.";
"triggers.*.bucket.rescan": Duration("1s", "24h"), default("60s"), "How often the bucket is listed: to find what was missed in a folder, and what is new in an object store. The same in all triggers of a bucket.";
"triggers.*.bucket.start": Word(&["all", "now"]), default("all"), "Where a bucket begins that the engine listens to for the first time: with all objects that are there, or with those that come from now on. The same in all triggers of a bucket.";
"triggers.*.bucket.notify": Table, optional, "s3: where the store sends its event records, so that objects are noticed before the next listing. The same in all triggers of a bucket.";
"triggers.*.bucket.notify.sqs": Table, one_of("way of notifications"), "A queue of Amazon SQS, or of what speaks its language. The bucket needs one of its own.";
"triggers.*.bucket.notify.sqs.queue": HttpUrl, required("https://sqs.eu-west-1.amazonaws.com/123456789012/uploads"), "The URL of the queue.";
"triggers.*.bucket.notify.sqs.region": Text, optional, "The region of the queue; left out, the one in its URL, else that of the bucket.";
"triggers.*.bucket.notify.webhook": Table, one_of("way of notifications"), "A path of the engine's HTTP address, to which the store posts.";
"triggers.*.bucket.notify.webhook.path": HttpPath, required("/notices/uploads"), "The path. No trigger has it, and no other bucket.";
"triggers.*.bucket.notify.webhook.verify": Table, optional, "Who may send.";
"triggers.*.bucket.notify.webhook.verify.bearer": Secret, one_of("proof"), "The token in the Authorization header.";
"triggers.*.bucket.notify.webhook.verify.hmac_sha256": Table, one_of("proof"), "A signature over the body.";
"triggers.*.bucket.notify.webhook.verify.hmac_sha256.header": HeaderName, required("X-Hub-Signature-256"), "The header with the signature.";
"triggers.*.bucket.notify.webhook.verify.hmac_sha256.secret": Secret, required("${env:HOOK_SECRET}"), "The key of the signature.";
"triggers.*.bucket.notify.amqp": Table, one_of("way of notifications"), "A queue of an AMQP broker. The bucket needs one of its own.";
"triggers.*.bucket.notify.amqp.connection": Filled, required("orders"), "The connection.";
"triggers.*.bucket.notify.amqp.queue": Queue, required("uploads"), "The queue.";
"triggers.*.bucket.notify.amqp.prefetch": Whole(1, 65_535), default("256"), "The most messages held at a time.";
"triggers.*.bucket.notify.amqp.declare": Flag, default("false"), "Whether to declare the queue if it is not there: a durable quorum queue with a dead-letter exchange.";
"triggers.*.bucket.notify.kafka": Table, one_of("way of notifications"), "Topics of a Kafka cluster. The bucket needs a group of its own.";
"triggers.*.bucket.notify.kafka.connection": Filled, required("telemetry"), "The connection.";
"triggers.*.bucket.notify.kafka.topics": List(&Topic, 1), required("[\"uploads\"]"), "The topics, by name.";
"triggers.*.bucket.notify.kafka.group": Filled, required("tidemill-uploads"), "The consumer group.";
"triggers.*.bucket.notify.kafka.start": Start, default("latest"), "Where a group without offsets begins: earliest, latest, or the first record of an instant or later. What was before is found by the first listing.";

"triggers.*.amqp": Table, one_of("source"), "Messages of an AMQP queue.";
"triggers.*.amqp.connection": Filled, required("orders"), "The connection.";
"triggers.*.amqp.queue": Queue, required("orders"), "The queue.";
"triggers.*.amqp.prefetch": Whole(1, 65_535), default("256"), "The most messages held at a time. The same in all triggers of a queue.";
"triggers.*.amqp.max_payload": Size("1KiB", "512MiB"), default("32MiB"), "The largest body that the function is given; a message with more is a dead letter at once. The same in all triggers of a queue.";
"triggers.*.amqp.declare": Flag, default("false"), "Whether to declare the queue if it is not there: a durable quorum queue with a dead-letter exchange. The same in all triggers of a queue.";

"triggers.*.kafka": Table, one_of("source"), "Records of Kafka topics.";
"triggers.*.kafka.connection": Filled, required("telemetry"), "The connection.";
"triggers.*.kafka.topics": List(&Topic, 1), required("[\"readings\"]"), "The topics, by name.";
"triggers.*.kafka.group": Filled, default("tidemill"), "The consumer group. Triggers of one group have the same topics, or none in common.";
"triggers.*.kafka.start": Start, default("earliest"), "Where a group without offsets begins: earliest, latest, or the first record of an instant or later. The same in all triggers of a group and its topics.";
"triggers.*.kafka.max_payload": Size("1KiB", "512MiB"), default("32MiB"), "The largest value that the function is given; a record with more is a dead letter at once. The same in all triggers of a group and its topics.";

"triggers.*.schedule": Table, one_of("source"), "Ticks of a clock.";
"triggers.*.schedule.cron": Cron, one_of("time"), "Ticks at these times: minute, hour, day of month, month, day of week; with six fields, seconds come first.";
"triggers.*.schedule.every": Duration("1s", "366d"), one_of("time"), "Ticks this far apart, the first one so long after the schedule is new.";
"triggers.*.schedule.at": Instant, one_of("time"), "One tick, then.";
"triggers.*.schedule.timezone": Zone, default("UTC"), "The time zone of cron, by its IANA name.";
"triggers.*.schedule.catch_up": Word(&["none", "latest", "all"]), default("latest"), "Which ticks missed while the engine was down run afterwards; of all, at most 1000.";
"triggers.*.schedule.overlap": Word(&["allow", "skip", "queue"]), default("skip"), "What a tick does while the one before it waits or runs: run as well, be left out, run afterwards.";
"triggers.*.schedule.jitter": Duration("0s", "1h"), default("0s"), "Each tick comes later by up to so much, the same tick always by the same.";

"triggers.*.http": Table, one_of("source"), "HTTP requests.";
"triggers.*.http.path": HttpPath, required("/hooks/github"), "The path of the requests. `{name}` stands for one segment, and `{*name}` at its end for all that follows. Triggers of one path share it, and agree on all but `methods`.";
"triggers.*.http.methods": List(&Word(&["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"]), 1), default("[\"POST\"]"), "Their methods.";
"triggers.*.http.mode": Word(&["async", "sync"]), default("async"), "async answers 202 once the event is durable; sync answers with the handler's reply.";
"triggers.*.http.max_body": Size("0B", "1GiB"), default("6MiB"), "The largest body.";
"triggers.*.http.cors": Table, optional, "What browsers of other origins may do; left out, nothing.";
"triggers.*.http.cors.origins": List(&Origin, 1), required("[\"https://app.example.com\"]"), "The origins that may send; \"*\" alone is any.";
"triggers.*.http.cors.headers": List(&HeaderName, 0), default("[]"), "The headers they may send besides the usual ones; \"*\" alone is any.";
"triggers.*.http.cors.credentials": Flag, default("false"), "Whether they may send cookies and the like.";
"triggers.*.http.cors.max_age": Duration("0s", "24h"), default("5m"), "How long a browser may remember the permission.";
"triggers.*.http.verify": Table, optional, "Who may send.";
"triggers.*.http.verify.bearer": Secret, one_of("proof"), "The token in the Authorization header.";
"triggers.*.http.verify.hmac_sha256": Table, one_of("proof"), "A signature over the body.";
"triggers.*.http.verify.hmac_sha256.header": HeaderName, required("X-Hub-Signature-256"), "The header with the signature.";
"triggers.*.http.verify.hmac_sha256.secret": Secret, required("${env:HOOK_SECRET}"), "The key of the signature.";

"triggers.*.event": Table, one_of("source"), "Events that functions emit.";
"triggers.*.event.type": Filled, required("thumbnail.made"), "The type of the events.";

"triggers.*.postgres": Table, one_of("source"), "Row changes of a PostgreSQL database." planned;
"triggers.*.postgres.connection": Filled, required("shop"), "The connection.";
"triggers.*.postgres.publication": Filled, required("tidemill"), "The publication.";
"triggers.*.postgres.slot": Filled, required("tidemill"), "The replication slot.";

"triggers.*.retry": Table, default("{}"), "What follows a failure.";
"triggers.*.retry.attempts": Whole(1, 1_000), default("3"), "Attempts in all, the first included.";
"triggers.*.retry.first": Duration("1ms", "24h"), default("1s"), "The pause after the first attempt; it doubles with each, and a random part of it is taken.";
"triggers.*.retry.max": Duration("1ms", "24h"), default("5m"), "The longest such pause.";
"triggers.*.retry.max_age": Duration("1s", "366d"), default("6h"), "How old a delivery may grow before it is given up.";

"triggers.*.idempotency": Table, optional, "Events that mean the same run once.";
"triggers.*.idempotency.key": Selector, required("$.order_id"), "Where the event says what it means.";
"triggers.*.idempotency.window": Duration("1s", "366d"), default("24h"), "How long a meaning is remembered.";
"triggers.*.order_by": Order, optional, "Events that are equal here run one after another. Kafka does so by message key; there `partition` is stricter and `none` is free. An AMQP queue must have no other consumer.";
"triggers.*.rate": Rate, optional, "The most attempts started in a while.";
"triggers.*.unmatched": Word(&["settle", "dead-letter"]), default("settle"), "What becomes of an event of the source that no trigger matches: it is counted and let go, or becomes a dead letter. The same in all triggers of a source.";
"triggers.*.batch": Table, optional, "Several events in one attempt.";
"triggers.*.batch.max": Whole(1, 10_000), default("500"), "The most events.";
"triggers.*.batch.wait": Duration("0s", "5m"), default("200ms"), "How long the first one waits for more.";
"triggers.*.batch.bytes": Size("1KiB", "64MiB"), default("4MiB"), "The most bytes of events, unless one alone has more.";
"triggers.*.filter": Table, optional, "Which events run the function: all that is named here must match.";
"triggers.*.filter.type": Patterns, optional, "What the type may be.";
"triggers.*.filter.source": Patterns, optional, "What the source may be.";
"triggers.*.filter.subject": Patterns, optional, "What the subject may be.";
"triggers.*.filter.id": Patterns, optional, "What the id may be.";
"triggers.*.filter.datacontenttype": Patterns, optional, "What the media type of the data may be.";
"triggers.*.filter.headers": Headers, optional, "What headers may be.";
"triggers.*.filter.headers.*": Patterns, optional, "What the header may be.";
"triggers.*.filter.data": PatternTree, optional, "What the fields of the JSON data may be.";
"triggers.*.filter.or": Filters, optional, "Filters of which one must match too.";

"triggers.*.on_success": Table, optional, "Where the reply goes.";
"triggers.*.on_success.bucket": Table, one_of("destination"), "An object for each reply.";
"triggers.*.on_success.bucket.name": Filled, required("results"), "The bucket.";
"triggers.*.on_success.bucket.key": ObjectKey, default("{trigger}/{id}"), "The object's key. {trigger}, {id}, {subject}, {type} and {date} stand for those of the delivery and its event.";
"triggers.*.on_success.http": Table, one_of("destination"), "An HTTP server: each reply is posted as a CloudEvent.";
"triggers.*.on_success.http.url": HttpUrl, required("https://api.example.com/done"), "Where to.";
"triggers.*.on_success.http.headers": Headers, default("{}"), "Headers to send along.";
"triggers.*.on_success.http.headers.*": Secret, optional, "The value of a header.";
"triggers.*.on_success.http.timeout": Duration("100ms", "5m"), default("30s"), "How long one try may take.";
"triggers.*.on_success.event": Table, one_of("destination"), "An event, as if the function had emitted it.";
"triggers.*.on_success.event.type": Filled, required("order.billed"), "Its type.";
"triggers.*.on_success.amqp": Table, one_of("destination"), "An AMQP exchange: each is published as a CloudEvent.";
"triggers.*.on_success.amqp.connection": Filled, required("orders"), "The connection.";
"triggers.*.on_success.amqp.exchange": ShortString, required("billed"), "The exchange; empty, the default one.";
"triggers.*.on_success.amqp.routing_key": ShortString, default(""), "The routing key.";
"triggers.*.on_success.kafka": Table, one_of("destination"), "A Kafka topic: each is produced as a CloudEvent, with the subject as its key.";
"triggers.*.on_success.kafka.connection": Filled, required("telemetry"), "The connection.";
"triggers.*.on_success.kafka.topic": Topic, required("billed"), "The topic.";
"triggers.*.dead_letter": Table, optional, "Where dead letters go besides the journal.";
"triggers.*.dead_letter.bucket": Table, one_of("destination"), "An object for each dead letter: the event and why it was given up, as JSON.";
"triggers.*.dead_letter.bucket.name": Filled, required("dead"), "The bucket.";
"triggers.*.dead_letter.bucket.key": ObjectKey, default("{trigger}/{id}"), "The object's key. {trigger}, {id}, {subject}, {type} and {date} stand for those of the delivery and its event.";
"triggers.*.dead_letter.http": Table, one_of("destination"), "An HTTP server: each dead letter is posted as a CloudEvent.";
"triggers.*.dead_letter.http.url": HttpUrl, required("https://api.example.com/dead"), "Where to.";
"triggers.*.dead_letter.http.headers": Headers, default("{}"), "Headers to send along.";
"triggers.*.dead_letter.http.headers.*": Secret, optional, "The value of a header.";
"triggers.*.dead_letter.http.timeout": Duration("100ms", "5m"), default("30s"), "How long one try may take.";
"triggers.*.dead_letter.event": Table, one_of("destination"), "An event, as if the function had emitted it.";
"triggers.*.dead_letter.event.type": Filled, required("order.failed"), "Its type.";
"triggers.*.dead_letter.amqp": Table, one_of("destination"), "An AMQP exchange: each is published as a CloudEvent.";
"triggers.*.dead_letter.amqp.connection": Filled, required("orders"), "The connection.";
"triggers.*.dead_letter.amqp.exchange": ShortString, required("dead"), "The exchange; empty, the default one.";
"triggers.*.dead_letter.amqp.routing_key": ShortString, default(""), "The routing key.";
"triggers.*.dead_letter.kafka": Table, one_of("destination"), "A Kafka topic: each is produced as a CloudEvent, with the subject as its key.";
"triggers.*.dead_letter.kafka.connection": Filled, required("telemetry"), "The connection.";
"triggers.*.dead_letter.kafka.topic": Topic, required("orders-dead"), "The topic.";
}
