//! The turns of lanes and keys: THE rule that every journal keeps.
//!
//! A pending delivery is blocked while another pending one of its trigger that came before it shares
//! its lane or its key. A journal keeps in each row whether it is blocked: it decides so when it
//! accepts a delivery, and lifts it in the commit by which the one before leaves what is pending,
//! done or dead. A retry leaves nothing: all behind it stay blocked. Whoever is not blocked may run,
//! so of a lane and of a key one delivery runs at a time, in the order of arrival, and since each
//! waits only for those before it, nobody waits in a circle.

/// What a delivery waits for its turn in.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Turn {
    /// Its lane, if it has one.
    pub lane: Option<String>,
    /// Its idempotency key, if it has one.
    pub key: Option<String>,
}

impl Turn {
    /// Whether a delivery must wait while those ahead are pending: the pending ones of its trigger
    /// that came before it.
    pub fn is_blocked<'t>(&self, mut ahead: impl Iterator<Item = &'t Turn>) -> bool {
        ahead.any(|other| {
            (self.lane.is_some() && self.lane == other.lane)
                || (self.key.is_some() && self.key == other.key)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn turn(lane: Option<&str>, key: Option<&str>) -> Turn {
        let [lane, key] = [lane, key].map(|text| text.map(str::to_owned));
        Turn { lane, key }
    }

    #[test]
    fn table() {
        let (none, lane) = (turn(None, None), turn(Some("a"), None));
        let (key, both) = (turn(None, Some("a")), turn(Some("a"), Some("k")));
        let other = turn(Some("b"), Some("k"));
        let cases: [(&Turn, &[&Turn], bool); 9] = [
            (&none, &[], false),
            (&none, &[&none, &lane, &key, &both], false),
            (&lane, &[], false),
            (&lane, &[&none, &other], false),
            (&lane, &[&none, &lane], true),
            // The same text as a lane and as a key is not the same.
            (&lane, &[&key], false),
            (&key, &[&key], true),
            (&both, &[&lane], true),
            (&both, &[&other], true),
        ];
        for (one, ahead, expected) in cases {
            let blocked = one.is_blocked(ahead.iter().copied());
            assert_eq!(blocked, expected, "{one:?} behind {ahead:?}");
        }
    }
}
