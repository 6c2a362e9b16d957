//! `tidemill schedule`: when schedules tick. It asks the plan alone, no engine and no journal.

use std::fmt::Write;

use clap::Subcommand;
use serde::Serialize;
use tidemill_config::plan::{Plan, SourcePlan};
use tidemill_core::{
    schedule::{Schedule, Unusual, When},
    time::Timestamp,
};

use super::{ConfigArg, Failure, unknown};
use crate::clock;

/// What to do with schedules.
#[derive(Debug, Subcommand)]
pub(super) enum Schedules {
    /// Show when they tick next. Needs no running engine.
    Preview {
        /// Of this trigger; all, if it is not given.
        trigger: Option<String>,
        /// So many ticks of each.
        #[arg(long, value_name = "COUNT", default_value_t = 10,
              value_parser = clap::value_parser!(u32).range(1..=1000))]
        next: u32,
        /// Those after this instant instead of now, such as `2027-03-28T00:00:00+01:00`.
        #[arg(long, value_name = "INSTANT")]
        from: Option<Timestamp>,
        /// Answer in JSON, one tick a line.
        #[arg(long)]
        json: bool,
        #[command(flatten)]
        config: ConfigArg,
    },
}

impl Schedules {
    pub(super) fn run(self) -> Result<(), Failure> {
        let Schedules::Preview {
            trigger,
            next,
            from,
            json,
            config,
        } = self;
        let plan = config.plan()?;
        let from = from.unwrap_or_else(clock::now);
        let chosen = chosen(&plan, trigger.as_deref())?;
        if chosen.is_empty() && !json {
            outln!("no schedules in {}", config.config.display());
        }
        for (n, (trigger, schedule)) in chosen.into_iter().enumerate() {
            let ticks = ticks(trigger, schedule, from, next);
            if json {
                for tick in &ticks {
                    outln!("{}", serde_json::to_string(tick)?);
                }
            } else {
                let gap = if n > 0 { "\n" } else { "" };
                out!("{gap}{}", show(trigger, schedule, from, &ticks));
            }
        }
        Ok(())
    }
}

/// The schedules that are asked for, by trigger.
fn chosen<'a>(
    plan: &'a Plan,
    trigger: Option<&str>,
) -> Result<Vec<(&'a str, &'a Schedule)>, Failure> {
    let all = plan
        .triggers
        .iter()
        .filter_map(|(name, trigger)| match &trigger.source {
            SourcePlan::Schedule(schedule) => Some((name.as_str(), schedule)),
            _ => None,
        });
    let all: Vec<_> = all.collect();
    let Some(wanted) = trigger else {
        return Ok(all);
    };
    let one: Vec<_> = all
        .iter()
        .copied()
        .filter(|(name, _)| *name == wanted)
        .collect();
    if one.is_empty() {
        let known = all.iter().map(|(name, _)| *name);
        return Err(unknown("schedule", wanted, &plan.file, known));
    }
    Ok(one)
}

/// A tick to come.
#[derive(Serialize)]
struct Line<'a> {
    trigger: &'a str,
    /// By the clock of the schedule's time zone.
    local: Option<String>,
    scheduled: String,
    /// What a change of the clock does to it.
    unusual: Option<String>,
}

fn ticks<'a>(trigger: &'a str, schedule: &Schedule, from: Timestamp, next: u32) -> Vec<Line<'a>> {
    let line = |at: Timestamp| {
        let cron = match &schedule.when {
            When::Cron(cron) => Some(cron),
            When::Every(_) | When::At(_) => None,
        };
        let local = cron.and_then(|cron| cron.local(at));
        let unusual = cron.and_then(|cron| cron.unusual(at));
        Line {
            trigger,
            local: local.map(|at| at.to_rfc3339()),
            scheduled: at.to_string(),
            unusual: unusual.as_ref().map(Unusual::to_string),
        }
    };
    let after = |at: &Timestamp| schedule.next_after(*at);
    let ticks = std::iter::successors(schedule.next_after(from), after);
    ticks.take(next as usize).map(line).collect()
}

