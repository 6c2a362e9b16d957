//! Reads a change record of Debezium: the envelope `{before, after, source, op}`, by itself or as the `payload` next to
//! its `schema`. What is in the rows is nobody's business here.

use std::{borrow::Cow, fmt};

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::kept::Position;

/// A change of one row.
#[derive(Debug)]
pub struct Change<'a> {
    /// Such as `shop.public.customers`.
    pub table: String,
    /// The primary key, as compact JSON.
    pub key: Box<RawValue>,
    /// What was done.
    pub op: Op,
    /// The row before, if the database tells.
    pub before: Option<&'a RawValue>,
    /// The row after, `None` if it was deleted.
    pub after: Option<&'a RawValue>,
    /// Where it stands in the log of the database.
    pub position: Position,
}

/// What a message holds.
#[derive(Debug)]
pub enum Found<'a> {
    /// A change of a row.
    Change(Change<'a>),
    /// Nothing to do: a tombstone, which follows a delete so that Kafka can forget the key, or a message that is
    /// about no row.
    Nothing,
}

/// What was done to a row.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Serialize)]
#[serde(rename_all(serialize = "lowercase"))]
pub enum Op {
    /// Inserted.
    #[serde(rename(deserialize = "c"))]
    Created,
    /// Updated.
    #[serde(rename(deserialize = "u"))]
    Updated,
    /// Deleted.
    #[serde(rename(deserialize = "d"))]
    Deleted,
    /// Read by a snapshot.
    #[serde(rename(deserialize = "r"))]
    Read,
    /// All rows of the table are gone.
    #[serde(rename(deserialize = "t"))]
    Truncated,
    /// A message of the database's own.
    #[serde(rename(deserialize = "m"))]
    Message,
}

/// A message that is no change record.
#[derive(Debug)]
pub enum Error {
    /// No JSON, or JSON of another shape.
    Shape(serde_json::Error),
    /// There is nothing to know the row by.
    NoKey,
    /// The key is no JSON.
    Key(serde_json::Error),
    /// A whole table at once.
    Truncated(String),
}

#[derive(Deserialize)]
struct WithSchema<'a> {
    #[serde(borrow)]
    schema: Option<&'a RawValue>,
    #[serde(borrow)]
    payload: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct Envelope<'a> {
    op: Op,
    #[serde(borrow)]
    before: Option<&'a RawValue>,
    #[serde(borrow)]
    after: Option<&'a RawValue>,
    #[serde(borrow)]
    source: Source<'a>,
}

#[derive(Deserialize)]
struct Source<'a> {
    #[serde(borrow)]
    db: Option<Cow<'a, str>>,
    #[serde(borrow)]
    schema: Option<Cow<'a, str>>,
    #[serde(borrow)]
    table: Option<Cow<'a, str>>,
    #[serde(flatten)]
    position: Position,
}

impl<'a> Change<'a> {
    /// Reads a message by its key and its value.
    pub fn read(key: Option<&str>, value: &'a [u8]) -> Result<Found<'a>, Error> {
        if value.is_empty() || value == b"null" {
            return Ok(Found::Nothing);
        }
        let text: &RawValue = serde_json::from_slice(value).map_err(Error::Shape)?;
        let envelope: Envelope = serde_json::from_str(payload(text)).map_err(Error::Shape)?;
        let Source {
            db,
            schema,
            table,
            position,
        } = envelope.source;
        let table = [db, schema, table]
            .into_iter()
            .flatten()
            .collect::<Vec<_>>()
            .join(".");
        match envelope.op {
            Op::Message => return Ok(Found::Nothing),
            Op::Truncated => return Err(Error::Truncated(table)),
            Op::Created | Op::Updated | Op::Deleted | Op::Read => {}
        }
        Ok(Found::Change(Change {
            table,
            key: primary_key(key)?,
            op: envelope.op,
            before: envelope.before,
            after: envelope.after,
            position,
        }))
    }

    /// What the row is kept under.
    pub fn name(&self) -> String {
        format!("{} {}", self.table, self.key)
    }
}

/// The key without its schema, the same for the same row however it is written.
fn primary_key(key: Option<&str>) -> Result<Box<RawValue>, Error> {
    let key = key.filter(|key| !key.is_empty()).ok_or(Error::NoKey)?;
    let text: &RawValue = serde_json::from_str(key).map_err(Error::Key)?;
    let value: serde_json::Value = serde_json::from_str(payload(text)).map_err(Error::Key)?;
    if value.is_null() {
        return Err(Error::NoKey);
    }
    serde_json::value::to_raw_value(&value).map_err(Error::Key)
}

/// What stands next to a schema, if there is one.
fn payload(text: &RawValue) -> &str {
    match serde_json::from_str(text.get()) {
        Ok(WithSchema {
            schema: Some(_),
            payload: Some(payload),
        }) => payload.get(),
        _ => text.get(),
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Shape(error) => write!(
                f,
                "this is no change record of Debezium, an object with `op`, `before`, `after` and `source`: {error}; \
                 let the connector write JSON, without the transform that unwraps it"
            ),
            Self::NoKey => f.write_str(
                "the message has no key, so its row has no name; give the table a primary key, or name one in \
                 the connector's `message.key.columns`",
            ),
            Self::Key(error) => write!(
                f,
                "the message's key is no JSON: {error}; let the connector's `key.converter` be the JsonConverter"
            ),
            Self::Truncated(table) => write!(
                f,
                "all rows of `{table}` were deleted at once, and the record does not say which: delete the keys \
                 that begin with `{table} ` in the store"
            ),
        }
    }
}

impl std::error::Error for Error {}

#[cfg(test)]
mod tests;
