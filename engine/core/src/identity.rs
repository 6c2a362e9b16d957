//! Identities: who is who after a crash.
//!
//! A delivery's id is derived from (trigger, source, event id), so that whoever meets the same
//! event again, in this run of the engine or the next, computes the same id.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize, de};
use sha2::{Digest, Sha256};

use crate::event::{Event, METHOD, QUERY};

/// The identity of a delivery: 128 bits, shown as 32 hexadecimal digits.
///
/// The first 48 bits stand in the order in which ids are given out, if the event's id shows one ([`order`]); the rest
/// is a hash of all that makes it. So what is indexed by these ids is written where it was last written,
/// and not all over.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DeliveryId(pub [u8; 16]);

/// Bytes of a delivery's id that are there for its order.
const ORDER: usize = 6;

impl DeliveryId {
    /// The delivery of the event `id` of `source` for `trigger`.
    pub fn derive(trigger: &str, source: &str, id: &str) -> DeliveryId {
        let own = DeliveryId(hash(&[
            b"delivery",
            trigger.as_bytes(),
            source.as_bytes(),
            id.as_bytes(),
        ]));
        match order(id) {
            Some(order) => own.beside(&order.to_be_bytes()[8 - ORDER..]),
            None => own,
        }
    }

    /// The delivery made when this dead letter is redriven. A redrive of a redrive differs again.
    pub fn redriven(self) -> DeliveryId {
        DeliveryId(hash(&[b"redrive", &self.0])).beside(&self.0)
    }

    /// The outbox delivery number `n` that the completion of this delivery writes.
    pub fn outbox(self, n: u32) -> DeliveryId {
        DeliveryId(hash(&[b"outbox", &self.0, &n.to_be_bytes()])).beside(&self.0)
    }

    /// The same, ordered like the one that begins so.
    fn beside(mut self, other: &[u8]) -> DeliveryId {
        self.0[..ORDER].copy_from_slice(&other[..ORDER]);
        self
    }

    /// Evenly distributed bits, the same for the same delivery.
    pub fn random(self) -> u64 {
        u128::from_be_bytes(self.0) as u64
    }

    /// The id of the event number `n` that this delivery emits.
    pub fn emitted(self, n: u32) -> String {
        format!("{self}.{n}")
    }
}

/// What an event says, whoever sends it when: by this a repetition is told from another event with
/// the same id. The method, the subject, the query and the data count; other headers do not, for
/// they differ from try to try (dates, traces, signatures).
pub fn fingerprint(event: &Event) -> [u8; 32] {
    let header = |name| event.header(name).unwrap_or_default().as_bytes();
    digest(&[
        header(METHOD),
        event.subject.as_deref().unwrap_or_default().as_bytes(),
        header(QUERY),
        &event.data,
    ])
}

/// Where an id stands among those of its maker, in 48 bits: the time in a UUID of version 7 and in a ULID, the order of
/// the delivery that emitted the event, or else the last number in the text. Of no weight for who is who: ids without
/// any order, such as UUIDs of version 4, are only dearer to keep.
fn order(id: &str) -> Option<u64> {
    // A ULID is 26 digits of 5 bits, the first 10 of them its time. Their alphabet leaves letters out; read as the
    // larger base their order is the same.
    let ulid = id.len() == 26 && id.bytes().all(|b| b.is_ascii_alphanumeric());
    if ulid {
        return u64::from_str_radix(&id[..10], 36)
            .ok()
            .map(|time| time >> 4);
    }
    // A UUID, with its hyphens or without, or the id of a delivery and more.
    if id.len() >= 32
        && let Some(hex) = id.get(..13)
        && let Ok(order) = u64::from_str_radix(&hex.replacen('-', "", 1), 16)
    {
        return Some(order >> if hex.contains('-') { 0 } else { 4 });
    }
    let digits = |b: &u8| b.is_ascii_digit();
    let end = id.bytes().rposition(|b| digits(&b))? + 1;
    let start = id.as_bytes()[..end].iter().rposition(|b| !digits(b));
    // As many digits as fit.
    let start = start
        .map_or(0, |before| before + 1)
        .max(end.saturating_sub(14));
    id[start..end].parse().ok()
}

/// The first 128 bits of [`digest`].
fn hash(parts: &[&[u8]]) -> [u8; 16] {
    let mut id = [0; 16];
    id.copy_from_slice(&digest(parts)[..16]);
    id
}

/// SHA-256 over the parts, each preceded by its length, so that no two lists of parts run together.
fn digest(parts: &[&[u8]]) -> [u8; 32] {
    let mut hasher = Sha256::new();
    for part in parts {
        hasher.update((part.len() as u64).to_be_bytes());
        hasher.update(part);
    }
    hasher.finalize().into()
}

