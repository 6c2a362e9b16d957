//! W3C trace contexts, so that a delivery can be followed through logs and other systems.

/// A new trace: `00-<trace id>-<span id>-01`.
pub fn new_traceparent() -> String {
    let mut text = String::with_capacity(55);
    text.push_str("00-");
    push_hex(&mut text, fastrand::u64(1..));
    push_hex(&mut text, fastrand::u64(..));
    text.push('-');
    push_hex(&mut text, fastrand::u64(1..));
    text.push_str("-01");
    text
}

/// All 16 digits. Not by way of `format`: each event that comes without a trace gets one.
fn push_hex(text: &mut String, number: u64) {
    let digits = (0..16).rev().map(|n| (number >> (4 * n)) as usize & 15);
    text.extend(digits.map(|digit| char::from(b"0123456789abcdef"[digit])));
}

/// The trace id in a trace context, if it is one.
pub fn trace_id(traceparent: Option<&str>) -> Option<&str> {
    let id = traceparent?.split('-').nth(1)?;
    (id.len() == 32).then_some(id)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_new_one_has_the_shape_of_the_standard() {
        let new = new_traceparent();
        assert_eq!(
            new.split('-').map(str::len).collect::<Vec<_>>(),
            [2, 32, 16, 2]
        );
        assert_eq!(trace_id(Some(&new)), Some(&new[3..35]));
        let mut text = String::new();
        push_hex(&mut text, 0x0123_4567_89ab_cdef);
        assert_eq!(text, "0123456789abcdef");
        assert_eq!(trace_id(Some("nonsense")), None);
    }
}
