//! Which ticks run: restarts, clocks that jump, jitter.

use proptest::prelude::*;

use super::*;
use crate::limits::{CATCH_UP, COUNTED_TICKS, TICK_GRACE};

const HOUR: Duration = Duration::from_secs(3600);

fn every(interval: Duration) -> Schedule {
    schedule(When::Every(interval))
}

fn ticks(due: &Due) -> Vec<Timestamp> {
    due.ticks.iter().map(|tick| tick.at).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    /// The clock goes on by random steps, from a moment to many hours; whatever was due in between
    /// runs, in its order, and once. Some ticks are cut off by a stop: then the cursor stands where
    /// the last one put it.
    #[test]
    fn a_plan_runs_once_whatever_happens(
        steps in proptest::collection::vec((0_i64..30_000_000, 0_usize..4), 1..60),
    ) {
        for plan in PLANS {
            let schedule = schedule(When::Cron(cron(plan.expression, plan.zone)));
            let mut cursor = cursor(&schedule, plan.from());
            let (mut now, mut ran) = (plan.from(), Vec::new());
            let mut steps = steps.iter().cycle();
            while cursor.at < plan.to() {
                let (step, taken) = steps.next().unwrap();
                // Large steps are rare, so that some ticks come alone and some together.
                now = plan.to().min(Timestamp(now.0 + 1 + if *taken == 0 { *step } else { step / 100 }));
                let due = schedule.due("t", &cursor, now);
                prop_assert_eq!(due.missed, 0);
                let all = *taken > 1 || now == plan.to();
                let taken = if all { due.ticks.len() } else { *taken };
                for tick in due.ticks.iter().take(taken) {
                    ran.push(tick.at);
                    cursor.at = tick.at;
                }
                if now == plan.to() {
                    break;
                }
            }
            prop_assert_eq!(ran, plan.ticks(), "{} {}", plan.zone, plan.expression);
        }
    }

    /// Whatever the schedule, the gap and the policy: the ticks that run are the last of those in the
    /// gap, and the cursor passes all of them.
    #[test]
    fn catching_up_takes_the_latest(
        interval in 1_u64..10_000,
        gap in 0_u64..5_000_000,
        catch_up in prop::sample::select(vec![CatchUp::None, CatchUp::Latest, CatchUp::All]),
    ) {
        let schedule = Schedule { catch_up, ..every(Duration::from_secs(interval)) };
        let cursor = cursor(&schedule, Timestamp(1_000_000));
        let now = Timestamp(1_000_000 + i64::try_from(gap).unwrap() * 1000);
        let due = schedule.due("t", &cursor, now);
        let all: Vec<Timestamp> = (1..=gap / interval)
            .map(|n| cursor.at.plus(Duration::from_secs(n * interval)))
            .collect();
        let in_time = all.iter().filter(|at| now.since(**at) <= TICK_GRACE).count();
        let runs = match catch_up {
            CatchUp::None => in_time,
            CatchUp::Latest => in_time.max(1).min(all.len()),
            CatchUp::All => in_time.max(CATCH_UP).min(all.len()),
        };
        prop_assert_eq!(ticks(&due), &all[all.len() - runs..]);
        let missed = u64::try_from(all.len() - runs).unwrap();
        prop_assert_eq!(due.missed, missed.min(COUNTED_TICKS));
        prop_assert_eq!(due.cursor_to, *all.last().unwrap_or(&cursor.at));
    }

    #[test]
    fn jitter_is_the_same_each_time_and_never_reaches_the_next_tick(
        jitter in 0_u64..200_000,
        interval in 1_u64..100,
        trigger in "[a-z]{1,8}",
    ) {
        let schedule = Schedule {
            jitter: Duration::from_millis(jitter),
            ..every(Duration::from_secs(interval))
        };
        let cursor = cursor(&schedule, Timestamp(0));
        let now = Timestamp(0).plus(Duration::from_secs(interval * 5));
        let due = schedule.due(&trigger, &cursor, now);
        prop_assert_eq!(&due, &schedule.due(&trigger, &cursor, now.plus(Duration::from_millis(1))));
        prop_assert_eq!(due.ticks.len(), 5);
        for tick in &due.ticks {
            prop_assert!(tick.due >= tick.at);
            prop_assert!(tick.due.since(tick.at) <= Duration::from_millis(jitter));
            prop_assert!(tick.due < tick.at.plus(Duration::from_secs(interval)));
        }
    }
}

#[test]
fn jitter_spreads_ticks_and_triggers() {
    let schedule = Schedule {
        jitter: HOUR,
        ..every(HOUR)
    };
    let cursor = cursor(&schedule, Timestamp(0));
    let delays = |trigger: &str| -> Vec<u64> {
        let due = schedule.due(trigger, &cursor, Timestamp(0).plus(HOUR * 1000));
        let delay = |tick: &Tick| tick.due.since(tick.at).as_secs();
        due.ticks.iter().map(delay).collect()
    };
    let (a, b) = (delays("a"), delays("b"));
    assert_ne!(a, b);
    // Means of a thousand uniform delays: half an hour, give or take 33 s for one deviation.
    let mean = a.iter().sum::<u64>() / 1000;
    assert!((1650..1950).contains(&mean), "{mean}");
    assert!(a.iter().any(|delay| *delay < 100) && a.iter().any(|delay| *delay > 3500));
}

