//! The destination: publishes events to exchanges.
//!
//! Each event is a CloudEvent in binary mode, in a message that survives a restart of the broker, with
//! the event's id as its `message-id` and the event's type as its `type`. It counts as published when
//! the broker has confirmed it, which of queues means that it is on disk, and was not returned: an
//! exchange that leads to no queue is a failure.
//!
//! What is promised: an event arrives at least once, under the same `message-id` each time. `tidemill-hops`
//! counts the writes of this engine that led to it; an engine that gets it ends what goes round in
//! circles. The other headers `tidemill-` say where a reply comes from, or why a dead letter died.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Mutex, PoisonError},
    time::Duration,
};

use lapin::{Channel, options::ConfirmSelectOptions};
use tidemill_config::plan::{AmqpDestination as To, DestinationPlan, Plan, TriggerPlan};
use tidemill_core::{
    BoxFuture,
    destination::{Destination, OutboxAction, PublishError, Role},
    event::Event,
    limits,
};
use tokio::{
    sync::{Mutex as Turn, Semaphore},
    time::Instant,
};

use super::{
    Unusable,
    broker::{Broker, Link},
    error::{self, Trouble},
    publish,
};

/// How long one try may take, with all that comes before it.
const LIMIT: Duration = Duration::from_secs(30);

/// How long a broker that could not be reached is left alone: what is to be published meanwhile fails
/// for the same reason.
const LEFT_ALONE: Duration = Duration::from_secs(1);

/// Publishes events to exchanges.
pub struct AmqpDestination {
    targets: BTreeMap<Role, BTreeMap<String, To>>,
    brokers: BTreeMap<String, Publisher>,
}

impl AmqpDestination {
    /// A destination for all that the triggers of a plan publish. Looks addresses of brokers up, and
    /// blocks while it does; it connects to nothing until something is published.
    pub fn new(plan: &Plan) -> Result<AmqpDestination, Vec<Unusable>> {
        let mut targets: BTreeMap<Role, BTreeMap<String, To>> = BTreeMap::new();
        let mut connections = BTreeSet::new();
        for (trigger, role, to) in plan.triggers.values().flat_map(|t| publishes(t)) {
            let of_role = targets.entry(role).or_default();
            of_role.insert(trigger.to_owned(), to.clone());
            connections.insert(&to.connection);
        }
        let mut brokers = BTreeMap::new();
        let mut errors = Vec::new();
        for name in connections {
            match Broker::new(plan, name) {
                Ok(broker) => _ = brokers.insert(name.clone(), Publisher::new(broker)),
                Err(error) => errors.push(error),
            }
        }
        match errors.is_empty() {
            true => Ok(AmqpDestination { targets, brokers }),
            false => Err(errors),
        }
    }

    async fn carry_out(&self, action: &OutboxAction, event: &Event) -> Result<(), PublishError> {
        let OutboxAction::PublishAmqp { trigger, role } = action else {
            let text = "what is for another destination does not go to an AMQP exchange".to_owned();
            return Err(PublishError::Rejected(text));
        };
        let to = self.targets.get(role).and_then(|of| of.get(trigger));
        let broker = to.and_then(|to| self.brokers.get(&to.connection));
        let (Some(to), Some(publisher)) = (to, broker) else {
            return Err(PublishError::Rejected(format!(
                "the plan has no `{}` with `amqp` for trigger `{trigger}` any more",
                key(*role)
            )));
        };
        match tokio::time::timeout(LIMIT, publisher.publish(to, event)).await {
            Ok(result) => result,
            Err(_) => Err(PublishError::Failed(format!(
                "publishing to {} was not confirmed within {LIMIT:?}; the broker may be short of memory or disk, or may not reach its queues. It may have the message nevertheless, and gets it again under the same message-id",
                publish::shown(to)
            ))),
        }
    }
}

impl Destination for AmqpDestination {
    fn publish<'a>(
        &'a self,
        action: &'a OutboxAction,
        event: &'a Event,
    ) -> BoxFuture<'a, Result<(), PublishError>> {
        Box::pin(self.carry_out(action, event))
    }
}

/// The key of a destination in its trigger.
pub(super) fn key(role: Role) -> &'static str {
    match role {
        Role::OnSuccess => "on_success",
        Role::DeadLetter => "dead_letter",
    }
}

/// What a trigger publishes.
pub(super) fn publishes(trigger: &TriggerPlan) -> impl Iterator<Item = (&str, Role, &To)> {
    let destinations = [
        (Role::OnSuccess, &trigger.on_success),
        (Role::DeadLetter, &trigger.dead_letter),
    ];
    destinations.into_iter().filter_map(|(role, destination)| {
        let Some(DestinationPlan::Amqp(to)) = destination else {
            return None;
        };
        Some((&*trigger.name, role, to))
    })
}

/// A broker that is published to: one connection, made when it is needed and again when it is lost.
///
/// A channel carries one message at a time. That is how a message that comes back is known to be the
/// one that was sent: confirmations say a number, returned messages do not, and with several under way
/// lapin gives a returned message to whichever is confirmed next. It also keeps an exchange that is not
/// there, which closes the channel, from failing what goes elsewhere.
struct Publisher {
    broker: Broker,
    turns: Semaphore,
    link: Turn<Option<Result<Link, (Instant, Trouble)>>>,
    /// Channels of the link that nothing is sent on.
    idle: Mutex<Vec<Channel>>,
}

impl Publisher {
    fn new(broker: Broker) -> Publisher {
        Publisher {
            broker,
            turns: Semaphore::new(limits::AMQP_PUBLISHES),
            link: Turn::new(None),
            idle: Mutex::default(),
        }
    }

    async fn publish(&self, to: &To, event: &Event) -> Result<(), PublishError> {
        // It is never closed; were it, there would be no limit, and nothing else.
        let _turn = self.turns.acquire().await;
        let channel = self.channel().await;
        let channel = channel.map_err(|trouble| PublishError::Failed(trouble.to_string()))?;
        let result = publish::publish(&channel, to, event).await;
        // A channel that this leaves behind, cancelled or closed, is not used again.
        if channel.status().connected() {
            self.idle().push(channel);
        }
        result
    }

    /// A channel on which the broker confirms what it gets.
    async fn channel(&self) -> Result<Channel, Trouble> {
        loop {
            let Some(channel) = self.idle().pop() else {
                break;
            };
            if channel.status().connected() {
                return Ok(channel);
            }
        }
        let mut link = self.link.lock().await;
        let now = match link.take() {
            Some(Ok(link)) if link.connection.status().connected() => Ok(link),
            Some(Err((when, trouble))) if when.elapsed() < LEFT_ALONE => Err((when, trouble)),
            _ => {
                let made = self.broker.connect("destinations").await;
                made.map_err(|trouble| (Instant::now(), trouble))
            }
        };
        let connection = match link.insert(now) {
            Ok(link) => &link.connection,
            Err((_, trouble)) => return Err(trouble.clone()),
        };
        let lost = |error| {
            let name = &self.broker.connection;
            let words = error::words(&error);
            Trouble::new(
                format!("the connection `{name}` was lost: {words}"),
                "it is made anew by itself",
            )
        };
        let channel = connection.create_channel().await.map_err(lost)?;
        let confirm = channel.confirm_select(ConfirmSelectOptions::default());
        confirm.await.map_err(lost)?;
        Ok(channel)
    }

    fn idle(&self) -> std::sync::MutexGuard<'_, Vec<Channel>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
