//! The turns of lanes and keys: THE rule that every journal keeps.
//!
//! A pending delivery is blocked while another pending one of its trigger that came before it shares
//! its lane or its key. A journal keeps in each row whether it is blocked: it decides so when it
//! accepts a delivery, and lifts it in the commit by which the one before leaves what is pending,
//! done or dead. A retry leaves nothing: all behind it stay blocked. Whoever is not blocked may run,
//! so of a lane and of a key one delivery runs at a time, in the order of arrival, and since each
//! waits only for those before it, nobody waits in a circle.
//!
//! A [`Line`] keeps the same rule for deliveries of one trigger that no journal has: those that their
//! source holds.

use std::{
    collections::{BTreeSet, VecDeque, hash_map::Entry},
    hash::BuildHasher as _,
};

use foldhash::{HashMap, HashSet, fast::RandomState};

use crate::delivery::Seq;

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

/// Deliveries of one trigger in the order in which they came, and whose turn it is.
///
/// Names of lanes and keys are known by their hashes here: two names that share one wait for each other, and that is all.
#[derive(Debug, Default)]
pub struct Line {
    hashes: RandomState,
    turns: HashMap<Seq, Hashes>,
    lanes: HashMap<u64, Queue>,
    keys: HashMap<u64, Queue>,
}

/// A [`Turn`], by the hashes of its names.
#[derive(Clone, Copy, Debug)]
struct Hashes {
    lane: Option<u64>,
    key: Option<u64>,
}

/// Those with one name: at least one, mostly no other.
#[derive(Debug)]
struct Queue {
    first: Seq,
    behind: VecDeque<Seq>,
}

impl Line {
    /// A delivery joins the end. Its place is higher than all that came before. Whether it is its
    /// turn.
    pub fn enter(&mut self, place: Seq, lane: Option<&str>, key: Option<&str>) -> bool {
        let turn = Hashes {
            lane: lane.map(|lane| self.hashes.hash_one(lane)),
            key: key.map(|key| self.hashes.hash_one(key)),
        };
        let first_in_lane = turn
            .lane
            .is_none_or(|lane| enter(&mut self.lanes, lane, place));
        let first_with_key = turn.key.is_none_or(|key| enter(&mut self.keys, key, place));
        if turn.lane.is_some() || turn.key.is_some() {
            self.turns.insert(place, turn);
        }
        first_in_lane && first_with_key
    }

    /// A delivery leaves, from wherever it stands. Those whose turn it is now, and was not.
    pub fn leave(&mut self, place: Seq) -> Vec<Seq> {
        let Some(turn) = self.turns.remove(&place) else {
            return Vec::new();
        };
        let lane = turn
            .lane
            .and_then(|lane| leave(&mut self.lanes, lane, place));
        let key = turn.key.and_then(|key| leave(&mut self.keys, key, place));
        let key = key.filter(|key| lane != Some(*key));
        let mut next: Vec<Seq> = lane.into_iter().chain(key).collect();
        next.retain(|next| self.has_turn(*next));
        next.sort_unstable();
        next
    }

    /// Whether nobody is ahead of it.
    pub fn has_turn(&self, place: Seq) -> bool {
        let Some(turn) = self.turns.get(&place) else {
            return true;
        };
        [(turn.lane, &self.lanes), (turn.key, &self.keys)]
            .into_iter()
            .all(|(name, queues)| name.is_none_or(|name| first(queues, name) == Some(place)))
    }

    /// Which of these may run together, one after another: whoever waits for nobody else. They come in
    /// the order of their places.
    pub fn together(&self, places: &[Seq]) -> BTreeSet<Seq> {
        let mut in_lane: HashMap<u64, usize> = HashMap::default();
        let may = |place: &&Seq| {
            let Some(turn) = self.turns.get(place) else {
                return true;
            };
            let mut may = turn
                .key
                .is_none_or(|key| first(&self.keys, key) == Some(**place));
            if let Some(lane) = turn.lane {
                let before = in_lane.entry(lane).or_default();
                let next = self.lanes.get(&lane).and_then(|lane| lane.at(*before));
                may &= next == Some(**place);
                *before += usize::from(may);
            }
            may
        };
        places.iter().filter(may).copied().collect()
    }

    /// Those behind it in its lane, in their order.
    pub fn behind(&self, place: Seq) -> impl Iterator<Item = Seq> {
        let lane = self.turns.get(&place).and_then(|turn| turn.lane);
        let lane = lane.and_then(|lane| self.lanes.get(&lane));
        let behind = lane.into_iter().flat_map(move |lane| {
            let at = lane.behind.partition_point(|other| *other <= place);
            lane.behind.range(at..)
        });
        behind.copied()
    }

    /// The delivery and all that share a lane or a key with it, or with one that does, and so on: if
    /// it goes where it will wait, none of these may pass it. In the order in which they came.
    pub fn connected(&self, place: Seq) -> Vec<Seq> {
        let (mut found, mut look) = (BTreeSet::from([place]), vec![place]);
        // Each lane and key is walked once, however many stand in it.
        let (mut lanes, mut keys) = (HashSet::default(), HashSet::default());
        while let Some(turn) = look.pop().and_then(|place| self.turns.get(&place)) {
            let lane = turn.lane.filter(|lane| lanes.insert(*lane));
            let lane = lane.and_then(|lane| self.lanes.get(&lane));
            let key = turn.key.filter(|key| keys.insert(*key));
            let key = key.and_then(|key| self.keys.get(&key));
            for other in lane.into_iter().chain(key).flat_map(Queue::all) {
                if found.insert(other) {
                    look.push(other);
                }
            }
        }
        found.into_iter().collect()
    }

