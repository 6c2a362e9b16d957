//! From the typed values of a file to the plan. It reads every key of the table of keys that the
//! plan has a place for; it checks nothing.

use std::{path::Path, sync::Arc};

use tidemill_core::{
    dispatch::Batch,
    filter::{Condition, Filter, Pattern},
    retry::RetryPolicy,
    schedule::{CatchUp, Cron, CronError, Overlap, Schedule, When},
    selector::{Attribute, Selector},
};

use crate::{
    plan::{
        After, Allow, AmqpDestination, AmqpSource, BucketPlan, BucketSource, Connection,
        ConnectionPlan, Cors, DestinationPlan, EnginePlan, EventSource, FunctionPlan,
        HttpDestination, HttpSource, Idempotency, KafkaDestination, KafkaSource, Missing, Mode,
        NotBuilt, Notify, Order, Plan, Retention, SourcePlan, Start, Store, StoreOptions,
        TriggerPlan, Unmatched, Verify,
    },
    tree::{Node, Table, Value},
};

/// The plan of a file. If the file has errors, parts of the plan are empty.
pub(crate) fn plan(file: &Path, root: &Table, not_built: Vec<NotBuilt>) -> Plan {
    let connections = root
        .tables("connections")
        .map(|(name, table)| (name.clone(), connection(name, table)));
    let buckets = root
        .tables("buckets")
        .map(|(name, table)| (name.clone(), bucket(name, table)));
    let functions = root
        .tables("functions")
        .map(|(name, table)| (name.clone(), function(name, table)));
    let triggers = root
        .tables("triggers")
        .map(|(name, table)| (name.clone(), trigger(name, table)));
    let empty = Table {
        span: 0..0,
        entries: Default::default(),
    };
    Plan {
        file: file.to_owned(),
        engine: engine(root.table("engine").unwrap_or(&empty), &empty),
        connections: connections.collect(),
        buckets: buckets.collect(),
        functions: functions.collect(),
        triggers: triggers.collect(),
        not_built,
    }
}

fn engine(table: &Table, empty: &Table) -> EnginePlan {
    let retention = table.table("retention").unwrap_or(empty);
    EnginePlan {
        data: table.path("data"),
        http: table.address("http"),
        admin: table.address("admin"),
        admin_token: table.text("admin_token"),
        journal_limit: table.whole("journal_limit"),
        drain: table.duration("drain"),
        memory: table.get("memory").map(|_| table.whole("memory")),
        retention: Retention {
            dead_letters: retention.duration("dead_letters"),
            usage: retention.duration("usage"),
        },
    }
}

fn connection(name: &str, table: &Table) -> Arc<ConnectionPlan> {
    let to = match (table.text("amqp"), table.table("kafka")) {
        (Some(url), _) => Connection::Amqp(url),
        (None, Some(kafka)) => Connection::Kafka {
            brokers: kafka.strings("brokers"),
            properties: kafka.texts("properties"),
        },
        (None, None) => Connection::NotBuilt,
    };
    Arc::new(ConnectionPlan {
        name: name.to_owned(),
        to,
    })
}

fn bucket(name: &str, table: &Table) -> Arc<BucketPlan> {
    let store = match table.get("url").map(|node| &node.value) {
        Some(Value::Store(store)) => store.clone(),
        _ => Store::File {
            root: Default::default(),
        },
    };
    let options = table.table("options").map(|options| StoreOptions {
        endpoint: options.text("endpoint"),
        region: options.text("region"),
        path_style: options.flag("path_style"),
        access_key_id: options.text("access_key_id"),
        secret_access_key: options.text("secret_access_key"),
        session_token: options.text("session_token"),
        profile: options.text("profile"),
        account: options.text("account"),
        access_key: options.text("access_key"),
        service_account: options.text("service_account"),
        anonymous: options.flag("anonymous"),
    });
    Arc::new(BucketPlan {
        name: name.to_owned(),
        store,
        options: options.unwrap_or_default(),
    })
}

fn function(name: &str, table: &Table) -> Arc<FunctionPlan> {
    let allow = table.table("allow").map(|allow| Allow {
        read: allow.strings("read"),
        write: allow.strings("write"),
        http: allow.strings("http"),
        store: allow.strings("store"),
        emit: allow.strings("emit"),
    });
    Arc::new(FunctionPlan {
        name: name.to_owned(),
        component: table.path("component"),
        memory: table.whole("memory"),
        timeout: table.duration("timeout"),
        output: table.whole("output"),
        concurrency: count(table, "concurrency"),
        warm: count(table, "warm"),
        reuse: table.flag("reuse"),
        env: table.texts("env"),
        secrets: table.texts("secrets"),
        allow: allow.unwrap_or_default(),
    })
}