fn show(trigger: &str, schedule: &Schedule, from: Timestamp, ticks: &[Line<'_>]) -> String {
    let mut text = match &schedule.when {
        When::Cron(cron) => format!("{trigger}: {} in {}\n", cron.expression(), cron.zone()),
        When::Every(interval) => {
            let interval = humantime::format_duration(*interval);
            format!(
                "{trigger}: every {interval}, counted from {from} (a running engine counts from \
                 when the schedule was new)\n"
            )
        }
        When::At(_) => format!("{trigger}: once\n"),
    };
    for tick in ticks {
        let mut line = |parts: &[&str]| writeln!(text, "  {}", parts.join("  "));
        let written = match (&tick.local, &tick.unusual) {
            (Some(local), Some(unusual)) => line(&[local, &tick.scheduled, unusual]),
            (Some(local), None) => line(&[local, &tick.scheduled]),
            (None, _) => line(&[&tick.scheduled]),
        };
        written.expect("a string takes all that is written");
    }
    if ticks.is_empty() {
        text.push_str(&format!("  no tick after {from}\n"));
    } else if !schedule.jitter.is_zero() {
        let jitter = humantime::format_duration(schedule.jitter);
        text.push_str(&format!("  each comes up to {jitter} later\n"));
    }
    text
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tidemill_core::schedule::{CatchUp, Cron, Overlap};

    use super::*;

    fn preview(when: When, jitter: Duration, from: &str, next: u32) -> String {
        let schedule = Schedule {
            when,
            jitter,
            catch_up: CatchUp::Latest,
            overlap: Overlap::Skip,
        };
        let from = from.parse().unwrap();
        show(
            "nightly",
            &schedule,
            from,
            &ticks("nightly", &schedule, from, next),
        )
    }

    fn cron(expression: &str) -> When {
        When::Cron(Cron::parse(expression, "Europe/Berlin").unwrap())
    }

    #[test]
    fn shows_local_time_and_what_is_unusual() {
        let (from, jitter) = ("2026-03-28T00:00:00+01:00", Duration::from_secs(90));
        assert_eq!(
            preview(cron("30 2 * * *"), jitter, from, 3),
            "nightly: 30 2 * * * in Europe/Berlin
  2026-03-28T02:30:00+01:00  2026-03-28T01:30:00.000Z
  2026-03-29T03:00:00+02:00  2026-03-29T01:00:00.000Z  the clock skips its time, it comes right after
  2026-03-30T02:30:00+02:00  2026-03-30T00:30:00.000Z
  each comes up to 1m 30s later
"
        );
        assert_eq!(
            preview(
                cron("@hourly"),
                Duration::ZERO,
                "2026-10-25T02:30:00+02:00",
                2
            ),
            "nightly: @hourly in Europe/Berlin
  2026-10-25T02:00:00+01:00  2026-10-25T01:00:00.000Z  the clock shows this time twice, the second
  2026-10-25T03:00:00+01:00  2026-10-25T02:00:00.000Z
"
        );
    }

    #[test]
    fn shows_what_has_no_time_zone() {
        let five = When::Every(Duration::from_secs(300));
        let (from, at) = ("2027-01-01T00:00:00Z", "2027-01-02T00:00:00Z");
        assert_eq!(
            preview(five, Duration::ZERO, from, 1),
            "nightly: every 5m, counted from 2027-01-01T00:00:00.000Z (a running engine counts from \
             when the schedule was new)
  2027-01-01T00:05:00.000Z
"
        );
        let once = || When::At(at.parse().unwrap());
        assert_eq!(
            preview(once(), Duration::ZERO, from, 5),
            "nightly: once\n  2027-01-02T00:00:00.000Z\n"
        );
        assert_eq!(
            preview(once(), Duration::from_secs(5), at, 5),
            "nightly: once\n  no tick after 2027-01-02T00:00:00.000Z\n"
        );
    }
}
