//! The values of headers, as text.
//!
//! Bytes are shown as the text that they are in UTF-8, or else in base64; instants by RFC 3339, numbers
//! in decimal digits, arrays and tables as JSON, nothing as the empty text.

use base64::prelude::{BASE64_STANDARD, Engine};
use chrono::{DateTime, SecondsFormat};
use lapin::types::{AMQPValue, DecimalValue};
use serde_json::Value;

/// A value as text.
pub(super) fn text(value: &AMQPValue) -> String {
    match json(value) {
        Value::String(text) => text,
        Value::Null => match value {
            AMQPValue::Float(number) => number.to_string(),
            AMQPValue::Double(number) => number.to_string(),
            _ => String::new(),
        },
        other => other.to_string(),
    }
}

/// A value as JSON, which has no name for numbers that are none or infinite: they are null.
fn json(value: &AMQPValue) -> Value {
    match value {
        AMQPValue::Boolean(value) => (*value).into(),
        AMQPValue::ShortShortInt(number) => (*number).into(),
        AMQPValue::ShortShortUInt(number) => (*number).into(),
        AMQPValue::ShortInt(number) => (*number).into(),
        AMQPValue::ShortUInt(number) => (*number).into(),
        AMQPValue::LongInt(number) => (*number).into(),
        AMQPValue::LongUInt(number) => (*number).into(),
        AMQPValue::LongLongInt(number) => (*number).into(),
        // By its own digits: as a double, 0.1 would be 0.10000000149011612.
        AMQPValue::Float(number) => match number.to_string().parse::<f64>() {
            Ok(number) => number.into(),
            Err(_) => Value::Null,
        },
        AMQPValue::Double(number) => (*number).into(),
        AMQPValue::DecimalValue(number) => decimal(*number).into(),
        AMQPValue::ShortString(text) => text.as_str().into(),
        AMQPValue::LongString(bytes) => from_bytes(bytes.as_bytes()).into(),
        AMQPValue::ByteArray(bytes) => from_bytes(bytes.as_slice()).into(),
        AMQPValue::Timestamp(seconds) => instant(*seconds).into(),
        AMQPValue::FieldArray(values) => values.as_slice().iter().map(json).collect(),
        AMQPValue::FieldTable(table) => {
            let field = |(name, value): (&_, _)| (ToString::to_string(name), json(value));
            table.into_iter().map(field).collect()
        }
        AMQPValue::Void => Value::Null,
    }
}

fn from_bytes(bytes: &[u8]) -> String {
    match str::from_utf8(bytes) {
        Ok(text) => text.to_owned(),
        Err(_) => BASE64_STANDARD.encode(bytes),
    }
}

/// An instant; its seconds, if there is no such instant.
fn instant(seconds: u64) -> String {
    let at = i64::try_from(seconds).ok();
    match at.and_then(|at| DateTime::from_timestamp(at, 0)) {
        Some(at) => at.to_rfc3339_opts(SecondsFormat::Secs, true),
        None => seconds.to_string(),
    }
}

fn decimal(number: DecimalValue) -> String {
    let scale = usize::from(number.scale);
    let digits = format!("{:0>width$}", number.value, width = scale + 1);
    let (whole, rest) = digits.split_at(digits.len() - scale);
    match rest {
        "" => whole.to_owned(),
        rest => format!("{whole}.{rest}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_that_json_has_no_name_for() {
        // RabbitMQ takes none of these, but it is not the only broker.
        assert_eq!(text(&AMQPValue::Double(f64::NAN)), "NaN");
        assert_eq!(text(&AMQPValue::Float(f32::NEG_INFINITY)), "-inf");
        assert_eq!(text(&AMQPValue::Timestamp(u64::MAX)), u64::MAX.to_string());
    }

    #[test]
    fn decimals() {
        let shown = |value, scale| text(&AMQPValue::DecimalValue(DecimalValue { scale, value }));
        assert_eq!(shown(5, 0), "5");
        assert_eq!(shown(5, 2), "0.05");
        assert_eq!(shown(12_345, 2), "123.45");
        assert_eq!(shown(0, 1), "0.0");
    }
}
