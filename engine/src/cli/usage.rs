//! `tidemill usage`: what functions used, by day, from the journal.

use anyhow::anyhow;
use clap::Args;
use tidemill_core::time::Timestamp;
use tidemill_journal::{Journal, UsageFilter};

use super::{ConfigArg, Failure, known_function, reader::Reader, table::table};
use crate::views::UsageView;

/// Show what functions used, by day: invocations, memory times time, wall time and CPU time.
///
/// Counted are attempts that ended, in the commit that ended them: once each, whatever crashes. One
/// that a crash cut off is not counted; the one that takes its place is. A batch is one invocation.
/// Calls that changed nothing are written every few seconds, and a crash loses the last of them.
#[derive(Debug, Args)]
pub(super) struct Usage {
    /// Of this function.
    #[arg(long, value_name = "NAME")]
    function: Option<String>,
    /// From this day on, such as `2027-03-28`. Days are those of UTC.
    #[arg(long, value_name = "DAY", value_parser = day)]
    since: Option<i64>,
    /// Up to this day, with it.
    #[arg(long, value_name = "DAY", value_parser = day)]
    until: Option<i64>,
    /// Answer in JSON, one function and day a line.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    config: ConfigArg,
}

/// Days since the Unix epoch.
fn day(text: &str) -> Result<i64, &'static str> {
    let begin = format!("{text}T00:00:00Z").parse::<Timestamp>();
    begin
        .map(Timestamp::day)
        .map_err(|_| "expected a day such as `2027-03-28`")
}

impl Usage {
    pub(super) fn run(self) -> Result<(), Failure> {
        if let (Some(since), Some(until)) = (self.since, self.until)
            && since > until
        {
            return Err(Failure::Wrong(anyhow!(
                "--since is a day after --until: exchange them"
            )));
        }
        let plan = self.config.plan()?;
        let reader = Reader::open(&plan)?;
        let usage = |filter| reader.runtime.block_on(reader.journal.usage(filter));
        if let Some(name) = &self.function
            && let Err(unknown) = known_function(&plan, name)
        {
            // One of before is known by what it used.
            let function = Some(name.clone());
            let before = usage(UsageFilter {
                function,
                ..UsageFilter::default()
            })?;
            if before.is_empty() {
                return Err(unknown);
            }
        }
        let entries = usage(UsageFilter {
            function: self.function,
            since: self.since,
            until: self.until,
        })?;
        let views: Vec<UsageView> = entries.into_iter().map(UsageView::from).collect();
        if self.json {
            for view in &views {
                outln!("{}", serde_json::to_string(view)?);
            }
        } else if views.is_empty() {
            outln!("nothing has run in this time");
        } else {
            out!("{}", shown(&views));
        }
        Ok(())
    }
}

fn shown(views: &[UsageView]) -> String {
    let head = ["function", "day", "invocations", "GB-s", "wall s", "CPU s"];
    let mut rows = vec![head.map(str::to_owned)];
    rows.extend(views.iter().map(row));
    if views.len() > 1 {
        let sum = |part: fn(&UsageView) -> f64| views.iter().map(part).sum();
        rows.push(row(&UsageView {
            function: "all".into(),
            day: String::new(),
            invocations: views.iter().map(|view| view.invocations).sum(),
            gb_seconds: sum(|view| view.gb_seconds),
            wall_seconds: sum(|view| view.wall_seconds),
            cpu_seconds: sum(|view| view.cpu_seconds),
        }));
    }
    table(&rows, 2)
}

fn row(view: &UsageView) -> [String; 6] {
    [
        view.function.clone(),
        view.day.clone(),
        view.invocations.to_string(),
        format!("{:.3}", view.gb_seconds),
        format!("{:.3}", view.wall_seconds),
        format!("{:.3}", view.cpu_seconds),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn days_are_read_and_shown() {
        assert_eq!((day("1970-01-02"), day("1969-12-31")), (Ok(1), Ok(-1)));
        for wrong in ["", "1970", "1970-1-2", "1970-01-02T00:00:00Z", "7d"] {
            day(wrong).expect_err(wrong);
        }
        let used = |function: &str, day, n: u64| {
            let used = tidemill_core::outcome::Usage {
                wall_us: n * 1_500_000,
                busy_us: n * 1_000_000,
                memory: n * (128 << 10) * 1500,
            };
            UsageView::from(tidemill_journal::UsageEntry {
                function: function.into(),
                day,
                invocations: n,
                used,
            })
        };
        assert_eq!(
            shown(&[used("thumbnail", 0, 2), used("bill", 20_000, 1000)]),
            "\
function   day         invocations     GB-s    wall s     CPU s
thumbnail  1970-01-01            2    0.375     3.000     2.000
bill       2024-10-04         1000  187.500  1500.000  1000.000
all                           1002  187.875  1503.000  1002.000
"
        );
    }
}
