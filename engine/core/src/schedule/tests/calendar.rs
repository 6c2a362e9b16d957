//! Cron expressions: their ticks, and what is wrong with them.

use proptest::prelude::*;

use super::*;

#[test]
fn ticks_where_the_clock_changes() {
    for plan in PLANS {
        let cron = cron(plan.expression, plan.zone);
        let text = |ticks: &[Timestamp]| -> Vec<String> {
            let local = |at: &Timestamp| cron.local(*at).unwrap().to_rfc3339();
            ticks.iter().map(local).collect()
        };
        let (what, ticks) = ((plan.zone, plan.expression, plan.from), plan.ticks());
        let next = |after: &Timestamp| cron.next_after(*after).filter(|at| *at <= plan.to());
        let forward: Vec<_> = std::iter::successors(next(&plan.from()), next).collect();
        assert_eq!(text(&forward), text(&ticks), "{what:?}");

        // From anywhere in between, the same are found in both directions.
        for minute in (0..=48 * 60).step_by(5) {
            let here = plan.from().plus(Duration::from_secs(minute * 60));
            let last = cron.last_until(here).filter(|at| *at > plan.from());
            let before = ticks.iter().rfind(|at| **at <= here).copied();
            assert_eq!(last, before, "{what:?} until {here}");
            let after = ticks.iter().find(|at| **at > here).copied();
            assert_eq!(next(&here), after, "{what:?} after {here}");
        }
    }
}

#[test]
fn each_hour_is_sixty_minutes_after_the_one_before() {
    for (zone, from) in [
        ("Europe/Berlin", "2026-03-28T12:00:00Z"),
        ("Europe/Berlin", "2026-10-24T12:00:00Z"),
        ("America/New_York", "2026-03-07T12:00:00Z"),
        ("America/New_York", "2026-10-31T12:00:00Z"),
        ("America/Santiago", "2026-04-04T12:00:00Z"),
        ("Asia/Beirut", "2026-03-28T12:00:00Z"),
    ] {
        for expression in ["0 * * * *", "@hourly", "0 */1 * * *"] {
            let cron = cron(expression, zone);
            let mut tick = at(from);
            for _ in 0..48 {
                let next = cron.next_after(tick).unwrap();
                assert_eq!(
                    next.since(tick).as_secs(),
                    3600,
                    "{zone} {expression} {tick}"
                );
                assert_eq!(cron.last_until(Timestamp(next.0 - 1)), Some(tick), "{zone}");
                tick = next;
            }
        }
    }
}

#[test]
fn months_end_and_years_leap() {
    for (expression, from, ticks) in [
        (
            "0 6 L * *",
            "2027-12-31T06:00:00Z",
            &[
                "2028-01-31T06:00:00Z",
                "2028-02-29T06:00:00Z",
                "2028-03-31T06:00:00Z",
            ][..],
        ),
        (
            "0 0 31 * *",
            "2026-01-31T00:00:00Z",
            &["2026-03-31T00:00:00Z", "2026-05-31T00:00:00Z"],
        ),
        (
            "0 0 29 2 *",
            "2026-01-01T00:00:00Z",
            &["2028-02-29T00:00:00Z", "2032-02-29T00:00:00Z"],
        ),
        (
            "0 9 1 * MON",
            "2026-05-31T00:00:00Z",
            &["2026-06-01T09:00:00Z", "2026-06-08T09:00:00Z"],
        ),
        (
            "0 9 1 * +MON",
            "2026-05-31T00:00:00Z",
            &["2026-06-01T09:00:00Z", "2027-02-01T09:00:00Z"],
        ),
        (
            "0 9 * * 5#2",
            "2026-01-01T00:00:00Z",
            &["2026-01-09T09:00:00Z", "2026-02-13T09:00:00Z"],
        ),
        (
            "59 59 23 31 12 *",
            "2026-01-01T00:00:00Z",
            &["2026-12-31T23:59:59Z", "2027-12-31T23:59:59Z"],
        ),
        (
            "*/30 * * * * *",
            "2026-01-01T00:00:00.500Z",
            &["2026-01-01T00:00:30Z", "2026-01-01T00:01:00Z"],
        ),
        (
            "0 22 * * MON-FRI",
            "2026-01-02T22:00:00Z",
            &["2026-01-05T22:00:00Z", "2026-01-06T22:00:00Z"],
        ),
        (
            "@weekly",
            "2026-01-01T00:00:00Z",
            &["2026-01-04T00:00:00Z", "2026-01-11T00:00:00Z"],
        ),
    ] {
        let cron = cron(expression, "UTC");
        let mut tick = at(from);
        for expected in ticks {
            tick = cron.next_after(tick).unwrap();
            assert_eq!(tick, at(expected), "{expression}");
        }
    }
}

