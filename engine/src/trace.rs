//! W3C trace contexts, so that a delivery can be followed through logs and other systems.

/// A new trace: `00-<trace id>-<span id>-01`.
pub fn new_traceparent() -> String {
    let trace = u128::from(fastrand::u64(1..)) << 64 | u128::from(fastrand::u64(..));
    format!("00-{trace:032x}-{:016x}-01", fastrand::u64(1..))
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
        assert_eq!(trace_id(Some("nonsense")), None);
    }
}
