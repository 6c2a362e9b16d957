//! Cron expressions in a time zone. The croner library knows the calendar; what a time means that a
//! change of the clock skips or repeats is decided here.

use std::fmt;

use chrono::{DateTime, MappedLocalTime, NaiveDateTime, Offset, TimeZone, Utc};
use chrono_tz::{GapInfo, TZ_VARIANTS, Tz};
use croner::parser::{CronParser, Seconds, Year};

use crate::time::Timestamp;

/// A cron expression in a time zone.
#[derive(Clone, Debug, PartialEq)]
pub struct Cron {
    expression: String,
    zone: Tz,
    /// In a box, for it is large.
    pattern: Box<croner::Cron>,
    /// Whether it names seconds, minutes and hours, and so runs once at each of them.
    fixed: bool,
}

/// What is wrong with a [`Cron`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CronError {
    /// The expression; in words.
    #[error("{0}")]
    Expression(String),
    /// There is no time zone of this name.
    #[error("there is no time zone `{0}`")]
    Zone(String),
}

/// What a change of the clock does to a tick.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unusual {
    /// Its local time does not exist that day: it comes at the first instant after.
    Moved,
    /// Its local time comes twice: this is the first time.
    First,
    /// Its local time comes twice: this is the second time.
    Second,
}

impl fmt::Display for Unusual {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Unusual::Moved => "the clock skips its time, it comes right after",
            Unusual::First => "the clock shows this time twice, the first",
            Unusual::Second => "the clock shows this time twice, the second",
        })
    }
}

impl Cron {
    /// An expression of five fields, or of six with the seconds first, in an IANA time zone.
    ///
    /// The fields are those of cron, with names (`MON`, `JAN`), `L` (last), `W` (nearest weekday) and
    /// `#` (nth weekday); so are `@yearly`, `@monthly`, `@weekly`, `@daily` and `@hourly`. A day
    /// matches when its day of the month or its weekday does, if both are given; both must, if the
    /// weekday begins with `+`.
    pub fn parse(expression: &str, zone: &str) -> Result<Cron, CronError> {
        let expression = FIELDS.check(expression).map_err(CronError::Expression)?;
        let zone: Tz = zone.parse().map_err(|_| CronError::Zone(zone.to_owned()))?;
        let pattern = parse(&expression).map_err(|error| {
            CronError::Expression(format!("`{expression}` is not understood: {error}"))
        })?;
        // The names, as in `@daily`, are fields by now.
        let normal = pattern.pattern.to_string();
        let fields = normal.split_whitespace();
        let of_day = if fields.clone().count() == 6 { 3 } else { 2 };
        let cron = Cron {
            fixed: !fields.clone().take(of_day).any(|field| field.contains('*')),
            expression,
            zone,
            pattern: Box::new(pattern),
        };
        // The calendar repeats itself after 400 years; any beginning will do.
        if cron.next_after(Timestamp(0)).is_none() {
            return Err(CronError::Expression(format!(
                "`{}` never comes: no month has such a day",
                cron.expression
            )));
        }
        Ok(cron)
    }

    /// The names of all time zones.
    pub fn zones() -> impl Iterator<Item = &'static str> {
        TZ_VARIANTS.iter().map(|zone| zone.name())
    }

    /// The expression, its fields in upper case with single spaces between them.
    pub fn expression(&self) -> &str {
        &self.expression
    }

    /// The name of the time zone.
    pub fn zone(&self) -> &'static str {
        self.zone.name()
    }

    /// This instant as the clocks of the time zone show it, to the second; absent, if it is too far
    /// from now. (The library finds ticks up to a second late if it is given fractions.)
    pub fn local(&self, at: Timestamp) -> Option<DateTime<Tz>> {
        let utc: DateTime<Utc> = DateTime::from_timestamp(at.0.div_euclid(1000), 0)?;
        Some(utc.with_timezone(&self.zone))
    }

    /// The first tick after `after`; absent, if there is none for the next thousands of years.
    pub fn next_after(&self, after: Timestamp) -> Option<Timestamp> {
        let from = self.local(after)?;
        if !self.fixed {
            let next = self.pattern.find_next_occurrence(&from, false).ok()?;
            return Some(next.to_utc().into());
        }
        let mut local = from.naive_local();
        loop {
            local = self.pattern.find_next_occurrence(&local, false).ok()?;
            // When the clock shows an hour again, its times have been.
            let at = self.instant(local)?;
            if at > after {
                return Some(at);
            }
        }
    }

    /// The last tick at or before `until`; absent, if there is none for thousands of years.
    pub fn last_until(&self, until: Timestamp) -> Option<Timestamp> {
        let from = self.local(until)?;
        if !self.fixed {
            let last = self.pattern.find_previous_occurrence(&from, true).ok()?;
            return Some(last.to_utc().into());
        }
        // When the clock shows an hour again, all of it has been, and later local times with it.
        let mut local = match self.zone.from_local_datetime(&from.naive_local()) {
            MappedLocalTime::Ambiguous(first, second) if from >= second => {
                from.naive_utc() + first.offset().fix()
            }
            _ => from.naive_local(),
        };
        let mut inclusive = true;
        loop {
            let search = self.pattern.find_previous_occurrence(&local, inclusive);
            local = search.ok()?;
            inclusive = false;
            let at = self.instant(local)?;
            if at <= until {
                return Some(at);
            }
        }
    }

    /// What a change of the clock does to this tick.
    pub fn unusual(&self, tick: Timestamp) -> Option<Unusual> {
        let at = self.local(tick)?;
        match self.zone.from_local_datetime(&at.naive_local()) {
            MappedLocalTime::Ambiguous(first, _) if first == at => Some(Unusual::First),
            MappedLocalTime::Ambiguous(..) => Some(Unusual::Second),
            _ => match self.pattern.is_time_matching(&at) {
                Ok(true) => None,
                _ => Some(Unusual::Moved),
            },
        }
    }

    /// When the clock shows this time, for the first time; if it skips it, the first instant after.
    /// Never decreases with `local`, on which [`Cron::next_after`] and [`Cron::last_until`] rely.
    fn instant(&self, local: NaiveDateTime) -> Option<Timestamp> {
        let at = match self.zone.from_local_datetime(&local) {
            MappedLocalTime::Single(at) | MappedLocalTime::Ambiguous(at, _) => at,
            MappedLocalTime::None => GapInfo::new(&local, &self.zone)?.end?,
        };
        Some(at.to_utc().into())
    }
}