fn trigger(name: &str, table: &Table) -> Arc<TriggerPlan> {
    let key = source_key(table).unwrap_or_default();
    let source = match (key, table.table(key)) {
        ("bucket", Some(bucket)) => SourcePlan::Bucket(bucket_source(bucket)),
        ("http", Some(http)) => SourcePlan::Http(http_source(http)),
        ("event", Some(event)) => SourcePlan::Event(EventSource {
            kind: event.string("type"),
        }),
        ("amqp", Some(amqp)) => SourcePlan::Amqp(amqp_source(amqp)),
        ("kafka", Some(kafka)) => SourcePlan::Kafka(kafka_source(kafka)),
        ("schedule", Some(table)) => match schedule(table) {
            Ok(schedule) => SourcePlan::Schedule(schedule),
            // The walk told what is wrong with it.
            Err(_) => SourcePlan::NotBuilt {
                key: key.to_owned(),
            },
        },
        _ => SourcePlan::NotBuilt {
            key: key.to_owned(),
        },
    };
    let empty = Table {
        span: 0..0,
        entries: Default::default(),
    };
    let retry = table.table("retry").unwrap_or(&empty);
    Arc::new(TriggerPlan {
        name: name.to_owned(),
        function: table.string("function"),
        source,
        filter: table.table("filter").map(filter),
        unmatched: match table.string("unmatched").as_str() {
            "dead-letter" => Unmatched::DeadLetter,
            _ => Unmatched::Settle,
        },
        idempotency: table.table("idempotency").and_then(|idempotency| {
            Some(Idempotency {
                key: idempotency.selector("key")?,
                window: idempotency.duration("window"),
            })
        }),
        order: order(key, table),
        batch: table.table("batch").map(|batch| Batch {
            max: count(batch, "max"),
            wait: batch.duration("wait"),
            bytes: count(batch, "bytes"),
        }),
        rate: table.rate("rate"),
        on_success: table.table("on_success").and_then(destination),
        dead_letter: table.table("dead_letter").and_then(destination),
        retry: RetryPolicy {
            attempts: u32::try_from(retry.whole("attempts")).unwrap_or(u32::MAX),
            first: retry.duration("first"),
            max: retry.duration("max"),
            max_age: retry.duration("max_age"),
        },
    })
}

/// Kafka has an order of its own, the others have none, unless told.
fn order(source: &str, trigger: &Table) -> Order {
    if let Some(selector) = trigger.selector("order_by") {
        return Order::By(selector);
    }
    match trigger.get("order_by").and_then(Node::string) {
        Some("partition") => Order::Partition,
        None if source == "kafka" => Order::MessageKey,
        _ => Order::None,
    }
}

fn amqp_source(table: &Table) -> AmqpSource {
    AmqpSource {
        connection: table.string("connection"),
        queue: table.string("queue"),
        prefetch: u16::try_from(table.whole("prefetch")).unwrap_or(u16::MAX),
        max_payload: table.whole("max_payload"),
        declare: table.flag("declare"),
    }
}

fn kafka_source(table: &Table) -> KafkaSource {
    let mut topics = table.strings("topics");
    topics.sort_unstable();
    KafkaSource {
        connection: table.string("connection"),
        topics,
        group: table.string("group"),
        start: match (table.instant("start"), table.string("start").as_str()) {
            (Some(at), _) => Start::At(at.0),
            (None, "latest") => Start::Latest,
            (None, _) => Start::Earliest,
        },
        max_payload: table.whole("max_payload"),
    }
}

/// What `verify` of a path says.
fn verify(path: &Table) -> Option<Verify> {
    let verify = path.table("verify")?;
    if let Some(token) = verify.text("bearer") {
        return Some(Verify::Bearer(token));
    }
    let hmac = verify.table("hmac_sha256")?;
    Some(Verify::HmacSha256 {
        header: hmac.string("header").to_ascii_lowercase(),
        secret: hmac.text("secret")?,
    })
}

fn http_source(table: &Table) -> HttpSource {
    let cors = table.table("cors").map(|cors| Cors {
        origins: cors.strings("origins"),
        headers: cors
            .strings("headers")
            .iter()
            .map(|h| h.to_ascii_lowercase())
            .collect(),
        credentials: cors.flag("credentials"),
        max_age: cors.duration("max_age"),
    });
    HttpSource {
        path: table.string("path"),
        methods: table.strings("methods"),
        mode: match table.string("mode").as_str() {
            "sync" => Mode::Sync,
            _ => Mode::Async,
        },
        max_body: table.whole("max_body"),
        verify: verify(table),
        cors,
    }
}

