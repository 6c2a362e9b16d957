//! What sources count themselves, taken over when somebody asks.

use std::sync::atomic::Ordering::Relaxed;

use tidemill_connectors::{bucket, http, schedule};
use tidemill_core::ledger::NoticedBy;

use super::{
    Metrics,
    labels::{BucketBy, BucketName, BucketResult, PathStatus, Source, TriggerResult},
};

impl Metrics {
    /// Forgets how sources are: some may be no more.
    pub(crate) fn forget_sources(&self) {
        self.ready.clear();
        self.held.clear();
        self.bucket_objects.clear();
    }

    /// Takes over whether a source is ready.
    pub(crate) fn source_ready(&self, source: &str, ready: bool) {
        let gauge = self.ready.get_or_create(&Source::of(source));
        gauge.set(ready.into());
    }

    /// Takes over what a schedule counts.
    pub(crate) fn ticks(&self, trigger: &str, status: &schedule::Status) {
        for (result, count) in [
            ("offered", status.offered),
            ("skipped", status.skipped),
            ("missed", status.missed),
        ] {
            let labels = TriggerResult {
                trigger: trigger.to_owned(),
                result,
            };
            let counter = self.ticks.get_or_create(&labels);
            counter.inner().store(count, Relaxed);
        }
    }

    /// Takes over what the source of a bucket counts.
    pub(crate) fn bucket(&self, bucket: &str, status: &bucket::Status) {
        let name = BucketName {
            bucket: bucket.to_owned(),
        };
        let objects = i64::try_from(status.objects).unwrap_or(i64::MAX);
        self.bucket_objects.get_or_create(&name).set(objects);
        let noticed = &status.noticed;
        let missed = self.missed.get_or_create(&name);
        missed.inner().store(noticed.missed, Relaxed);
        for (by, count) in [
            (NoticedBy::Notification, noticed.by_notification),
            (NoticedBy::Listing, noticed.by_listing),
        ] {
            let (bucket, by) = (bucket.to_owned(), by.as_str());
            let counter = self.noticed.get_or_create(&BucketBy { bucket, by });
            counter.inner().store(count, Relaxed);
        }
        for (by, delay) in [
            (NoticedBy::Notification, status.told_after),
            (NoticedBy::Listing, status.listed_after),
        ] {
            let labels = BucketBy {
                bucket: bucket.to_owned(),
                by: by.as_str(),
            };
            let objects = self.delayed.get_or_create(&labels);
            objects.inner().store(delay.objects, Relaxed);
            let seconds = self.delays.get_or_create(&labels);
            let total = delay.total.as_secs_f64().to_bits();
            seconds.inner().store(total, Relaxed);
        }
        let Some(told) = &status.told else { return };
        for (result, count) in [
            ("taken", told.records),
            ("elsewhere", told.elsewhere),
            ("other", told.others),
            ("strange", told.strange),
        ] {
            let labels = BucketResult {
                bucket: bucket.to_owned(),
                result,
            };
            let counter = self.notifications.get_or_create(&labels);
            counter.inner().store(count, Relaxed);
        }
    }

    /// Takes over what a bucket of an object store counts.
    pub(crate) fn store(&self, bucket: &str, traffic: &bucket::Traffic) {
        for (result, count) in [
            ("sent", traffic.requests()),
            ("failed", traffic.failed()),
            ("timeout", traffic.timeouts()),
        ] {
            let labels = BucketResult {
                bucket: bucket.to_owned(),
                result,
            };
            let counter = self.store_requests.get_or_create(&labels);
            counter.inner().store(count, Relaxed);
        }
    }

    /// Takes over what the HTTP source counts.
    pub(crate) fn http(&self, status: &http::Status) {
        for count in &status.requests {
            let labels = PathStatus {
                path: count.path.clone().unwrap_or_default(),
                status: count.status,
            };
            let counter = self.http_requests.get_or_create(&labels);
            counter.inner().store(count.requests, Relaxed);
        }
        let connections = i64::try_from(status.connections).unwrap_or(i64::MAX);
        self.http_connections.set(connections);
        let refused = self.http_turned_away.inner();
        refused.store(status.turned_away, Relaxed);
    }

    /// Takes over what a broker's connector counts.
    pub(crate) fn held(&self, source: &str, held: usize, broken: u64) {
        let labels = Source::of(source);
        let held = i64::try_from(held).unwrap_or(i64::MAX);
        self.held.get_or_create(&labels).set(held);
        let counter = self.broken.get_or_create(&labels);
        counter.inner().store(broken, Relaxed);
    }
}
