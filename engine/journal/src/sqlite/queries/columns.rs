//! How the types of core come out of columns.

use bytes::Bytes;
use rusqlite::{
    Result, Row,
    types::{FromSql, FromSqlError, FromSqlResult, Type, ValueRef},
};
use serde::de::{DeserializeOwned, value::StrDeserializer};
use tidemill_core::{delivery::Cause, event::Field, identity::DeliveryId, time::Timestamp};

pub(super) struct At(pub Timestamp);
pub struct Id(pub DeliveryId);
pub(super) struct Data(pub Bytes);
/// Something whose kebab-case name is stored.
pub(super) struct Name<T>(pub T);

impl FromSql for At {
    fn column_result(value: ValueRef<'_>) -> FromSqlResult<Self> {
        value.as_i64().map(|at| At(Timestamp(at)))
    }
}

impl FromSql for Id {
    fn column_result(value: ValueRef<'_>) -> FromSqlResult<Self> {
        <[u8; 16]>::column_result(value).map(|id| Id(DeliveryId(id)))
    }
}

impl FromSql for Data {
    fn column_result(value: ValueRef<'_>) -> FromSqlResult<Self> {
        value
            .as_blob()
            .map(|data| Data(Bytes::copy_from_slice(data)))
    }
}

impl<T: DeserializeOwned> FromSql for Name<T> {
    fn column_result(value: ValueRef<'_>) -> FromSqlResult<Self> {
        let name = StrDeserializer::<serde::de::value::Error>::new(value.as_str()?);
        T::deserialize(name).map(Name).map_err(FromSqlError::other)
    }
}

pub(super) fn read_fields(row: &Row<'_>, column: usize) -> Result<Vec<Field>> {
    match row.get_ref(column)?.as_str_or_null()? {
        Some(text) => json(text, column),
        None => Ok(Vec::new()),
    }
}

pub(super) fn json<T: DeserializeOwned>(text: &str, column: usize) -> Result<T> {
    let wrong =
        |error| rusqlite::Error::FromSqlConversionFailure(column, Type::Text, Box::new(error));
    serde_json::from_str(text).map_err(wrong)
}

pub(super) fn cause(row: &Row<'_>, column: usize) -> Result<Cause> {
    Ok(row.get::<_, Name<Cause>>(column)?.0)
}
