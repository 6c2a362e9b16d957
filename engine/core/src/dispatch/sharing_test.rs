//! How queues share what they pass: evenly, without starving each other, each at its own rate.

use std::time::Duration;

use super::*;

fn through(gate: GateIndex) -> QueueSettings {
    QueueSettings {
        gate,
        rate: None,
        held: false,
        batch: None,
    }
}

fn held(rate: Option<Rate>) -> QueueSettings {
    QueueSettings {
        gate: 0,
        rate,
        held: true,
        batch: None,
    }
}

fn rate(count: u32, ms: u64) -> Option<Rate> {
    let per = Duration::from_millis(ms);
    Some(Rate { count, per })
}

fn due(seq: Seq, due: i64) -> Waiting {
    Waiting {
        seq,
        due: Timestamp(due),
        size: 0,
    }
}

#[test]
fn what_arrives_while_nobody_waits_starts_at_once_and_behind_others_it_does_not() {
    let now = Timestamp(5);
    let arrives = |dispatch: &mut Dispatch, queue, seq| {
        dispatch.arrived(queue, due(seq, 5));
        dispatch.start_now(queue, seq, now)
    };
    let mut dispatch = Dispatch::new(&[held(None), held(None), held(rate(9, 1))], &[3], 9);
    // As often as it likes: nothing is owed to others for it.
    for seq in 0..1000 {
        assert!(arrives(&mut dispatch, 0, seq));
        dispatch.ended(0, seq);
    }
    assert!(!arrives(&mut dispatch, 2, 1000), "it has a rate");
    assert!(arrives(&mut dispatch, 1, 2000), "there is much room");
    assert!(!arrives(&mut dispatch, 0, 1001), "another one waits");
    assert_eq!(
        dispatch.next(now),
        Step::Start {
            queue: 0,
            seq: 1001
        }
    );
    assert_eq!(
        dispatch.next(now),
        Step::Start {
            queue: 2,
            seq: 1000
        }
    );
    assert_eq!(dispatch.next(now), Step::Wait(None));
    assert!(!arrives(&mut dispatch, 1, 1002), "the gate is full");
    assert_eq!(dispatch.next(now), Step::Wait(None));
    dispatch.ended(0, 1001);
    assert!(dispatch.is_waited_for());
    assert!(
        !arrives(&mut dispatch, 0, 1003),
        "another one waited before"
    );
    assert_eq!(
        dispatch.next(now),
        Step::Start {
            queue: 1,
            seq: 1002
        }
    );
}

/// Queues that always have work, each with events of one size, over one gate.
fn starts_by_queue(sizes: &[usize], cap: usize, starts: usize) -> Vec<u64> {
    let queues: Vec<_> = sizes.iter().map(|&size| (size, None)).collect();
    shared(&queues, cap, starts)
}

/// The same, of queues that may start several at a time.
fn shared(queues: &[(usize, Option<Batch>)], cap: usize, starts: usize) -> Vec<u64> {
    let size = |queue: usize| queues[queue].0;
    let settings = queues.iter().map(|(_, batch)| QueueSettings {
        batch: *batch,
        ..through(0)
    });
    let settings: Vec<_> = settings.collect();
    let mut dispatch = Dispatch::new(&settings, &[cap], usize::MAX);
    let mut counts = vec![0; queues.len()];
    let mut seq = 0;
    let mut running: VecDeque<(QueueIndex, Vec<Seq>)> = VecDeque::new();
    while counts.iter().sum::<u64>() < starts as u64 {
        let mut begun = None;
        match dispatch.next(Timestamp(0)) {
            Step::Load { queue, .. } => {
                let page = (0..2).map(|n| Waiting {
                    seq: seq + n,
                    due: Timestamp(0),
                    size: size(queue),
                });
                dispatch.loaded(queue, page.collect());
                seq += 2;
            }
            Step::Start { queue, seq } => begun = Some((queue, vec![seq])),
            Step::StartBatch { queue, seqs } => begun = Some((queue, seqs)),
            Step::Wait(_) => {
                let (queue, seqs) = running.pop_front().expect("something runs");
                dispatch.ended_batch(Start::new(queue, seqs[0]), &seqs);
            }
        }
        if let Some((queue, seqs)) = begun {
            counts[queue] += seqs.len() as u64;
            for _ in &seqs {
                let size = size(queue);
                let due = Timestamp(0);
                dispatch.arrived(queue, Waiting { seq, due, size });
                seq += 1;
            }
            running.push_back((queue, seqs));
        }
    }
    counts
}

