//! What every store must do, written against the trait alone. [`conformance!`] makes a test of each
//! case for one store; [`model`] compares long random histories with a store in memory.

pub mod dead;
pub mod deliveries;
pub mod expiry;
pub mod memory;
pub mod model;
pub mod progress;
pub mod state;
pub mod turns;

use std::time::Duration;

use tidemill_core::{
    delivery::{AttemptRecord, Seq, Work},
    event::Event,
    identity::DeliveryId,
    outcome::OutcomeName,
    time::Timestamp,
};

use crate::{
    Accepted, Added, Journal, JournalError, NewDelivery, Pending, Settle, Unit, UnitResult,
};

/// A place where a store lives on while it is closed.
pub trait Place {
    /// Opens the store, or makes it.
    fn open(&self) -> Box<dyn Journal>;
    /// Lets engine running time pass.
    fn run(&self, by: Duration);
}

/// A store under test.
pub struct Store {
    place: Box<dyn Place>,
    journal: Option<Box<dyn Journal>>,
}

impl Store {
    pub fn new(place: impl Place + 'static) -> Store {
        let journal = Some(place.open());
        Store {
            place: Box::new(place),
            journal,
        }
    }

    /// Closes and opens it: what follows sees only what is durable.
    pub fn reopen(&mut self) {
        self.journal = None;
        self.journal = Some(self.place.open());
    }

    pub fn run(&self, by: Duration) {
        self.place.run(by);
    }

    pub fn journal(&self) -> &dyn Journal {
        self.journal.as_deref().expect("open between reopens")
    }

    pub async fn commit(&self, units: Vec<Unit>) -> Vec<UnitResult> {
        self.journal().commit(units.into()).await.unwrap()
    }

    /// Commits one unit.
    pub async fn one(&self, unit: Unit) -> UnitResult {
        self.commit(vec![unit]).await.remove(0)
    }

    /// Commits a unit that must be taken.
    pub async fn add(&self, unit: Unit) -> Vec<Added> {
        match self.one(unit).await {
            UnitResult::Committed { added, .. } => added,
            refused => panic!("refused: {refused:?}"),
        }
    }

    /// Accepts an event with one delivery of the trigger "t".
    pub async fn accept(&self, id: &str) -> Seq {
        self.add(accepting(id)).await[0].seq
    }

    pub async fn pending(&self, trigger: &str) -> Vec<Pending> {
        self.journal().pending(trigger, None, 1000).await.unwrap()
    }

    pub async fn pending_ids(&self, trigger: &str) -> Vec<DeliveryId> {
        self.pending(trigger)
            .await
            .into_iter()
            .map(|pending| pending.id)
            .collect()
    }
}

pub fn event(id: &str) -> Event {
    Event {
        id: id.to_owned(),
        source: "http:/hook".into(),
        kind: "http.request".into(),
        subject: Some("subject".into()),
        time: Timestamp(1),
        datacontenttype: Some("application/json".into()),
        traceparent: Some("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01".into()),
        hops: 3,
        headers: vec![
            ("x-a".into(), "1".into()),
            ("x-b".into(), "\"\u{20ac}\"".into()),
        ],
        data: id.as_bytes().to_vec().into(),
    }
}

/// The identity of the delivery of [`event`] for the trigger.
pub fn id(trigger: &str, event: &str) -> DeliveryId {
    DeliveryId::derive(trigger, "http:/hook", event)
}

pub fn new(trigger: &str, event: &str) -> NewDelivery {
    NewDelivery::new(id(trigger, event), trigger, Work::Handle, Timestamp(10))
}

pub fn accepted(id: &str, deliveries: Vec<NewDelivery>) -> Unit {
    Unit {
        accept: vec![Accepted {
            event: event(id),
            deliveries,
        }],
        ..Unit::default()
    }
}

pub fn accepting(id: &str) -> Unit {
    accepted(id, vec![new("t", id)])
}

pub fn settling(settle: Settle) -> Unit {
    Unit {
        settle: vec![settle],
        ..Unit::default()
    }
}

pub fn done(delivery: Seq) -> Unit {
    settling(Settle::Done { delivery })
}

pub fn attempt(n: u32) -> AttemptRecord {
    AttemptRecord {
        attempt: n,
        started: Timestamp(i64::from(n) * 100),
        ended: Timestamp(i64::from(n) * 100 + 50),
        outcome: OutcomeName::TooMuchOutput,
        reason: format!("reason {n}"),
        digest: n.is_multiple_of(2).then(|| "sha256:0".to_owned()),
    }
}

pub fn committed(result: &UnitResult) -> bool {
    matches!(result, UnitResult::Committed { .. })
}

/// A result of a query that must not fail.
pub type Answer<T> = Result<T, JournalError>;

/// One test for each case, for the store that `$make` makes a new place of.
macro_rules! conformance {
    ($make:expr) => {
        $crate::conformance::conformance! { @ $make =>
            deliveries::accept_and_done
            deliveries::every_field_comes_back
            deliveries::pending_is_ordered_and_paged
            deliveries::a_retry_moves_and_keeps_history
            deliveries::duplicates_are_refused
            deliveries::settling_needs_the_right_state
            deliveries::places_are_never_used_twice
            deliveries::units_are_independent
            deliveries::units_of_a_commit_see_each_other
            deliveries::a_refused_unit_leaves_nothing
            deliveries::bodies_are_shared
            deliveries::only_if_last_waits_for_all
            deliveries::only_if_last_wants_done
            dead::a_dead_letter_keeps_all
            dead::dead_on_arrival
            dead::lists_are_filtered_and_paged
            dead::a_redrive_replaces
            dead::a_redrive_may_be_a_duplicate
            dead::a_purge_spoils
            turns::a_lane_is_in_order_through_a_retry
            turns::a_dead_letter_lets_the_next_pass
            turns::a_redrive_joins_the_tail
            turns::lane_and_key_together
            turns::one_waits_for_both
            turns::two_of_a_unit
            turns::a_unit_settles_and_adds
            turns::units_of_a_commit_release_each_other
            turns::leaving_from_the_middle_frees_nobody
            turns::others_do_not_wait
            turns::the_dead_on_arrival_do_not_wait
            turns::who_waits_counts
            state::values_and_versions
            state::reads_are_validated
            state::a_version_never_returns
            state::keys_are_paged
            state::ledgers_move_from_where_they_stand
            state::objects_are_noted_if_they_are_unknown
            state::ledgers_forget_what_went_long_ago
            state::hops_are_kept_until_noticed
            progress::cursors_move_from_where_they_stand
            progress::cursors_know_their_definition
            progress::offsets_complete_out_of_order
            progress::offsets_are_completed_once
            progress::a_partition_made_anew_begins_anew
            turns::how_many_are_ahead
            progress::idempotency_keys_expire
            progress::event_ids_expire_by_running_time
            progress::event_ids_of_deliveries_under_way
            progress::finds_what_it_knows
            state::usage_adds_up
            expiry::what_has_expired_goes_in_parts
            expiry::all_is_counted
            state::counts
        }

        #[test]
        fn behaves_like_the_model() {
            $crate::conformance::model::compare($make, 48);
        }
    };
    (@ $make:expr => $($module:ident :: $case:ident)*) => {
        $(
            #[tokio::test]
            async fn $case() {
                $crate::conformance::$module::$case($crate::conformance::Store::new($make())).await;
            }
        )*
    };
}
pub(crate) use conformance;
