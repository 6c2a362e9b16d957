//! One connection and its channel, from the look at the queue to the end. All that a session holds
//! ends with it: tags mean nothing on another channel.

use std::{sync::Arc, time::Instant};

use foldhash::HashMap;
use futures_util::{FutureExt, StreamExt};
use lapin::{
    Channel, Consumer,
    message::Delivery,
    options::{BasicAckOptions, BasicCancelOptions, BasicConsumeOptions, BasicQosOptions},
    types::FieldTable,
};
use tidemill_core::hold::{Held, Holds, Settlement, Settlements, Ticket};
use tokio_util::sync::CancellationToken;

use crate::clock;

use super::{
    acks::{Ack, Acks},
    broker::{CLOSE, Link},
    connector::AmqpConnector,
    error::Trouble,
    event, topology,
};

/// How many messages are taken before anything else is looked at.
const AT_ONCE: usize = 64;

/// Why a session ended.
pub(super) enum End {
    /// The engine stops.
    Stopped,
    /// It cannot go on.
    Broken(Trouble),
}

/// A consumer of a queue.
pub(super) struct Session<'a> {
    of: &'a AmqpConnector,
    link: Link,
    channel: Channel,
    consumer: Consumer,
    acks: Acks,
}

/// What the intake holds of a session, by the messages' delivery tags. If it is dropped, what has not begun never
/// does: the broker delivers it again.
#[derive(Default)]
struct Holding<'a> {
    tickets: HashMap<u64, Ticket<'a>>,
    settlements: Arc<Settlements>,
}

impl<'a> Session<'a> {
    /// Connects, looks at the queue, and consumes it.
    pub(super) async fn begin(of: &'a AmqpConnector) -> Result<Session<'a>, Trouble> {
        let link = of.broker.connect(&of.queue).await?;
        topology::prepare(of, &link.connection).await?;
        let lost = |error| of.lost(&error);
        let channel = link.connection.create_channel().await.map_err(lost)?;
        let window = channel.basic_qos(of.prefetch, BasicQosOptions::default());
        window.await.map_err(lost)?;
        let consumer = channel.basic_consume(
            of.queue.as_str().into(),
            "".into(),
            BasicConsumeOptions::default(),
            FieldTable::default(),
        );
        Ok(Session {
            consumer: consumer.await.map_err(lost)?,
            acks: Acks::new(of.prefetch),
            of,
            link,
            channel,
        })
    }

    pub(super) async fn run(mut self, intake: &dyn Holds, stop: &CancellationToken) -> End {
        let of = self.of;
        of.health.works(&of.source);
        let mut holding = Holding::default();
        let end = match self.consume(intake, &mut holding, stop).await {
            Ok(()) => self.drain(&mut holding).await,
            broken => broken,
        };
        match end {
            Ok(()) => {
                self.link.close().await;
                End::Stopped
            }
            Err(trouble) => End::Broken(trouble),
        }
    }

    /// Takes messages until the engine stops.
    async fn consume<'i>(
        &mut self,
        intake: &'i dyn Holds,
        holding: &mut Holding<'i>,
        stop: &CancellationToken,
    ) -> Result<(), Trouble> {
        let (settlements, mut told) = (holding.settlements.clone(), Vec::new());
        loop {
            tokio::select! {
                // Answers first: they are what makes room for more, and are never more than the window.
                biased;
                () = stop.cancelled() => return Ok(()),
                () = settlements.next(&mut told) => {
                    self.finished(&mut told, holding);
                    self.acknowledge().await?;
                }
                () = until(self.acks.next()) => self.acknowledge().await?,
                first = self.consumer.next() => self.take_all(first, intake, holding)?,
            }
        }
    }