fn parse(expression: &str) -> Result<croner::Cron, croner::errors::CronError> {
    CronParser::builder()
        .seconds(Seconds::Optional)
        .year(Year::Disallowed)
        .build()
        .parse(expression)
}

/// A field of an expression: its name, the words it may contain, and how to write it.
struct Field(&'static str, &'static [&'static str], &'static str);

struct Fields([Field; 6]);

const FIELDS: Fields = Fields([
    Field("second", &[], "0-59"),
    Field("minute", &[], "0-59"),
    Field("hour", &[], "0-23"),
    Field(
        "day of the month",
        &["L", "W", "LW"],
        "1-31, `L` for the last day, or `15W` for the weekday nearest to the 15th",
    ),
    Field(
        "month",
        &[
            "JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC",
        ],
        "1-12 or JAN-DEC",
    ),
    Field(
        "day of the week",
        &["SUN", "MON", "TUE", "WED", "THU", "FRI", "SAT", "L"],
        "0-7 or SUN-SAT, `5L` for the last Friday, or `5#2` for the second",
    ),
]);

const NAMES: [&str; 6] = [
    "@yearly",
    "@annually",
    "@monthly",
    "@weekly",
    "@daily",
    "@hourly",
];

impl Fields {
    /// The expression in its normal form, or which of its fields is wrong and how to write it. The
    /// library tells neither, and lets through what nobody means: empty items, and the names of
    /// weekdays in place of hours.
    fn check(&self, expression: &str) -> Result<String, String> {
        let parts: Vec<String> = expression
            .split_whitespace()
            .map(str::to_uppercase)
            .collect();
        let normal = parts.join(" ");
        if normal.starts_with('@') {
            let name = normal.to_lowercase();
            return match NAMES.contains(&name.as_str()) {
                true => Ok(name),
                false => Err(format!(
                    "there is no `{}`: write {}, or five fields",
                    expression.trim(),
                    NAMES.join(", "),
                )),
            };
        }
        let fields = match parts.len() {
            5 => &self.0[1..],
            6 => &self.0[..],
            n => {
                let s = if n == 1 { "" } else { "s" };
                return Err(format!(
                    "it has {n} field{s}: write five (minute, hour, day of the month, month, day \
                     of the week), as in `0 2 * * *`, or six with the seconds first"
                ));
            }
        };
        for (n, (part, Field(name, words, how))) in parts.iter().zip(fields).enumerate() {
            let mut alone = vec!["*"; parts.len()];
            alone[n] = part;
            let named = part.split(|c: char| !c.is_alphabetic());
            let strange = named.clone().any(|word| {
                // As in `FRIL`, the last Friday.
                let day = word.strip_suffix('L').filter(|day| words.contains(day));
                !word.is_empty() && !words.contains(&word) && day.is_none()
            });
            let empty = part.split(',').any(str::is_empty);
            if strange || empty || parse(&alone.join(" ")).is_err() {
                return Err(format!(
                    "its {name} is `{part}`: write {how}; or `*`, a list `1,2`, a range `1-5`, or \
                     a step `*/5`"
                ));
            }
        }
        Ok(normal)
    }
}
