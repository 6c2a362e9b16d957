//! What is kept of a row, and the order of its changes.

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

/// A row as it was last seen.
#[derive(Deserialize, Serialize)]
pub struct Kept<'a> {
    /// `None` if it was deleted.
    #[serde(borrow)]
    pub row: Option<&'a RawValue>,
    /// The change that made it so.
    pub position: Position,
}

/// Where a change stands in the log of its database.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
pub struct Position {
    /// When it was made, in milliseconds since the Unix epoch, by the clock of the database.
    pub ts_ms: Option<u64>,
    /// PostgreSQL.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lsn: Option<u64>,
    /// MySQL and MariaDB.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub file: Option<String>,
    /// In `file`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pos: Option<u64>,
}

impl Position {
    /// Whether it is certain that this came before `other`: by the database's log, or else by its clock.
    pub fn is_before(&self, other: &Self) -> bool {
        if let (Some(this), Some(other)) = (self.lsn, other.lsn) {
            return this < other;
        }
        if let (Some(this), Some(other)) = (self.binlog(), other.binlog()) {
            return this < other;
        }
        matches!((self.ts_ms, other.ts_ms), (Some(this), Some(other)) if this < other)
    }

    /// Files count up, and `mysql-bin.1000000` follows `mysql-bin.999999`.
    fn binlog(&self) -> Option<(usize, &str, u64)> {
        let file = self.file.as_deref()?;
        Some((file.len(), file, self.pos?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn position(json: &str) -> Position {
        serde_json::from_str(json).unwrap()
    }

    #[test]
    fn the_log_orders_and_the_clock_only_where_there_is_none() {
        let cases = [
            (r#"{"lsn":1,"ts_ms":9}"#, r#"{"lsn":2,"ts_ms":5}"#, true),
            (r#"{"lsn":2,"ts_ms":5}"#, r#"{"lsn":1,"ts_ms":9}"#, false),
            (r#"{"lsn":2}"#, r#"{"lsn":2}"#, false),
            (
                r#"{"file":"bin.999999","pos":7}"#,
                r#"{"file":"bin.1000000","pos":4}"#,
                true,
            ),
            (
                r#"{"file":"bin.000001","pos":4}"#,
                r#"{"file":"bin.000001","pos":7}"#,
                true,
            ),
            (r#"{"ts_ms":1}"#, r#"{"ts_ms":2,"lsn":1}"#, true),
            (r#"{"ts_ms":2}"#, r#"{"ts_ms":2}"#, false),
            (r#"{}"#, r#"{"ts_ms":2}"#, false),
        ];
        for (this, other, expected) in cases {
            assert_eq!(
                position(this).is_before(&position(other)),
                expected,
                "{this} before {other}"
            );
        }
    }

    #[test]
    fn what_is_kept_reads_as_it_was_written() {
        let row = RawValue::from_string(r#"{"price":12345678901234567890.10}"#.into()).unwrap();
        let kept = Kept {
            row: Some(&row),
            position: position(r#"{"ts_ms":5,"lsn":7}"#),
        };
        let text = serde_json::to_string(&kept).unwrap();
        assert_eq!(
            text,
            r#"{"row":{"price":12345678901234567890.10},"position":{"ts_ms":5,"lsn":7}}"#
        );
        let read: Kept = serde_json::from_str(&text).unwrap();
        assert_eq!(read.row.map(RawValue::get), Some(row.get()));
        assert_eq!(read.position, kept.position);
    }
}
