//! Identities: who is who after a crash.
//!
//! A delivery's id is derived from (trigger, source, event id), so that whoever meets the same
//! event again, in this run of the engine or the next, computes the same id.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize, de};
use sha2::{Digest, Sha256};

/// The identity of a delivery: 128 bits, shown as 32 hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DeliveryId(pub [u8; 16]);

impl DeliveryId {
    /// The delivery of the event `id` of `source` for `trigger`.
    pub fn derive(trigger: &str, source: &str, id: &str) -> DeliveryId {
        DeliveryId(hash(&[
            b"delivery",
            trigger.as_bytes(),
            source.as_bytes(),
            id.as_bytes(),
        ]))
    }

    /// The delivery made when this dead letter is redriven. A redrive of a redrive differs again.
    pub fn redriven(self) -> DeliveryId {
        DeliveryId(hash(&[b"redrive", &self.0]))
    }

    /// The outbox delivery number `n` that the completion of this delivery writes.
    pub fn outbox(self, n: u32) -> DeliveryId {
        DeliveryId(hash(&[b"outbox", &self.0, &n.to_be_bytes()]))
    }

    /// The id of the event number `n` that this delivery emits.
    pub fn emitted(self, n: u32) -> String {
        format!("{self}.{n}")
    }
}

/// The first 128 bits of SHA-256 over the parts, each preceded by its length, so that no two lists
/// of parts run together.
fn hash(parts: &[&[u8]]) -> [u8; 16] {
    let mut hasher = Sha256::new();
    for part in parts {
        hasher.update((part.len() as u64).to_be_bytes());
        hasher.update(part);
    }
    let mut id = [0; 16];
    id.copy_from_slice(&hasher.finalize()[..16]);
    id
}

impl fmt::Display for DeliveryId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for DeliveryId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// The text is not a delivery id.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a delivery id has 32 hexadecimal digits")]
pub struct NotADeliveryId;

impl FromStr for DeliveryId {
    type Err = NotADeliveryId;

    fn from_str(text: &str) -> Result<Self, NotADeliveryId> {
        if text.len() != 32 || !text.bytes().all(|b| b.is_ascii_hexdigit()) {
            return Err(NotADeliveryId);
        }
        let bits = u128::from_str_radix(text, 16).map_err(|_| NotADeliveryId)?;
        Ok(DeliveryId(bits.to_be_bytes()))
    }
}

impl Serialize for DeliveryId {
    fn serialize<S: serde::Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for DeliveryId {
    fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        String::deserialize(from)?
            .parse()
            .map_err(de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn is_stable_over_releases() {
        let id = DeliveryId::derive("resize", "bucket:uploads", "created:a.jpg@1.0");
        assert_eq!(id.to_string(), "5ac640a4f8616abc1987c84210046a9e");
    }

    proptest! {
        #[test]
        fn differs_with_every_part(a in ".{0,8}", b in ".{0,8}", c in ".{0,8}", d in ".{0,8}") {
            // Parts that merely run together the same way must not meet.
            prop_assume!((&a, &b) != (&c, &d));
            prop_assert_ne!(DeliveryId::derive("t", &a, &b), DeliveryId::derive("t", &c, &d));
            prop_assert_ne!(DeliveryId::derive(&a, &b, "e"), DeliveryId::derive(&c, &d, "e"));
        }

        #[test]
        fn text_goes_there_and_back(bytes: [u8; 16]) {
            let id = DeliveryId(bytes);
            prop_assert_eq!(id.to_string().parse(), Ok(id));
        }
    }

    #[test]
    fn refuses_other_texts() {
        for text in [
            "",
            "12",
            "+1234567890123456789012345678901",
            &"g".repeat(32),
        ] {
            assert_eq!(text.parse::<DeliveryId>(), Err(NotADeliveryId), "{text}");
        }
    }
}