#[test]
fn what_is_unusual_about_a_tick() {
    let fixed = cron("30 2 * * *", "Europe/Berlin");
    for (tick, unusual) in [
        ("2026-03-28T02:30:00+01:00", None),
        ("2026-03-29T03:00:00+02:00", Some(Unusual::Moved)),
        ("2026-10-25T02:30:00+02:00", Some(Unusual::First)),
        ("2026-10-25T02:30:00+01:00", Some(Unusual::Second)),
    ] {
        assert_eq!(fixed.unusual(at(tick)), unusual, "{tick}");
    }
    let wildcard = cron("*/30 * * * *", "Europe/Berlin");
    assert_eq!(wildcard.unusual(at("2026-03-29T03:00:00+02:00")), None);
}

#[test]
fn says_what_is_wrong() {
    for (expression, words) in [
        (
            "",
            "it has 0 fields: write five (minute, hour, day of the month, month, day of the week), \
             as in `0 2 * * *`, or six with the seconds first",
        ),
        ("0 2 * *", "it has 4 fields"),
        ("0 0 2 * * * 2027", "it has 7 fields"),
        (
            "@reboot",
            "there is no `@reboot`: write @yearly, @annually,",
        ),
        ("@daily 5", "there is no `@daily 5`"),
        ("60 2 * * *", "its minute is `60`: write 0-59; or `*`,"),
        ("0 24 * * *", "its hour is `24`"),
        ("0 0 2 * * 8", "its day of the week is `8`"),
        ("61 0 2 * * *", "its second is `61`"),
        ("0 2 0 * *", "its day of the month is `0`: write 1-31,"),
        ("0 2 * 13 *", "its month is `13`: write 1-12 or JAN-DEC;"),
        ("0 2 * * JAN", "its day of the week is `JAN`"),
        ("0 2 * MON *", "its month is `MON`"),
        ("0 MON * * *", "its hour is `MON`"),
        ("0 2 * * MONDAY", "its day of the week is `MONDAY`"),
        ("0 2 ünd * *", "its day of the month is `ÜND`"),
        ("0 5-1 * * *", "its hour is `5-1`"),
        ("0/5 * * * *", "its minute is `0/5`"),
        ("*/0 * * * *", "its minute is `*/0`"),
        (", * * * *", "its minute is `,`"),
        ("1,,2 * * * *", "its minute is `1,,2`"),
        ("@ * * * *", "there is no `@ * * * *`"),
        (
            "0 0 30 2 *",
            "`0 0 30 2 *` never comes: no month has such a day",
        ),
        ("* * 31 4,6,9,11 *", "`* * 31 4,6,9,11 *` never comes"),
    ] {
        let error = Cron::parse(expression, "UTC").unwrap_err();
        let CronError::Expression(text) = &error else {
            panic!("{expression}: {error}");
        };
        assert!(text.starts_with(words), "{expression}: {text}");
    }
    for zone in ["Europe/Munich", "europe/berlin", "", "CEST", "+02:00"] {
        let error = Cron::parse("0 2 * * *", zone).unwrap_err();
        assert_eq!(error, CronError::Zone(zone.into()));
    }
    assert!(Cron::zones().any(|zone| zone == "Europe/Berlin"));
}

