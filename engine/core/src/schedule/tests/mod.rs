//! Tables and properties of schedules. Instants are written as local time with its offset, which
//! says both what the clock on the wall shows and what time it is in UTC.

mod calendar;
mod catch_up;

use std::time::Duration;

use super::*;

/// An instant from RFC 3339.
fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

fn cron(expression: &str, zone: &str) -> Cron {
    Cron::parse(expression, zone).unwrap()
}

fn schedule(when: When) -> Schedule {
    Schedule {
        when,
        jitter: Duration::ZERO,
        catch_up: CatchUp::All,
        overlap: Overlap::Allow,
    }
}

fn cursor(schedule: &Schedule, at: Timestamp) -> Cursor {
    Cursor {
        at,
        definition: schedule.definition(),
    }
}

/// Over 48 hours from a beginning, the ticks of an expression in a zone.
#[derive(Clone, Debug)]
struct Plan {
    zone: &'static str,
    expression: &'static str,
    from: &'static str,
    ticks: &'static [&'static str],
}

impl Plan {
    fn from(&self) -> Timestamp {
        at(self.from)
    }

    fn to(&self) -> Timestamp {
        self.from().plus(Duration::from_secs(48 * 3600))
    }

    fn ticks(&self) -> Vec<Timestamp> {
        self.ticks.iter().map(|text| at(text)).collect()
    }
}

const fn plan(
    zone: &'static str,
    expression: &'static str,
    from: &'static str,
    ticks: &'static [&'static str],
) -> Plan {
    Plan {
        zone,
        expression,
        from,
        ticks,
    }
}

