//! From the triggers of a plan to what the dispatcher knows of them.

use std::{collections::BTreeMap, sync::Arc};

use tidemill_config::plan::{self, DestinationPlan, Plan, SourcePlan, TriggerPlan};
use tidemill_connectors::{amqp, http, kafka, schedule};
use tidemill_core::{filter::ObjectFilter, ledger, schedule::Overlap};

use crate::{
    dispatcher::{Listens, Order, Target, Trigger, emitted_source},
    functions::Deployed,
};

/// The triggers whose functions are deployed.
pub(super) fn triggers(plan: &Plan, deployed: &BTreeMap<String, Arc<Deployed>>) -> Vec<Trigger> {
    let with_function = |trigger: &Arc<TriggerPlan>| {
        let function = deployed.get(&trigger.function)?.clone();
        let (source, listens) = listening(trigger)?;
        let one_by_one = match &trigger.source {
            SourcePlan::Schedule(schedule) => schedule.overlap == Overlap::Queue,
            _ => false,
        };
        let order = match &trigger.order {
            _ if one_by_one => Order::All,
            plan::Order::None => Order::None,
            plan::Order::By(selector) => Order::By(selector.clone()),
            plan::Order::MessageKey => Order::MessageKey,
            plan::Order::Partition => Order::Partition,
        };
        let missing = match &trigger.source {
            SourcePlan::Bucket(source) => source.missing,
            _ => plan::Missing::default(),
        };
        Some(Trigger {
            name: trigger.name.clone(),
            source,
            missing,
            listens,
            filter: trigger.filter.clone(),
            unmatched: trigger.unmatched,
            max_payload: max_payload(&trigger.source),
            idempotency: trigger.idempotency.clone(),
            order,
            rate: trigger.rate,
            batch: trigger.batch,
            function,
            retry: trigger.retry,
            on_success: trigger.on_success.as_ref().map(target),
            dead_letter: trigger.dead_letter.as_ref().map(target),
        })
    };
    plan.triggers.values().filter_map(with_function).collect()
}

/// The source that a trigger listens to, and to what of it.
pub(super) fn listening(trigger: &TriggerPlan) -> Option<(String, Listens)> {
    Some(match &trigger.source {
        SourcePlan::Bucket(source) => {
            let filter = ObjectFilter {
                created: source.created,
                deleted: source.deleted,
                prefix: source.prefix.clone(),
                suffix: source.suffix.clone(),
                min_size: source.min_size,
                max_size: source.max_size,
            };
            let after = source.after.clone();
            let listens = Listens::Objects { filter, after };
            (ledger::source(&source.bucket), listens)
        }
        SourcePlan::Http(source) => {
            let listens = Listens::Requests(source.methods.clone());
            (http::source(&source.path), listens)
        }
        SourcePlan::Schedule(_) => (schedule::source(&trigger.name), Listens::All),
        SourcePlan::Event(source) => (emitted_source(&source.kind), Listens::All),
        SourcePlan::Amqp(source) => (amqp::source(source), Listens::All),
        SourcePlan::Kafka(source) => (kafka::source(source), Listens::All),
        SourcePlan::NotBuilt { .. } => return None,
    })
}

/// The most bytes of a message or record. HTTP refuses larger bodies itself, and what other sources and
/// functions make is limited where it is made.
fn max_payload(source: &SourcePlan) -> Option<u64> {
    match source {
        SourcePlan::Amqp(source) => Some(source.max_payload),
        SourcePlan::Kafka(source) => Some(source.max_payload),
        _ => None,
    }
}

fn target(plan: &DestinationPlan) -> Target {
    match plan {
        DestinationPlan::Bucket { bucket, key } => Target::Object {
            bucket: bucket.clone(),
            key: key.clone(),
        },
        DestinationPlan::Http(_) => Target::Http,
        DestinationPlan::Event { kind } => Target::Event { kind: kind.clone() },
        DestinationPlan::Amqp(_) => Target::Amqp,
        DestinationPlan::Kafka(_) => Target::Kafka,
    }
}