#[test]
fn takes_what_people_write() {
    for expression in [
        "0 2 * * fri-sun",
        "0 2 ? * MON,WED",
        "0 2 LW * *",
        "0 2 15W jan-mar *",
        "0 2 * * FRIL",
        "0 2 * * MON#1",
        "5,10-20/5,40 8-18/2 * * 7",
        " \t0  2 * *  * ",
        "@Annually",
    ] {
        let cron = cron(expression, "UTC");
        assert!(cron.next_after(Timestamp(0)).is_some(), "{expression}");
    }
}

/// A field of an expression, to be reckoned with: `*`, steps, numbers, ranges, lists.
fn field(first: u32, last: u32) -> impl Strategy<Value = String> {
    let number = first..=last;
    prop_oneof![
        3 => Just("*".to_owned()),
        1 => (2..=last).prop_map(|step| format!("*/{step}")),
        2 => number.clone().prop_map(|n| n.to_string()),
        1 => (number.clone(), number.clone())
            .prop_map(|(a, b)| format!("{}-{}", a.min(b), a.max(b))),
        1 => proptest::collection::btree_set(number, 1..4).prop_map(|set| {
            let items: Vec<_> = set.iter().map(u32::to_string).collect();
            items.join(",")
        }),
    ]
}

fn any_cron() -> impl Strategy<Value = Cron> {
    let zones = prop::sample::select(vec![
        "UTC",
        "Europe/Berlin",
        "America/New_York",
        "Australia/Lord_Howe",
        "America/Santiago",
        "America/Nuuk",
        "Asia/Beirut",
        "Africa/Casablanca",
        "Asia/Kathmandu",
    ]);
    let fields = (field(0, 59), field(0, 59), field(0, 23), field(1, 28));
    (fields, field(1, 12), field(0, 6), zones).prop_map(|((s, m, h, d), month, dow, zone)| {
        cron(&format!("{s} {m} {h} {d} {month} {dow}"), zone)
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]

    #[test]
    fn ticks_are_found_in_both_directions(
        cron in any_cron(),
        // 2026 and 2027, half of them near a change of the clock.
        from in prop_oneof![
            1_767_225_600_000_i64..1_830_297_600_000,
            (prop::sample::select(PLANS), 0..48 * 3_600_000_i64)
                .prop_map(|(plan, later)| plan.from().0 + later),
        ],
    ) {
        let from = Timestamp(from);
        let next = cron.next_after(from).unwrap();
        prop_assert!(next > from);
        prop_assert!(cron.next_after(next).unwrap() > next);
        // Between the two there is none.
        let last = cron.last_until(from).unwrap();
        prop_assert!(last <= from);
        prop_assert_eq!(cron.next_after(last), Some(next));
        prop_assert_eq!(cron.last_until(Timestamp(next.0 - 1)), Some(last));
        prop_assert_eq!(cron.last_until(next), Some(next));
        prop_assert_eq!(next.0 % 1000, 0);
    }

    #[test]
    fn no_text_breaks_the_parser(text in "[-0-9*/,#LWA-Z@+? ]{0,24}", zone in "[A-Za-z/_]{0,12}") {
        match Cron::parse(&text, &zone) {
            Ok(cron) => prop_assert!(cron.next_after(Timestamp(0)).is_some()),
            Err(error) => prop_assert!(!error.to_string().is_empty()),
        }
    }

    #[test]
    fn no_expression_breaks_the_parser(
        fields in proptest::collection::vec("[-0-9*/,#LW+?]{1,6}|MON|JAN", 5..7),
    ) {
        match Cron::parse(&fields.join(" "), "Europe/Berlin") {
            Ok(cron) => prop_assert!(cron.next_after(Timestamp(0)).is_some()),
            Err(error) => prop_assert!(!error.to_string().is_empty()),
        }
    }
}
