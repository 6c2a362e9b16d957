//! Summarises a table of daily weather, on a schedule: reads CSV from one bucket and writes JSON to another.
//!
//! | configuration | meaning | default |
//! |---|---|---|
//! | `INPUT` | the bucket of the table | `tables` |
//! | `TABLE` | its key | `seattle-weather.csv` |
//! | `OUTPUT` | the bucket of the report | `reports` |
//!
//! The report `weather.json` has the whole table and each year of it: days, the lowest, mean and highest temperature,
//! the precipitation and the wettest day, and how many days of each kind of weather. The figures are summed as tenths,
//! which the table's are, so no rounding adds up; means are rounded to hundredths.

mod summary;
mod tenths;

use tidemill_sdk::{Event, Failure, Reply, bucket, config, handler, log};

use crate::summary::Report;

fn weather_report(_: Event) -> Result<Reply, Failure> {
    let setting = |name: &str, default: &str| {
        Ok::<_, Failure>(config::get(name)?.unwrap_or_else(|| default.into()))
    };
    let (input, table) = (
        setting("INPUT", "tables")?,
        setting("TABLE", "seattle-weather.csv")?,
    );
    let csv = bucket::open(input).read(&table)?;
    // A table with a mistake in it is mended by a person, not by another attempt.
    let report = Report::of(&csv).map_err(Failure::reject)?;
    let json = serde_json::to_vec_pretty(&report)?;
    bucket::open(setting("OUTPUT", "reports")?).write("weather.json", &json)?;
    log::info!("summarised {} days", report.all.days; table = table);
    Ok(Reply::json(&report.all)?)
}

handler!(weather_report);