#[test]
fn busy_queues_share_a_gate_evenly() {
    for cap in [1, 3, 64] {
        let counts = starts_by_queue(&[100, 100, 100], cap, 3000);
        assert!(
            counts.iter().all(|&n| (900..=1100).contains(&n)),
            "cap {cap}: {counts:?}"
        );
    }
}

#[test]
fn large_events_count_for_more_but_never_starve() {
    for cap in [1, 3, 64] {
        let counts = starts_by_queue(&[100, 6 << 20], cap, 3000);
        assert!(counts[0] > counts[1], "cap {cap}: {counts:?}");
        assert!(counts[1] >= 3, "cap {cap}: {counts:?}");
    }
}

#[test]
fn a_batch_costs_what_its_events_cost() {
    let batch = |max, bytes| Batch {
        max,
        wait: Duration::ZERO,
        bytes,
    };
    let many = Some(batch(100, usize::MAX));
    for cap in [1, 3] {
        let counts = shared(&[(100, many), (100, None), (100, None)], cap, 6000);
        assert!(
            counts.iter().all(|&n| (1800..=2200).contains(&n)),
            "cap {cap}: {counts:?}"
        );
    }
}

#[test]
fn who_makes_room_lets_others_pass_its_gate_and_counts_as_running() {
    let mut dispatch = Dispatch::new(&[held(None)], &[1], 3);
    for seq in 0..5 {
        dispatch.arrived(0, due(seq, 0));
    }
    let starts = |seq| Step::Start { queue: 0, seq };
    for seq in 0..3 {
        assert_eq!(dispatch.next(Timestamp(0)), starts(seq));
        assert_eq!(dispatch.next(Timestamp(0)), Step::Wait(None), "the gate");
        dispatch.make_room(Start::new(0, seq));
        dispatch.make_room(Start::new(0, seq));
    }
    assert_eq!(
        dispatch.next(Timestamp(0)),
        Step::Wait(None),
        "the cap over all"
    );
    assert_eq!(dispatch.running(), 3);
    dispatch.ended(0, 1);
    assert_eq!(dispatch.next(Timestamp(0)), starts(3));
    assert_eq!(dispatch.next(Timestamp(0)), Step::Wait(None));
    dispatch.ended(0, 0);
    assert_eq!(dispatch.next(Timestamp(0)), Step::Wait(None), "the gate");
    dispatch.ended(0, 3);
    assert_eq!(dispatch.next(Timestamp(0)), starts(4));
    assert_eq!(dispatch.running(), 2);
}

#[test]
fn a_rate_counts_every_event_of_a_batch() {
    let batch = Batch {
        max: 4,
        wait: Duration::ZERO,
        bytes: 1000,
    };
    let settings = QueueSettings {
        batch: Some(batch),
        ..held(rate(6, 1000))
    };
    let mut dispatch = Dispatch::new(&[settings], &[9], 9);
    for seq in 0..20 {
        dispatch.arrived(0, due(seq, 0));
    }
    let mut started = Vec::new();
    for now in [0, 500, 1000] {
        while let Step::StartBatch { seqs, .. } = dispatch.next(Timestamp(now)) {
            dispatch.ended_batch(Start::new(0, seqs[0]), &seqs);
            started.push((now, seqs.len()));
        }
    }
    assert_eq!(started, [(0, 4), (0, 2), (1000, 4), (1000, 2)]);
}