/// What `schedule` of a trigger says.
pub(crate) fn schedule(table: &Table) -> Result<Schedule, CronError> {
    let when = if let Some(at) = table.instant("at") {
        When::At(at)
    } else if table.get("every").is_some() {
        When::Every(table.duration("every"))
    } else {
        When::Cron(Cron::parse(
            &table.string("cron"),
            &table.string("timezone"),
        )?)
    };
    Ok(Schedule {
        when,
        jitter: table.duration("jitter"),
        catch_up: match table.string("catch_up").as_str() {
            "none" => CatchUp::None,
            "all" => CatchUp::All,
            _ => CatchUp::Latest,
        },
        overlap: match table.string("overlap").as_str() {
            "allow" => Overlap::Allow,
            "queue" => Overlap::Queue,
            _ => Overlap::Skip,
        },
    })
}

fn filter(table: &Table) -> Filter {
    let mut conditions = Vec::new();
    let mut add = |place, patterns: &[Pattern]| {
        let patterns = patterns.to_vec();
        conditions.push(Condition { place, patterns });
    };
    for (name, attribute) in Attribute::ALL {
        if let Some(patterns) = table.patterns(name) {
            add(Selector::Attribute(attribute), patterns);
        }
    }
    if let Some(headers) = table.table("headers") {
        for name in headers.entries.keys() {
            if let Some(patterns) = headers.patterns(name) {
                add(Selector::Header(name.to_ascii_lowercase()), patterns);
            }
        }
    }
    conditions.extend(table.conditions("data").iter().cloned());
    let alternatives = table.get("or").map_or(&[][..], Node::list);
    Filter {
        conditions,
        alternatives: alternatives
            .iter()
            .filter_map(Node::table)
            .map(filter)
            .collect(),
    }
}

/// None, if the table has errors.
fn destination(table: &Table) -> Option<DestinationPlan> {
    if let Some(bucket) = table.table("bucket") {
        return Some(DestinationPlan::Bucket {
            bucket: bucket.string("name"),
            key: bucket.string("key"),
        });
    }
    if let Some(event) = table.table("event") {
        return Some(DestinationPlan::Event {
            kind: event.string("type"),
        });
    }
    if let Some(amqp) = table.table("amqp") {
        return Some(DestinationPlan::Amqp(AmqpDestination {
            connection: amqp.string("connection"),
            exchange: amqp.string("exchange"),
            routing_key: amqp.string("routing_key"),
        }));
    }
    if let Some(kafka) = table.table("kafka") {
        return Some(DestinationPlan::Kafka(KafkaDestination {
            connection: kafka.string("connection"),
            topic: kafka.string("topic"),
        }));
    }
    let http = table.table("http")?;
    Some(DestinationPlan::Http(HttpDestination {
        url: http.text("url")?,
        headers: http.texts("headers"),
        timeout: http.duration("timeout"),
    }))
}

fn bucket_source(table: &Table) -> BucketSource {
    let on = table.strings("on");
    BucketSource {
        bucket: table.string("name"),
        created: on.iter().any(|change| change == "created"),
        deleted: on.iter().any(|change| change == "deleted"),
        prefix: table.string("prefix"),
        suffix: table.strings("suffix"),
        min_size: table.whole("min_size"),
        max_size: table
            .get("max_size")
            .map_or(u64::MAX, |_| table.whole("max_size")),
        missing: match table.string("missing").as_str() {
            "retry" => Missing::Retry,
            "dead-letter" => Missing::DeadLetter,
            _ => Missing::Skip,
        },
        after: after(table),
        rescan: table.duration("rescan"),
        only_new: table.string("start") == "now",
        notify: table.table("notify").and_then(notify),
    }
}

/// None, if the table has errors.
fn notify(table: &Table) -> Option<Notify> {
    if let Some(sqs) = table.table("sqs") {
        return Some(Notify::Sqs {
            queue: sqs.text("queue")?,
            region: sqs.text("region"),
        });
    }
    if let Some(webhook) = table.table("webhook") {
        return Some(Notify::Webhook {
            path: webhook.string("path"),
            verify: verify(webhook),
        });
    }
    if let Some(amqp) = table.table("amqp") {
        return Some(Notify::Amqp(amqp_source(amqp)));
    }
    table.table("kafka").map(kafka_source).map(Notify::Kafka)
}

/// What `after` of a bucket source says.
pub(crate) fn after(bucket: &Table) -> After {
    let Some(node) = bucket.get("after") else {
        return After::Keep;
    };
    match node.table().and_then(|table| table.table("move")) {
        Some(to) => After::Move {
            bucket: to.string("bucket"),
            prefix: to.string("prefix"),
        },
        None if node.string() == Some("delete") => After::Delete,
        None => After::Keep,
    }
}

fn count(table: &Table, key: &str) -> usize {
    usize::try_from(table.whole(key)).unwrap_or(usize::MAX)
}

/// The key that says what the trigger listens to.
pub(crate) fn source_key(trigger: &Table) -> Option<&'static str> {
    let sources = crate::keys::children("triggers.*")
        .filter(|key| matches!(key.need, crate::keys::Need::OneOf(_)));
    sources
        .map(|key| key.name())
        .find(|name| trigger.get(name).is_some())
}