#[test]
fn what_was_missed_runs_as_catch_up_says() {
    // Each hour; down from 2:10 to 7:30, or up again just after the hour.
    let cases = [
        (CatchUp::None, "07:30:00", &[][..], 5),
        (CatchUp::Latest, "07:30:00", &["07:00:00"][..], 4),
        (
            CatchUp::All,
            "07:30:00",
            &["03:00:00", "04:00:00", "05:00:00", "06:00:00", "07:00:00"][..],
            0,
        ),
        // A minute late is not missed.
        (CatchUp::None, "07:01:00", &["07:00:00"][..], 4),
        (CatchUp::None, "07:01:01", &[][..], 5),
        // The one in time is the latest.
        (CatchUp::Latest, "07:01:00", &["07:00:00"][..], 4),
        (CatchUp::Latest, "07:01:01", &["07:00:00"][..], 4),
        // Nothing was missed.
        (CatchUp::All, "02:59:59", &[][..], 0),
        (CatchUp::None, "03:00:00", &["03:00:00"][..], 0),
    ];
    let day = |time: &str| at(&format!("2026-05-05T{time}+02:00"));
    for (catch_up, now, runs, missed) in cases {
        let schedule = Schedule {
            catch_up,
            ..schedule(When::Cron(cron("0 * * * *", "Europe/Berlin")))
        };
        let due = schedule.due("t", &cursor(&schedule, day("02:10:00")), day(now));
        let runs: Vec<_> = runs.iter().map(|time| day(time)).collect();
        assert_eq!(
            (ticks(&due), due.missed),
            (runs, missed),
            "{catch_up:?} {now}"
        );
        let last = if now < "03" { "02:10:00" } else { "07:00:00" };
        let last = if now == "03:00:00" { "03:00:00" } else { last };
        assert_eq!(due.cursor_to, day(last), "{catch_up:?} {now}");
        for tick in &due.ticks {
            assert_eq!(tick.previous, Some(Timestamp(tick.at.0 - 3_600_000)));
        }
    }
}

#[test]
fn a_year_of_seconds_is_no_work() {
    let now = at("2027-05-05T00:00:00Z");
    for (catch_up, runs) in [
        (CatchUp::None, 61),
        (CatchUp::Latest, 61),
        (CatchUp::All, CATCH_UP),
    ] {
        for when in [
            When::Cron(cron("* * * * * *", "Europe/Berlin")),
            When::Every(Duration::from_secs(1)),
        ] {
            let schedule = Schedule {
                catch_up,
                ..schedule(when)
            };
            let start = cursor(&schedule, at("2026-05-05T00:00:00Z"));
            let due = schedule.due("t", &start, now);
            assert_eq!((due.ticks.len(), due.missed), (runs, COUNTED_TICKS));
            assert_eq!(due.cursor_to, now);
            assert_eq!(due.ticks.last().map(|tick| tick.at), Some(now));
        }
    }
}

#[test]
fn a_clock_that_is_set_back_repeats_nothing() {
    let schedule = schedule(When::Cron(cron("0 * * * *", "UTC")));
    let now = at("2026-05-05T12:00:10Z");
    let due = schedule.due("t", &cursor(&schedule, at("2026-05-05T11:30:00Z")), now);
    assert_eq!(ticks(&due), [at("2026-05-05T12:00:00Z")]);
    let cursor = cursor(&schedule, due.cursor_to);
    for (now, runs, warns) in [
        ("2026-05-05T11:30:00Z", &[][..], false),
        ("2026-05-05T10:59:00Z", &[][..], true),
        ("2026-05-01T12:00:00Z", &[][..], true),
        ("2026-05-05T12:00:20Z", &[][..], false),
        ("2026-05-05T13:00:00Z", &["2026-05-05T13:00:00Z"][..], false),
    ] {
        let due = schedule.due("t", &cursor, at(now));
        let runs: Vec<_> = runs.iter().map(|text| at(text)).collect();
        assert_eq!((ticks(&due), due.missed), (runs, 0), "{now}");
        assert!(due.cursor_to >= cursor.at, "{now}");
        assert_eq!(schedule.waits_for_clock(&cursor, at(now)), warns, "{now}");
    }
}