#[test]
fn a_batch_starts_when_it_is_full_or_its_first_has_waited() {
    let batch = Batch {
        max: 3,
        wait: Duration::from_millis(100),
        bytes: 1000,
    };
    let settings = QueueSettings {
        batch: Some(batch),
        ..held(None)
    };
    let mut dispatch = Dispatch::new(&[settings], &[9], 9);
    let sized = |seq, at, size| Waiting {
        size,
        ..due(seq, at)
    };
    let starts = |seqs: &[Seq]| Step::StartBatch {
        queue: 0,
        seqs: seqs.to_vec(),
    };
    // Nobody comes: it goes alone.
    dispatch.arrived(0, due(1, 0));
    assert_eq!(
        dispatch.next(Timestamp(0)),
        Step::Wait(Some(Timestamp(100)))
    );
    dispatch.arrived(0, due(2, 60));
    // What is not due is no company.
    dispatch.arrived(0, due(3, 500));
    assert_eq!(
        dispatch.next(Timestamp(60)),
        Step::Wait(Some(Timestamp(100)))
    );
    assert_eq!(dispatch.next(Timestamp(100)), starts(&[1, 2]));
    // Full by number.
    for seq in 4..8 {
        dispatch.arrived(0, due(seq, 101));
    }
    assert_eq!(dispatch.next(Timestamp(101)), starts(&[4, 5, 6]));
    assert_eq!(
        dispatch.next(Timestamp(101)),
        Step::Wait(Some(Timestamp(201)))
    );
    // Full by bytes: the next one is too much.
    dispatch.arrived(0, sized(8, 102, 600));
    dispatch.arrived(0, sized(9, 103, 600));
    assert_eq!(dispatch.next(Timestamp(103)), starts(&[7, 8]));
    // One alone may be larger.
    dispatch.arrived(0, sized(10, 104, 5000));
    assert_eq!(dispatch.next(Timestamp(203)), starts(&[9]));
    assert_eq!(dispatch.next(Timestamp(203)), starts(&[10]));
    assert_eq!(dispatch.running(), 5);
    // One that withdrew comes again as if it were new.
    dispatch.withdraw(0, 10);
    dispatch.arrived(0, due(10, 203));
    dispatch.ended_batch(Start::new(0, 10), &[]);
    assert_eq!(dispatch.next(Timestamp(303)), starts(&[10]));
}

/// All that starts at this time, each ending at once.
fn started(dispatch: &mut Dispatch, now: i64) -> Vec<(QueueIndex, Seq)> {
    let mut started = Vec::new();
    while let Step::Start { queue, seq } = dispatch.next(Timestamp(now)) {
        dispatch.ended(queue, seq);
        started.push((queue, seq));
    }
    started
}

#[test]
fn a_queue_at_its_rate_holds_nobody_up() {
    let mut dispatch = Dispatch::new(&[held(rate(2, 1000)), held(None)], &[1], 1);
    for seq in 0..5 {
        dispatch.arrived(0, due(seq, 0));
        dispatch.arrived(1, due(10 + seq, 0));
    }
    let mut first = started(&mut dispatch, 0);
    first.sort_unstable();
    let all_of_the_other = (10..15).map(|seq| (1, seq));
    let expected: Vec<_> = [(0, 0), (0, 1)]
        .into_iter()
        .chain(all_of_the_other)
        .collect();
    assert_eq!(first, expected);
    assert_eq!(
        dispatch.next(Timestamp(0)),
        Step::Wait(Some(Timestamp(1000)))
    );
    // News does not wake it before.
    dispatch.arrived(0, due(5, 0));
    assert_eq!(
        dispatch.next(Timestamp(999)),
        Step::Wait(Some(Timestamp(1000)))
    );
    assert_eq!(started(&mut dispatch, 1000), [(0, 2), (0, 3)]);
    assert_eq!(started(&mut dispatch, 2000), [(0, 4), (0, 5)]);
    assert_eq!(dispatch.next(Timestamp(2000)), Step::Wait(None));
}

#[test]
fn a_clock_that_is_set_back_holds_a_queue_up_for_one_span() {
    let mut dispatch = Dispatch::new(&[held(rate(1, 1000))], &[1], 1);
    let hour = 3_600_000;
    dispatch.arrived(0, due(1, 0));
    dispatch.arrived(0, due(2, 0));
    assert_eq!(started(&mut dispatch, hour), [(0, 1)]);
    assert_eq!(
        dispatch.next(Timestamp(hour)),
        Step::Wait(Some(Timestamp(hour + 1000)))
    );
    assert_eq!(
        dispatch.next(Timestamp(5)),
        Step::Wait(Some(Timestamp(1005)))
    );
    assert_eq!(started(&mut dispatch, 1005), [(0, 2)]);
}

#[test]
fn a_held_queue_keeps_all_in_order_and_reads_no_page() {
    let mut dispatch = Dispatch::with_window(&[held(None)], &[1], 1, 2);
    for seq in 0..100 {
        dispatch.arrived(0, due(seq, 100 - seq));
    }
    let expected: Vec<_> = (0..100).rev().map(|seq| (0, seq)).collect();
    assert_eq!(started(&mut dispatch, 100), expected);
    assert_eq!(dispatch.next(Timestamp(100)), Step::Wait(None));
}

