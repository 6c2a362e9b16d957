//! From the typed values of a file to the plan. It reads every key of the table of keys that the
//! plan has a place for; it checks nothing.

use std::{path::Path, sync::Arc};

use tidemill_core::retry::RetryPolicy;

use crate::{
    plan::{
        After, Allow, BucketPlan, BucketSource, EnginePlan, FunctionPlan, NotBuilt, Plan,
        SourcePlan, Store, TriggerPlan,
    },
    tree::{Table, Value},
};

/// The plan of a file. If the file has errors, parts of the plan are empty.
pub(crate) fn plan(file: &Path, root: &Table, not_built: Vec<NotBuilt>) -> Plan {
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
        engine: engine(root.table("engine").unwrap_or(&empty)),
        buckets: buckets.collect(),
        functions: functions.collect(),
        triggers: triggers.collect(),
        not_built,
    }
}

fn engine(table: &Table) -> EnginePlan {
    EnginePlan {
        data: table.path("data"),
        http: table.address("http"),
        admin: table.address("admin"),
        admin_token: table.text("admin_token"),
        journal_limit: table.whole("journal_limit"),
        drain: table.duration("drain"),
    }
}

fn bucket(name: &str, table: &Table) -> Arc<BucketPlan> {
    let store = match table.get("url").map(|node| &node.value) {
        Some(Value::Store(store)) => store.clone(),
        _ => Store::NotBuilt {
            scheme: String::new(),
        },
    };
    Arc::new(BucketPlan {
        name: name.to_owned(),
        store,
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
    let source = match table.table("bucket") {
        Some(bucket) => SourcePlan::Bucket(bucket_source(bucket)),
        None => SourcePlan::NotBuilt {
            key: source_key(table).unwrap_or_default().to_owned(),
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
        retry: RetryPolicy {
            attempts: u32::try_from(retry.whole("attempts")).unwrap_or(u32::MAX),
            first: retry.duration("first"),
            max: retry.duration("max"),
            max_age: retry.duration("max_age"),
        },
    })
}

fn bucket_source(table: &Table) -> BucketSource {
    let on = table.strings("on");
    BucketSource {
        bucket: table.string("name"),
        created: on.iter().any(|change| change == "created"),
        deleted: on.iter().any(|change| change == "deleted"),
        prefix: table.string("prefix"),
        suffix: table.strings("suffix"),
        after: after(table),
        rescan: table.duration("rescan"),
    }
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