#[test]
fn every_does_not_drift() {
    let schedule = every(Duration::from_secs(300));
    let begin = at("2026-05-05T12:00:00.123Z");
    let mut cursor = cursor(&schedule, begin);
    assert_eq!(
        schedule
            .due("t", &cursor, begin.plus(Duration::from_secs(299)))
            .ticks,
        []
    );
    for n in 1..=100_u32 {
        let expected = begin.plus(Duration::from_secs(300) * n);
        assert_eq!(schedule.next_after(cursor.at), Some(expected));
        // Each time it is looked at later.
        let due = schedule.due("t", &cursor, expected.plus(Duration::from_secs(2) * n));
        assert_eq!(ticks(&due), [expected]);
        assert_eq!(due.ticks[0].previous, Some(cursor.at));
        cursor.at = due.cursor_to;
    }
    // Nor does it when ticks are left out.
    let none = Schedule {
        catch_up: CatchUp::None,
        ..schedule
    };
    let due = none.due(
        "t",
        &cursor,
        cursor.at.plus(Duration::from_secs(3000 + 200)),
    );
    assert_eq!((due.ticks.len(), due.missed), (0, 10));
    assert_eq!(due.cursor_to, cursor.at.plus(Duration::from_secs(3000)));
}

#[test]
fn at_runs_once_if_it_was_still_to_come() {
    let then = at("2027-01-01T00:00:00Z");
    for catch_up in [CatchUp::None, CatchUp::Latest, CatchUp::All] {
        let schedule = Schedule {
            catch_up,
            ..schedule(When::At(then))
        };
        let due = |from: &str, now: &str| {
            let due = schedule.due("t", &cursor(&schedule, at(from)), at(now));
            (ticks(&due), due.missed, due.cursor_to)
        };
        let (new, before) = ("2026-12-31T00:00:00Z", "2026-12-31T23:59:59Z");
        assert_eq!(due(new, before), (vec![], 0, at(new)));
        assert_eq!(due(new, "2027-01-01T00:00:00Z"), (vec![then], 0, then));
        // Passed while nobody was there.
        let (runs, missed) = match catch_up {
            CatchUp::None => (vec![], 1),
            _ => (vec![then], 0),
        };
        assert_eq!(due(new, "2027-02-01T00:00:00Z"), (runs, missed, then));
        // It ran, or was past when it was new.
        let past = "2027-01-01T00:00:00Z";
        assert_eq!(due(past, "2027-02-01T00:00:00Z"), (vec![], 0, then));
        assert_eq!(schedule.next_after(then), None);
        assert_eq!(schedule.next_after(at(new)), Some(then));
    }
}

#[test]
fn a_definition_tells_what_changes_ticks() {
    let nightly = |expression, zone| schedule(When::Cron(cron(expression, zone))).definition();
    assert_eq!(
        nightly("0 2 * *  mon", "Europe/Berlin"),
        "cron 0 2 * * MON Europe/Berlin"
    );
    assert_eq!(nightly("0 2 * * MON", "UTC"), "cron 0 2 * * MON UTC");
    assert_eq!(every(HOUR).definition(), "every 3600000ms");
    let jittered = Schedule {
        jitter: Duration::from_secs(5),
        catch_up: CatchUp::None,
        ..schedule(When::At(Timestamp(0)))
    };
    assert_eq!(
        jittered.definition(),
        "at 1970-01-01T00:00:00.000Z jitter 5000ms"
    );
}

#[test]
fn a_tick_is_an_event() {
    let tick = Tick {
        at: at("2026-03-29T03:00:00+02:00"),
        previous: Some(at("2026-03-28T02:30:00+01:00")),
        due: at("2026-03-29T03:00:30+02:00"),
    };
    let event = tick.event("nightly", at("2026-03-29T03:00:01.500+02:00"));
    assert_eq!(event.id, "2026-03-29T01:00:00.000Z");
    assert_eq!(event.source, "schedule:nightly");
    assert_eq!(event.kind, "schedule.tick");
    assert_eq!(event.subject.as_deref(), Some("nightly"));
    assert_eq!(event.time, tick.at);
    assert_eq!(
        event.data,
        r#"{"late_ms":1500,"previous":"2026-03-28T01:30:00.000Z","scheduled":"2026-03-29T01:00:00.000Z"}"#
    );
    // A clock that is set back meanwhile makes nothing early.
    let event = Tick {
        previous: None,
        ..tick
    }
    .event("t", Timestamp(0));
    assert_eq!(
        event.data,
        r#"{"late_ms":0,"previous":null,"scheduled":"2026-03-29T01:00:00.000Z"}"#
    );
}

#[test]
fn odd_times_break_nothing() {
    for when in [
        When::Cron(cron("0 2 * * *", "Europe/Berlin")),
        When::Cron(cron("* * * * * *", "Europe/Berlin")),
        When::Every(Duration::ZERO),
        When::Every(Duration::MAX),
        When::At(Timestamp::MAX),
    ] {
        let schedule = schedule(when);
        for at in [i64::MIN, -1, 0, i64::MAX - 1, i64::MAX] {
            schedule.next_after(Timestamp(at));
            for now in [i64::MIN, at, i64::MAX] {
                let due = schedule.due("t", &cursor(&schedule, Timestamp(at)), Timestamp(now));
                assert!(due.ticks.len() <= 61_000, "{}", due.ticks.len());
            }
        }
    }
}