#[test]
fn a_queue_that_gets_another_gate_leaves_the_one_it_passed() {
    let mut dispatch = Dispatch::new(&[held(None)], &[2], 10);
    for seq in 1..=6 {
        dispatch.arrived(0, due(seq, 0));
    }
    let start = |seq| Step::Start { queue: 0, seq };
    let next = |dispatch: &mut Dispatch| dispatch.next(Timestamp(0));
    assert_eq!(next(&mut dispatch), start(1));
    assert_eq!(next(&mut dispatch), start(2));
    assert_eq!(next(&mut dispatch), Step::Wait(None));
    // At its new gate nothing runs yet.
    let moved = QueueSettings {
        gate: 1,
        ..held(None)
    };
    dispatch.reshape(&[Some(moved), Some(held(None))], &[2, 1]);
    assert_eq!(next(&mut dispatch), start(3));
    assert_eq!(next(&mut dispatch), Step::Wait(None));
    // The old one is full still.
    dispatch.arrived(1, due(7, 0));
    assert_eq!(next(&mut dispatch), Step::Wait(None));
    dispatch.ended(0, 1);
    assert_eq!(next(&mut dispatch), Step::Start { queue: 1, seq: 7 });
    dispatch.ended(0, 2);
    assert_eq!(next(&mut dispatch), Step::Wait(None));
    dispatch.ended(0, 3);
    assert_eq!(next(&mut dispatch), start(4));
    // A cap that is raised, and one that is lowered below what runs.
    dispatch.reshape(&[Some(moved), Some(held(None))], &[2, 2]);
    assert_eq!(next(&mut dispatch), start(5));
    dispatch.reshape(&[Some(moved), Some(held(None))], &[2, 1]);
    dispatch.ended(0, 4);
    assert_eq!(next(&mut dispatch), Step::Wait(None));
    dispatch.ended(0, 5);
    assert_eq!(next(&mut dispatch), start(6));
    dispatch.ended(0, 6);
    dispatch.ended(1, 7);
    assert_eq!(dispatch.running(), 0);
}

#[test]
fn a_rate_that_changes_counts_anew_and_one_that_stays_does_not() {
    let mut dispatch = Dispatch::new(&[held(rate(1, 1000))], &[9], 10);
    for seq in 1..=3 {
        dispatch.arrived(0, due(seq, 0));
    }
    let start = |seq| Step::Start { queue: 0, seq };
    assert_eq!(dispatch.next(Timestamp(0)), start(1));
    let rests = Step::Wait(Some(Timestamp(1000)));
    assert_eq!(dispatch.next(Timestamp(0)), rests);
    dispatch.reshape(&[Some(held(rate(1, 1000)))], &[9]);
    assert_eq!(dispatch.next(Timestamp(0)), rests);
    dispatch.reshape(&[Some(held(None))], &[9]);
    assert_eq!(dispatch.next(Timestamp(0)), start(2));
    assert_eq!(dispatch.next(Timestamp(0)), start(3));
}

#[test]
fn a_closed_queue_leaves_what_waits_to_the_journal_and_loads_it_when_it_opens() {
    let mut dispatch = Dispatch::new(&[through(0)], &[1], 10);
    let load = Step::Load {
        queue: 0,
        after: None,
        limit: limits::WINDOW,
    };
    assert_eq!(dispatch.next(Timestamp(0)), load);
    dispatch.loaded(0, vec![due(1, 0), due(2, 0)]);
    let start = |seq| Step::Start { queue: 0, seq };
    assert_eq!(dispatch.next(Timestamp(0)), start(1));
    dispatch.reshape(&[None], &[1]);
    dispatch.arrived(0, due(3, 0));
    assert_eq!(dispatch.next(Timestamp(0)), Step::Wait(None));
    // What runs is not started a second time.
    dispatch.reshape(&[Some(through(0))], &[1]);
    assert_eq!(dispatch.next(Timestamp(0)), load);
    // A page that was asked for before it was closed once more is of no use.
    dispatch.reshape(&[None], &[1]);
    dispatch.reshape(&[Some(through(0))], &[1]);
    dispatch.loaded(0, vec![due(1, 0)]);
    assert_eq!(dispatch.next(Timestamp(0)), load);
    dispatch.loaded(0, vec![due(1, 0), due(2, 0), due(3, 0)]);
    assert_eq!(dispatch.next(Timestamp(0)), Step::Wait(None));
    dispatch.ended(0, 1);
    assert_eq!(dispatch.next(Timestamp(0)), start(2));
    dispatch.ended(0, 2);
    assert_eq!(dispatch.next(Timestamp(0)), start(3));
}
