//! probe
use std::{sync::Arc, time::{Duration, Instant}};
use tidemill_core::{delivery::*, event::Event, identity::DeliveryId, time::Timestamp};
use tidemill_journal::*;
fn unit(n: usize) -> Unit {
    let id = format!("e{n}");
    Unit { accept: vec![Accepted { event: Event { id: id.clone(), source: "http:/x".into(), kind: "t".into(), subject: None, time: Timestamp(1), datacontenttype: None, traceparent: None, hops: 0, headers: vec![], data: vec![n as u8; 1024].into() },
        deliveries: vec![NewDelivery { id: DeliveryId::derive("trig", "http:/x", &id), trigger: "trig".into(), work: Work::Handle, accepted: Timestamp(1), due: Timestamp(1), lane: None, key: None, history: vec![], dead: None, redrive: None, only_if_last: None }] }], ..Default::default() }
}
fn main() {
    let rt = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let inflight: usize = std::env::args().nth(1).and_then(|a| a.parse().ok()).unwrap_or(256);
    for round in 0..3 {
        let dir = tempfile::tempdir_in(std::env::var("PROBE_DIR").unwrap_or("/work/main/target".into())).unwrap();
        let j = Arc::new(SqliteJournal::open(&dir.path().join("journal.db"), SqliteOptions::default()).unwrap());
        let total = 200_000usize.min(inflight * 2000);
        let start = Instant::now();
        let cpu0 = cpu();
        rt.block_on(async {
            let mut tasks = vec![];
            for t in 0..inflight {
                let j = j.clone();
                tasks.push(tokio::spawn(async move {
                    for n in 0..total / inflight {
                        let UnitResult::Committed { added } = j.commit(vec![unit(n * inflight + t)]).await.unwrap().remove(0) else { panic!() };
                        let done = Unit { settle: Some(Settle::Done { delivery: added[0].seq }), ..Default::default() };
                        assert!(matches!(j.commit(vec![done]).await.unwrap()[0], UnitResult::Committed { .. }));
                    }
                }));
            }
            for t in tasks { t.await.unwrap(); }
        });
        let e = start.elapsed();
        println!("engine round {round}: {:.0}/s {:.1}us cpu each, bytes {}", total as f64 / e.as_secs_f64(), (cpu() - cpu0).as_secs_f64() * 1e6 / total as f64, j.bytes());
        drop(j);
        floor(&dir.path().join("floor.db"), total, inflight);
    }
}
fn cpu() -> Duration {
    let s = std::fs::read_to_string("/proc/self/stat").unwrap();
    let f: Vec<&str> = s.rsplit(')').next().unwrap().split_whitespace().collect();
    Duration::from_millis((f[11].parse::<u64>().unwrap() + f[12].parse::<u64>().unwrap()) * 10)
}
/// bare rusqlite: same tables' worth: one table with unique id, 1 KiB body; group of `inflight` per transaction.
fn floor(path: &std::path::Path, total: usize, group: usize) {
    let c = rusqlite::Connection::open(path).unwrap();
    c.execute_batch("PRAGMA journal_mode=wal; PRAGMA synchronous=full; PRAGMA cache_size=-65536; CREATE TABLE d (seq INTEGER PRIMARY KEY, id BLOB UNIQUE, trigger TEXT, due INTEGER, data BLOB); CREATE INDEX p ON d (trigger, due);").unwrap();
    let start = Instant::now(); let cpu0 = cpu();
    {
        let mut ins = c.prepare("INSERT INTO d VALUES (?1,?2,?3,?4,?5)").unwrap();
        let mut del = c.prepare("DELETE FROM d WHERE seq=?1").unwrap();
        let mut n = 0i64;
        while (n as usize) < total {
            c.execute_batch("BEGIN IMMEDIATE").unwrap();
            for i in 0..group as i64 { let id = DeliveryId::derive("trig", "x", &(n + i).to_string()); ins.execute(rusqlite::params![n + i, id.0, "trig", 1, vec![1u8; 1024]]).unwrap(); }
            c.execute_batch("COMMIT; BEGIN IMMEDIATE").unwrap();
            for i in 0..group as i64 { del.execute([n + i]).unwrap(); }
            c.execute_batch("COMMIT").unwrap();
            n += group as i64;
        }
    }
    let e = start.elapsed();
    println!("  floor: {:.0}/s {:.1}us cpu each", total as f64 / e.as_secs_f64(), (cpu() - cpu0).as_secs_f64() * 1e6 / total as f64);
}
