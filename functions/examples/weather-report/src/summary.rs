//! What the days of a table come to.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::tenths;

/// A row of the table.
#[derive(Deserialize)]
struct Day<'a> {
    date: &'a str,
    precipitation: &'a str,
    temp_max: &'a str,
    temp_min: &'a str,
    weather: &'a str,
}

/// The whole table, and each year of it.
#[derive(Default, Serialize)]
pub struct Report {
    /// All days.
    pub all: Summary,
    /// Those of each year.
    pub years: BTreeMap<String, Summary>,
}

/// What some days come to. Temperatures in degrees Celsius, precipitation in millimetres.
#[derive(Clone, Default, Serialize)]
#[serde(into = "Figures")]
pub struct Summary {
    /// How many.
    pub days: u64,
    sum_max: i64,
    sum_min: i64,
    highest: Option<i64>,
    lowest: Option<i64>,
    precipitation: i64,
    wettest: Option<(i64, String)>,
    weather: BTreeMap<String, u64>,
}

/// A summary as it is written.
#[derive(Serialize)]
struct Figures {
    days: u64,
    mean_temp_max: f64,
    mean_temp_min: f64,
    highest: f64,
    lowest: f64,
    precipitation: f64,
    wettest_day: String,
    weather: BTreeMap<String, u64>,
}

impl Report {
    /// The report of a table, or what is wrong with it and in which line.
    pub fn of(csv: &[u8]) -> Result<Report, String> {
        let mut reader = csv::Reader::from_reader(csv);
        let headers = reader.headers().map_err(|error| error.to_string())?.clone();
        let mut report = Report::default();
        let mut row = csv::StringRecord::new();
        while reader
            .read_record(&mut row)
            .map_err(|error| error.to_string())?
        {
            let line = row.position().map_or(0, csv::Position::line);
            let day: Day<'_> = row
                .deserialize(Some(&headers))
                .map_err(|error| error.to_string())?;
            report
                .add(&day)
                .map_err(|wrong| format!("line {line}: {wrong}"))?;
        }
        // Of no days there is no mean and no extreme.
        match report.all.days {
            0 => Err("the table has no days".to_owned()),
            _ => Ok(report),
        }
    }

    fn add(&mut self, day: &Day<'_>) -> Result<(), String> {
        let (year, _) = day
            .date
            .split_once(['/', '-'])
            .ok_or_else(|| format!("`{}` is no date", day.date))?;
        self.all.add(day)?;
        self.years.entry(year.to_owned()).or_default().add(day)
    }
}

impl Summary {
    fn add(&mut self, day: &Day<'_>) -> Result<(), String> {
        let tenths =
            |text: &str| tenths::parse(text).ok_or_else(|| format!("`{text}` is no number"));
        let (max, min) = (tenths(day.temp_max)?, tenths(day.temp_min)?);
        let rain = tenths(day.precipitation)?;
        self.days += 1;
        self.sum_max += max;
        self.sum_min += min;
        self.highest = self.highest.max(Some(max));
        self.lowest = Some(self.lowest.map_or(min, |lowest| lowest.min(min)));
        self.precipitation += rain;
        // Of equally wet days, the first.
        if self.wettest.as_ref().is_none_or(|(most, _)| rain > *most) {
            self.wettest = Some((rain, day.date.replace('/', "-")));
        }
        *self.weather.entry(day.weather.to_owned()).or_default() += 1;
        Ok(())
    }
}

impl From<Summary> for Figures {
    fn from(summary: Summary) -> Figures {
        let Summary { days, .. } = summary;
        Figures {
            days,
            mean_temp_max: tenths::mean(summary.sum_max, days),
            mean_temp_min: tenths::mean(summary.sum_min, days),
            highest: tenths::number(summary.highest.unwrap_or_default()),
            lowest: tenths::number(summary.lowest.unwrap_or_default()),
            precipitation: tenths::number(summary.precipitation),
            wettest_day: summary.wettest.map(|(_, date)| date).unwrap_or_default(),
            weather: summary.weather,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sums_up() {
        let csv = b"date,precipitation,temp_max,temp_min,wind,weather\n\
            2012/01/01,0.0,12.8,5.0,4.7,drizzle\n\
            2012/12/31,10.9,10.6,-2.8,4.5,rain\n\
            2013/01/01,0.8,11.7,7.2,2.3,rain\n";
        let report = serde_json::to_value(Report::of(csv).expect("a table")).expect("JSON");
        assert_eq!(report["all"]["days"], 3);
        assert_eq!(report["all"]["precipitation"], 11.7);
        assert_eq!(report["all"]["mean_temp_max"], 11.7);
        assert_eq!(report["all"]["lowest"], -2.8);
        assert_eq!(report["all"]["wettest_day"], "2012-12-31");
        assert_eq!(report["years"]["2012"]["days"], 2);
        assert_eq!(report["years"]["2013"]["weather"]["rain"], 1);
    }

    #[test]
    fn names_the_line_that_is_wrong() {
        let csv = b"date,precipitation,temp_max,temp_min,wind,weather\n2012/01/01,wet,12.8,5.0,4.7,drizzle\n";
        let wrong = Report::of(csv).err().expect("it is wrong");
        assert_eq!(wrong, "line 2: `wet` is no number");
        let empty = Report::of(b"date,precipitation,temp_max,temp_min,wind,weather\n");
        assert_eq!(empty.err().as_deref(), Some("the table has no days"));
    }
}
