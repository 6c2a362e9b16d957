//! Retention: what nobody waits for goes from the journal when it is old enough, in the background and a
//! part at a time, so that no commit waits long. Nothing that still has to happen is ever touched.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use futures_util::{StreamExt, stream};
use tidemill_config::plan::Retention;
use tidemill_core::time::Timestamp;
use tidemill_journal::{DeadLetterFilter, Expire, Journal, JournalError, Unit};
use tokio_util::sync::CancellationToken;

use crate::{
    clock,
    dispatcher::redrive::{RedriveError, purge},
    metrics::Metrics,
};

/// How often it is looked what has grown too old, at most. The first time so long after the start: of an
/// engine that was off for long, a person can look at what will go.
const LOOK: Duration = Duration::from_secs(3600);

/// The most keys and event ids that go with one commit: about a millisecond's work.
const PART: usize = 500;

/// How many dead letters are looked up at a time.
const PAGE: usize = 500;

/// How many of them go at a time, and share a commit.
const TOGETHER: usize = 32;

/// Keeps the journal so until `stop` is cancelled.
pub async fn keep(
    journal: Arc<dyn Journal>,
    metrics: Arc<Metrics>,
    retention: Retention,
    stop: CancellationToken,
) {
    let shortest = retention.dead_letters.min(retention.usage);
    let interval = (shortest / 10).clamp(Duration::from_secs(1), LOOK);
    let keep = async {
        loop {
            tokio::time::sleep(interval).await;
            let now = clock::now();
            let swept = async {
                expire(&*journal, &retention, now).await?;
                forget_dead_letters(&*journal, &metrics, &retention, now).await
            };
            if let Err(error) = swept.await {
                tracing::debug!("what is too old stays for now: {error}");
            }
        }
    };
    stop.run_until_cancelled(keep).await;
}

/// Removes idempotency keys, event ids and accounts whose time is over.
async fn expire(
    journal: &dyn Journal,
    retention: &Retention,
    now: Timestamp,
) -> Result<(), JournalError> {
    let expire = Expire {
        now,
        usage_before: now.minus(retention.usage).day(),
        limit: PART,
    };
    while journal.has_expired(now, expire.usage_before).await? {
        let unit = Unit {
            expire: Some(expire),
            ..Unit::default()
        };
        journal.commit([unit].into()).await?;
    }
    Ok(())
}

/// Throws dead letters away that nobody looked after in time, and says so.
async fn forget_dead_letters(
    journal: &dyn Journal,
    metrics: &Metrics,
    retention: &Retention,
    now: Timestamp,
) -> Result<(), JournalError> {
    let filter = DeadLetterFilter {
        until: Some(now.minus(retention.dead_letters)),
        ..DeadLetterFilter::default()
    };
    let mut gone = BTreeMap::<String, u64>::new();
    let mut after = None;
    let swept = loop {
        let page = match journal.dead_letters(filter.clone(), after, PAGE).await {
            Ok(page) => page,
            Err(error) => break Err(error),
        };
        let Some(last) = page.last() else {
            break Ok(());
        };
        after = Some(last.seq);
        let mut purged = stream::iter(page)
            .map(|line| async move { (purge(journal, line.id).await, line.trigger) })
            .buffer_unordered(TOGETHER);
        while let Some((purged, trigger)) = purged.next().await {
            match purged {
                Ok(()) => {
                    metrics.dead_letter_expired(&trigger);
                    *gone.entry(trigger).or_default() += 1;
                }
                // Somebody was at it.
                Err(RedriveError::Unknown(_)) => {}
                Err(RedriveError::Journal(error)) => {
                    tracing::debug!(trigger, "a dead letter stays for now: {error}");
                }
            }
        }
    };
    for (trigger, dead_letters) in gone {
        tracing::warn!(
            trigger,
            dead_letters,
            "dead letters are thrown away that nobody looked after for {}; \
             engine.retention.dead_letters says how long they are kept",
            humantime::format_duration(retention.dead_letters)
        );
    }
    swept
}