    /// Whether nobody waits in a lane or with a key.
    pub fn is_empty(&self) -> bool {
        self.turns.is_empty()
    }
}

impl Queue {
    fn at(&self, index: usize) -> Option<Seq> {
        match index.checked_sub(1) {
            None => Some(self.first),
            Some(behind) => self.behind.get(behind).copied(),
        }
    }

    fn all(&self) -> impl Iterator<Item = Seq> {
        std::iter::once(self.first).chain(self.behind.iter().copied())
    }
}

fn first(queues: &HashMap<u64, Queue>, name: u64) -> Option<Seq> {
    queues.get(&name).map(|queue| queue.first)
}

/// Puts a place at the end of a queue. Whether it is the first.
fn enter(queues: &mut HashMap<u64, Queue>, name: u64, place: Seq) -> bool {
    match queues.entry(name) {
        Entry::Occupied(mut queue) => {
            queue.get_mut().behind.push_back(place);
            false
        }
        Entry::Vacant(new) => {
            new.insert(Queue {
                first: place,
                behind: VecDeque::new(),
            });
            true
        }
    }
}

/// Takes a place out of a queue. Who is first now, if another was.
fn leave(queues: &mut HashMap<u64, Queue>, name: u64, place: Seq) -> Option<Seq> {
    let Entry::Occupied(mut entry) = queues.entry(name) else {
        return None;
    };
    let queue = entry.get_mut();
    if queue.first != place {
        if let Ok(at) = queue.behind.binary_search(&place) {
            queue.behind.remove(at);
        }
        return None;
    }
    match queue.behind.pop_front() {
        Some(next) => {
            queue.first = next;
            Some(next)
        }
        None => {
            entry.remove();
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn enter(line: &mut Line, place: Seq, turn: &Turn) -> bool {
        line.enter(place, turn.lane.as_deref(), turn.key.as_deref())
    }

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

    #[test]
    fn who_is_connected_goes_together() {
        let mut line = Line::default();
        let turns = [
            turn(Some("a"), None),
            turn(Some("b"), Some("k")),
            turn(None, None),
            turn(Some("a"), Some("k")),
            turn(Some("c"), None),
        ];
        for (place, turn) in (1..).zip(turns) {
            enter(&mut line, place, &turn);
        }
        assert_eq!(line.connected(2), [1, 2, 4]);
        assert_eq!(line.connected(3), [3]);
        assert_eq!(line.connected(5), [5]);
    }

    #[test]
    fn who_waits_for_nobody_else_goes_together() {
        let mut line = Line::default();
        let turns = [
            turn(Some("a"), None),
            turn(Some("a"), Some("k")),
            turn(Some("a"), None),
            turn(Some("b"), Some("k")),
            turn(Some("b"), None),
            turn(None, None),
            turn(Some("a"), None),
        ];
        for (place, turn) in (1..).zip(turns) {
            enter(&mut line, place, &turn);
        }
        let together = |places: &[Seq]| line.together(places).into_iter().collect::<Vec<_>>();
        assert_eq!(together(&[1, 2, 3, 4, 5, 6, 7]), [1, 2, 3, 6, 7]);
        // Who is left out stops all behind it.
        assert_eq!(together(&[1, 3, 7]), [1]);
        assert_eq!(together(&[2, 3, 6]), [6]);
        assert_eq!(line.behind(2).collect::<Vec<_>>(), [3, 7]);
        assert_eq!(line.behind(6).count(), 0);
        for place in [1, 2] {
            line.leave(place);
        }
        assert_eq!(line.together(&[3, 4, 5, 7]), [3, 4, 5, 7].into());
    }

    proptest! {
        /// Whoever comes and goes: it is the turn of exactly those that the rule does not block, and
        /// each is told so once.
        #[test]
        fn a_line_keeps_the_rule(
            steps in prop::collection::vec((0..4u8, 0..4u8, any::<prop::sample::Index>(), any::<bool>()), 1..80)
        ) {
            let mut line = Line::default();
            let mut all: Vec<(Seq, Turn)> = Vec::new();
            let mut told = BTreeSet::new();
            for (place, (lane, key, who, goes)) in (1..).zip(steps) {
                let named = |name: u8| (name > 0).then(|| name.to_string());
                if goes && !all.is_empty() {
                    let (gone, _) = all.remove(who.index(all.len()));
                    told.remove(&gone);
                    for next in line.leave(gone) {
                        prop_assert!(told.insert(next), "{next} is told twice");
                    }
                } else {
                    let turn = Turn { lane: named(lane), key: named(key) };
                    all.push((place, turn.clone()));
                    if enter(&mut line, place, &turn) {
                        told.insert(place);
                    }
                }
                for (n, (place, turn)) in all.iter().enumerate() {
                    let blocked = turn.is_blocked(all[..n].iter().map(|(_, turn)| turn));
                    prop_assert_eq!(told.contains(place), !blocked);
                    prop_assert_eq!(line.has_turn(*place), !blocked);
                }
            }
            for (place, _) in all {
                line.leave(place);
            }
            prop_assert!(line.is_empty() && line.lanes.is_empty() && line.keys.is_empty());
        }
    }
}
