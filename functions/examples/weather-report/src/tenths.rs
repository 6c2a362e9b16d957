//! Decimal numbers with one digit after the point, as tenths.

/// The number of tenths in a text such as `12.8`, `-0.5` or `7`.
pub fn parse(text: &str) -> Option<i64> {
    let (whole, tenth) = text.split_once('.').unwrap_or((text, "0"));
    let negative = whole.starts_with('-');
    if tenth.len() != 1 || whole.starts_with('+') {
        return None;
    }
    let whole: i64 = whole.parse().ok()?;
    let tenth: i64 = tenth.parse::<u8>().ok()?.into();
    whole
        .checked_mul(10)?
        .checked_add(if negative { -tenth } else { tenth })
}

/// So many tenths as a number.
pub fn number(tenths: i64) -> f64 {
    tenths as f64 / 10.0
}

/// The mean of so many numbers whose sum is this, rounded to hundredths, halves away from zero.
pub fn mean(tenths: i64, count: u64) -> f64 {
    let count = count.max(1) as i64;
    let hundredths = tenths * 10;
    let half = count / 2 * hundredths.signum();
    ((hundredths + half) / count) as f64 / 100.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tenths() {
        assert_eq!(parse("12.8"), Some(128));
        assert_eq!(parse("-0.5"), Some(-5));
        assert_eq!(parse("7"), Some(70));
        for text in ["", "1.25", "1.", "x", "+1.0", "1.-5"] {
            assert_eq!(parse(text), None, "{text}");
        }
        assert_eq!((mean(10, 3), mean(-10, 3), mean(5, 4)), (0.33, -0.33, 0.13));
    }
}