    /// Waits for the answers to all that the intake holds. What it releases, and what came but was not
    /// given to it, is the broker's again when the connection is closed.
    async fn drain(&mut self, holding: &mut Holding<'_>) -> Result<(), Trouble> {
        let lost = |error| self.of.lost(&error);
        let tag = self.consumer.tag();
        let cancel = self
            .channel
            .basic_cancel(tag, BasicCancelOptions::default());
        match tokio::time::timeout(CLOSE, cancel).await {
            Ok(cancelled) => cancelled.map_err(lost)?,
            Err(_) => {
                let silent = format!(
                    "the broker of connection `{}` is silent",
                    self.of.broker.connection
                );
                return Err(Trouble::new(
                    silent,
                    "the engine stops without waiting for it",
                ));
            }
        }
        let (settlements, mut told) = (holding.settlements.clone(), Vec::new());
        while !holding.tickets.is_empty() {
            tokio::select! {
                () = settlements.next(&mut told) => {
                    self.finished(&mut told, holding);
                    self.acknowledge().await?;
                }
                () = until(self.acks.next()) => self.acknowledge().await?,
                // Nobody consumes any more, but it is how an end of the connection is heard of.
                Some(Err(error)) = self.consumer.next() => return Err(self.of.lost(&error)),
            }
        }
        let acks = self.acks.take_all();
        self.send(acks).await
    }

    /// Takes a message, and whatever else is there by now, and gives all to the intake.
    fn take_all<'i>(
        &mut self,
        first: Option<lapin::Result<Delivery>>,
        intake: &'i dyn Holds,
        holding: &mut Holding<'i>,
    ) -> Result<(), Trouble> {
        let (mut all, mut next) = (Vec::new(), Some(first));
        let taken = loop {
            match next {
                Some(Some(Ok(delivery))) => {
                    all.push((delivery.delivery_tag, self.take(delivery)));
                }
                Some(Some(Err(error))) => break Err(self.of.lost(&error)),
                Some(None) => {
                    let of = self.of;
                    break Err(topology::cancelled(&of.broker.connection, &of.queue));
                }
                None => break Ok(()),
            }
            if all.len() == AT_ONCE {
                break Ok(());
            }
            next = self.consumer.next().now_or_never();
        };
        self.of.health.change(|status| {
            status.offered += all.len() as u64;
            status.held += all.len();
        });
        let tags: Vec<u64> = all.iter().map(|(tag, _)| *tag).collect();
        let tickets = intake.hold_all(all, &holding.settlements);
        holding.tickets.extend(tags.into_iter().zip(tickets));
        taken
    }

    fn take(&mut self, delivery: Delivery) -> Held {
        let (tag, redelivered) = (delivery.delivery_tag, delivery.redelivered);
        let source = &self.of.source;
        let taken = event::event(source, delivery, clock::now());
        if let Some(why) = &taken.broken {
            tracing::warn!(
                source,
                id = taken.event.id,
                "taken as a plain message: {why}"
            );
        }
        if redelivered || taken.broken.is_some() {
            self.of.health.change(|status| {
                status.redelivered += u64::from(redelivered);
                status.broken += u64::from(taken.broken.is_some());
            });
        }
        self.acks.received(tag);
        Held {
            source: source.clone(),
            event: taken.event,
            stable: taken.stable,
            position: None,
        }
    }

    /// Takes the answers that are there, so that one acknowledgement does for many.
    fn finished(&mut self, told: &mut Vec<(u64, Settlement)>, holding: &mut Holding<'_>) {
        let (now, answers) = (Instant::now(), told.len());
        for (tag, settlement) in told.drain(..) {
            holding.tickets.remove(&tag);
            if settlement == Settlement::Settle {
                self.acks.finished(tag, now);
            }
        }
        self.of.health.change(|status| status.held -= answers);
    }

    async fn acknowledge(&mut self) -> Result<(), Trouble> {
        let acks = self.acks.take(Instant::now());
        self.send(acks).await
    }

    async fn send(&self, acks: Vec<Ack>) -> Result<(), Trouble> {
        for ack in acks {
            let options = BasicAckOptions {
                multiple: ack.multiple,
            };
            let sent = self.channel.basic_ack(ack.tag, options).await;
            sent.map_err(|error| self.of.lost(&error))?;
            let settled = |status: &mut super::Status| status.settled += ack.messages;
            self.of.health.change(settled);
        }
        Ok(())
    }
}

/// Waits for an instant; for ever, if there is none.
async fn until(instant: Option<Instant>) {
    match instant {
        Some(instant) => tokio::time::sleep_until(instant.into()).await,
        None => std::future::pending().await,
    }
}