impl fmt::Display for DeliveryId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const DIGITS: &[u8; 16] = b"0123456789abcdef";
        let mut text = [0; 32];
        for (pair, byte) in text.chunks_exact_mut(2).zip(self.0) {
            pair[0] = DIGITS[usize::from(byte >> 4)];
            pair[1] = DIGITS[usize::from(byte & 15)];
        }
        f.write_str(std::str::from_utf8(&text).map_err(|_| fmt::Error)?)
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
    use crate::time::Timestamp;

    fn request() -> Event {
        let header = |(name, value): (&str, &str)| (name.to_owned(), value.to_owned());
        Event {
            id: "order-7".into(),
            source: "http:/orders".into(),
            kind: "http.request".into(),
            subject: Some("/orders".into()),
            time: Timestamp(0),
            datacontenttype: Some("application/json".into()),
            traceparent: None,
            hops: 0,
            headers: [(METHOD, "POST"), (QUERY, "a=1"), ("date", "today")]
                .map(header)
                .into(),
            data: "{}".into(),
        }
    }

    #[test]
    fn a_fingerprint_is_stable_over_releases() {
        let print = fingerprint(&request()).map(|byte| format!("{byte:02x}"));
        assert_eq!(
            print.concat(),
            "b667d5fe139d9fc072abf97446d5d6891876f6fd1dd8badeba2d93b6567c3705"
        );
    }

    #[test]
    fn a_fingerprint_is_of_what_an_event_says() {
        let same: [fn(&mut Event); 5] = [
            |event| event.id = "order-8".into(),
            |event| event.time = Timestamp(1),
            |event| event.traceparent = Some("00-1-2-01".into()),
            |event| event.headers[2].1 = "tomorrow".into(),
            |event| event.headers.push(("retry".into(), "1".into())),
        ];
        for (n, change) in same.iter().enumerate() {
            let mut event = request();
            change(&mut event);
            assert_eq!(fingerprint(&event), fingerprint(&request()), "change {n}");
        }
        let other: [fn(&mut Event); 6] = [
            |event| event.headers[0].1 = "PUT".into(),
            |event| event.headers[1].1 = "a=2".into(),
            |event| _ = event.headers.remove(1),
            |event| event.subject = Some("/order".into()),
            |event| event.data = "{ }".into(),
            // What moves from one part to the next is not what it was.
            |event| {
                event.subject = Some("/ordersa".into());
                event.headers[1].1 = "=1".into();
            },
        ];
        for (n, change) in other.iter().enumerate() {
            let mut event = request();
            change(&mut event);
            assert_ne!(fingerprint(&event), fingerprint(&request()), "change {n}");
        }
    }

    #[test]
    fn is_stable_over_releases() {
        let id = DeliveryId::derive("resize", "bucket:uploads", "created:a.jpg@1.0");
        assert_eq!(id.to_string(), "0000000000006abc1987c84210046a9e");
    }

    #[test]
    fn stands_in_the_order_of_its_maker() {
        let v7 = |ms: u64| {
            format!(
                "{:08x}-{:04x}-7cc3-98c4-dc0c0c07398f",
                ms >> 16,
                ms & 0xffff
            )
        };
        let plain = |n: u64| v7(n).replace('-', "");
        let ulid = |ms: u64| {
            let digits = b"0123456789ABCDEFGHJKMNPQRSTVWXYZ";
            let time = (0..10).rev().map(|n| digits[(ms >> (5 * n)) as usize & 31]);
            let time: String = time.map(char::from).collect();
            time + "ETSV4RRFFQ69G5FA"
        };
        let emitted = |n: u64| DeliveryId::derive("first", "http:/hook", &v7(n)).emitted(0);
        let number = |n: u64| format!("shop:order-{n}");
        let long = |n: u64| format!("{}", (1 << 60) + n);
        let makers: [&dyn Fn(u64) -> String; 6] = [&v7, &plain, &ulid, &emitted, &number, &long];
        for (maker, id) in makers.iter().enumerate() {
            let ids = (1_700_000_000_000..).step_by(997).map(id).take(1000);
            let ids: Vec<_> = ids.map(|id| DeliveryId::derive("t", "s", &id)).collect();
            assert!(ids.is_sorted(), "maker {maker}: {ids:?}");
            let first = ids[0];
            for near in [first.redriven(), first.outbox(1)] {
                assert!(near < ids[1] && near != first, "maker {maker}");
            }
        }
        assert_eq!(order("readme.txt"), None);
        assert_eq!(order(""), None);
        assert_eq!(order("número ７ of 12 €"), Some(12));
    }

    proptest! {
        #[test]
        fn has_an_order_that_fits(id in any::<String>(), hex in "[0-9a-zA-Z+-]{0,40}") {
            for id in [id, hex] {
                prop_assert!(order(&id).is_none_or(|order| order >> (8 * ORDER) == 0), "{}", id);
            }
        }

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
