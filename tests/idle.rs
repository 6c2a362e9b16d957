//! No events, no work.

use std::{
    fmt::Write,
    time::{Duration, Instant},
};

use crate::harness::Site;

/// The time that a process has spent on the processors, all its threads together.
fn cpu_time(pid: u32) -> Duration {
    let mut time = libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    let mut clock: libc::clockid_t = 0;
    // SAFETY: both calls only write to the variables that they are given.
    let read = unsafe {
        libc::clock_getcpuclockid(pid.cast_signed(), &raw mut clock) == 0
            && libc::clock_gettime(clock, &raw mut time) == 0
    };
    assert!(read, "the process runs");
    Duration::new(time.tv_sec.cast_unsigned(), time.tv_nsec as u32)
}

#[test]
fn a_hundred_idle_functions_cost_nothing() {
    let mut config = String::new();
    for n in 0..100 {
        write!(
            config,
            "[buckets.b{n}]\nurl = \"file:buckets/b{n}\"\n\
             [functions.f{n}]\ncomponent = \"PROBE\"\nwarm = {}\nreuse = {}\nallow = {{ read = [\"b{n}\"] }}\n\
             [triggers.t{n}]\nfunction = \"f{n}\"\nbucket = {{ name = \"b{n}\" }}\n",
            // Those that wait for their event are no work either.
            n % 3,
            n % 2 == 0,
        )
        .expect("it fits");
    }
    let site = Site::new(&config);
    for n in 0..100 {
        site.bucket(&format!("b{n}"));
    }
    let engine = site.start();
    let (before, start) = (cpu_time(engine.pid()), Instant::now());
    assert!(before > Duration::ZERO, "its start is counted");
    std::thread::park_timeout(Duration::from_secs(10));
    let spent = cpu_time(engine.pid()) - before;
    let share = spent.as_secs_f64() / start.elapsed().as_secs_f64();
    println!("100 idle functions: {:.3} % of a core", share * 100.0);
    assert!(share < 0.005, "{:.3} % of a core", share * 100.0);
    engine.stop();
}
