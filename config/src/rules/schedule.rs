//! Schedules: what belongs to cron alone, and how far ticks may be shifted.

use crate::{
    sink::{Draft, Sink},
    tree::Table,
};

pub(super) fn check(sink: &mut Sink<'_>, name: &str, trigger: &Table) {
    if let Some(schedule) = trigger.table("schedule") {
        zone(sink, name, schedule);
        jitter(sink, name, schedule);
    }
}

/// Intervals count elapsed time, and an instant says its offset.
fn zone(sink: &mut Sink<'_>, name: &str, schedule: &Table) {
    let Some(zone) = schedule.get("timezone").filter(|node| node.given) else {
        return;
    };
    let other = ["every", "at"]
        .into_iter()
        .find(|key| schedule.get(key).is_some());
    let Some(other) = other.filter(|_| schedule.get("cron").is_none()) else {
        return;
    };
    let message = format!("`schedule.timezone` of trigger `{name}` is for `cron` only");
    let label = format!("expected no time zone with `{other}`, found one");
    let help = match other {
        "every" => {
            "remove it: `every` is elapsed time, the same everywhere; for a time of day use `cron`"
        }
        _ => "remove it, and write the offset in `at`, such as \"2027-01-01T00:00:00+01:00\"",
    };
    let mut draft = Draft::error(zone.key_span.clone(), message, label, help);
    if let Some(node) = schedule.get(other) {
        draft = draft.with(node.key_span.clone(), "the time is here");
    }
    sink.add(draft);
}

/// A tick that comes after the next one is nobody's wish.
fn jitter(sink: &mut Sink<'_>, name: &str, schedule: &Table) {
    let (jitter, every) = (schedule.duration("jitter"), schedule.duration("every"));
    let (Some(at), Some(other)) = (schedule.get("jitter"), schedule.get("every")) else {
        return;
    };
    if every.is_zero() || jitter < every {
        return;
    }
    let shown = |duration| humantime::format_duration(duration).to_string();
    let message = format!("`schedule.jitter` of trigger `{name}` is not shorter than `every`");
    let label = format!("jitter is {}, every is {}", shown(jitter), shown(every));
    let help = format!("set jitter to less than {}", shown(every));
    let draft = Draft::error(at.span.clone(), message, label, help);
    sink.add(draft.with(other.span.clone(), "the interval is here"));
}