/// Both changes of the clock of a year, in zones that differ: one hour at two and at one o'clock,
/// half an hour, at midnight, and across midnight.
const PLANS: &[Plan] = &[
    // The clock skips 2:00 to 3:00.
    plan(
        "Europe/Berlin",
        "30 2 * * *",
        "2026-03-28T00:00:00+01:00",
        &["2026-03-28T02:30:00+01:00", "2026-03-29T03:00:00+02:00"],
    ),
    plan(
        "Europe/Berlin",
        "0 2,3 * * *",
        "2026-03-28T12:00:00+01:00",
        &[
            "2026-03-29T03:00:00+02:00",
            "2026-03-30T02:00:00+02:00",
            "2026-03-30T03:00:00+02:00",
        ],
    ),
    plan(
        "Europe/Berlin",
        "59 1 * * *",
        "2026-03-28T12:00:00+01:00",
        &["2026-03-29T01:59:00+01:00", "2026-03-30T01:59:00+02:00"],
    ),
    plan(
        "Europe/Berlin",
        "0 0-23/6 * * *",
        "2026-03-28T17:00:00+01:00",
        &[
            "2026-03-28T18:00:00+01:00",
            "2026-03-29T00:00:00+01:00",
            "2026-03-29T06:00:00+02:00",
            "2026-03-29T12:00:00+02:00",
            "2026-03-29T18:00:00+02:00",
            "2026-03-30T00:00:00+02:00",
            "2026-03-30T06:00:00+02:00",
            "2026-03-30T12:00:00+02:00",
            "2026-03-30T18:00:00+02:00",
        ],
    ),
    // By elapsed time: what matches in the hour that is skipped does not come.
    plan(
        "Europe/Berlin",
        "*/20 1-3 29 3 *",
        "2026-03-28T12:00:00+01:00",
        &[
            "2026-03-29T01:00:00+01:00",
            "2026-03-29T01:20:00+01:00",
            "2026-03-29T01:40:00+01:00",
            "2026-03-29T03:00:00+02:00",
            "2026-03-29T03:20:00+02:00",
            "2026-03-29T03:40:00+02:00",
        ],
    ),
    // The clock shows 2:00 to 3:00 twice.
    plan(
        "Europe/Berlin",
        "30 2 * * *",
        "2026-10-24T12:00:00+02:00",
        &["2026-10-25T02:30:00+02:00", "2026-10-26T02:30:00+01:00"],
    ),
    plan(
        "Europe/Berlin",
        "0,30 1-3 25 10 *",
        "2026-10-24T12:00:00+02:00",
        &[
            "2026-10-25T01:00:00+02:00",
            "2026-10-25T01:30:00+02:00",
            "2026-10-25T02:00:00+02:00",
            "2026-10-25T02:30:00+02:00",
            "2026-10-25T03:00:00+01:00",
            "2026-10-25T03:30:00+01:00",
        ],
    ),
    plan(
        "Europe/Berlin",
        "*/30 1-3 25 10 *",
        "2026-10-24T12:00:00+02:00",
        &[
            "2026-10-25T01:00:00+02:00",
            "2026-10-25T01:30:00+02:00",
            "2026-10-25T02:00:00+02:00",
            "2026-10-25T02:30:00+02:00",
            "2026-10-25T02:00:00+01:00",
            "2026-10-25T02:30:00+01:00",
            "2026-10-25T03:00:00+01:00",
            "2026-10-25T03:30:00+01:00",
        ],
    ),
    plan(
        "Europe/Berlin",
        "*/20 30 2 * * *",
        "2026-10-24T12:00:00+02:00",
        &[
            "2026-10-25T02:30:00+02:00",
            "2026-10-25T02:30:20+02:00",
            "2026-10-25T02:30:40+02:00",
            "2026-10-25T02:30:00+01:00",
            "2026-10-25T02:30:20+01:00",
            "2026-10-25T02:30:40+01:00",
            "2026-10-26T02:30:00+01:00",
            "2026-10-26T02:30:20+01:00",
            "2026-10-26T02:30:40+01:00",
        ],
    ),
    plan(
        "Europe/Berlin",
        "0 30 */2 25 10 *",
        "2026-10-23T03:45:00+02:00",
        &[
            "2026-10-25T00:30:00+02:00",
            "2026-10-25T02:30:00+02:00",
            "2026-10-25T02:30:00+01:00",
        ],
    ),
    // A beginning in the second of the two hours: the first was before.
    plan(
        "Europe/Berlin",
        "30 2 * * *",
        "2026-10-25T02:10:00+01:00",
        &["2026-10-26T02:30:00+01:00"],
    ),
    plan(
        "America/New_York",
        "30 2 * * *",
        "2026-03-07T12:00:00-05:00",
        &["2026-03-08T03:00:00-04:00", "2026-03-09T02:30:00-04:00"],
    ),
    plan(
        "America/New_York",
        "15 30 1 * * *",
        "2026-10-31T12:00:00-04:00",
        &["2026-11-01T01:30:15-04:00", "2026-11-02T01:30:15-05:00"],
    ),
    plan(
        "America/New_York",
        "0 */6 * * *",
        "2026-10-31T12:00:00-04:00",
        &[
            "2026-10-31T18:00:00-04:00",
            "2026-11-01T00:00:00-04:00",
            "2026-11-01T06:00:00-05:00",
            "2026-11-01T12:00:00-05:00",
            "2026-11-01T18:00:00-05:00",
            "2026-11-02T00:00:00-05:00",
            "2026-11-02T06:00:00-05:00",
        ],
    ),
    // Half an hour: the clock goes from 2:00 to 1:30, and half a year later from 2:00 to 2:30.
    plan(
        "Australia/Lord_Howe",
        "45 1 * * *",
        "2026-04-04T12:00:00+11:00",
        &["2026-04-05T01:45:00+11:00", "2026-04-06T01:45:00+10:30"],
    ),
    plan(
        "Australia/Lord_Howe",
        "*/15 1 5 4 *",
        "2026-04-04T12:00:00+11:00",
        &[
            "2026-04-05T01:00:00+11:00",
            "2026-04-05T01:15:00+11:00",
            "2026-04-05T01:30:00+11:00",
            "2026-04-05T01:45:00+11:00",
            "2026-04-05T01:30:00+10:30",
            "2026-04-05T01:45:00+10:30",
        ],
    ),
    plan(
        "Australia/Lord_Howe",
        "15 2 * * *",
        "2026-10-03T12:00:00+10:30",
        &["2026-10-04T02:30:00+11:00", "2026-10-05T02:15:00+11:00"],
    ),
    // Midnight is skipped, and eleven in the evening comes twice.
    plan(
        "America/Santiago",
        "0 0 * * *",
        "2026-09-05T12:00:00-04:00",
        &["2026-09-06T01:00:00-03:00", "2026-09-07T00:00:00-03:00"],
    ),
    plan(
        "America/Santiago",
        "@daily",
        "2026-09-04T12:00:00-04:00",
        &["2026-09-05T00:00:00-04:00", "2026-09-06T01:00:00-03:00"],
    ),
    plan(
        "America/Santiago",
        "30 0 * * SUN",
        "2026-09-05T12:00:00-04:00",
        &["2026-09-06T01:00:00-03:00"],
    ),
    plan(
        "America/Santiago",
        "30 23 * * *",
        "2026-04-04T12:00:00-03:00",
        &["2026-04-04T23:30:00-03:00", "2026-04-05T23:30:00-04:00"],
    ),
    plan(
        "America/Santiago",
        "*/30 23 4 4 *",
        "2026-04-04T12:00:00-03:00",
        &[
            "2026-04-04T23:00:00-03:00",
            "2026-04-04T23:30:00-03:00",
            "2026-04-04T23:00:00-04:00",
            "2026-04-04T23:30:00-04:00",
        ],
    ),
    // The first instant after is on another day, which does not match.
    plan(
        "America/Nuuk",
        "30 23 * * SAT",
        "2026-03-28T12:00:00-02:00",
        &["2026-03-29T00:00:00-01:00"],
    ),
];
