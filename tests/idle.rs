//! No events, no work.

use std::{
    fmt::Write,
    fs,
    time::{Duration, Instant},
};

use crate::harness::Site;

/// The time that a process has spent on the processor, all its threads together.
fn cpu_time(pid: u32) -> Duration {
    let tasks = fs::read_dir(format!("/proc/{pid}/task")).expect("it runs");
    let of = |task: fs::DirEntry| {
        let text = fs::read_to_string(task.path().join("schedstat")).unwrap_or_default();
        let nanos = text
            .split(' ')
            .next()
            .and_then(|n| n.parse().ok())
            .unwrap_or(0);
        Duration::from_nanos(nanos)
    };
    tasks.flatten().map(of).sum()
}

#[test]
fn a_hundred_idle_functions_cost_nothing() {
    let mut config = String::new();
    for n in 0..100 {
        write!(
            config,
            "[buckets.b{n}]\nurl = \"file:buckets/b{n}\"\n\
             [functions.f{n}]\ncomponent = \"PROBE\"\nallow = {{ read = [\"b{n}\"] }}\n\
             [triggers.t{n}]\nfunction = \"f{n}\"\nbucket = {{ name = \"b{n}\" }}\n"
        )
        .expect("it fits");
    }
    let site = Site::new(&config);
    for n in 0..100 {
        site.bucket(&format!("b{n}"));
    }
    let engine = site.start();
    // The best of three stretches: what else the machine does may only add to it.
    let share = || {
        let (before, start) = (cpu_time(engine.pid()), Instant::now());
        std::thread::park_timeout(Duration::from_secs(5));
        (cpu_time(engine.pid()) - before).as_secs_f64() / start.elapsed().as_secs_f64()
    };
    let best = (0..3).map(|_| share()).fold(f64::INFINITY, f64::min);
    println!("100 idle functions: {:.3} % of a core", best * 100.0);
    assert!(best < 0.005, "{:.3} % of a core", best * 100.0);
    engine.stop();
}
