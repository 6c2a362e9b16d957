#[path = "../tests/common/mod.rs"]
mod common;
use common::*;
use std::{sync::{Arc, atomic::{AtomicBool, AtomicU64, Ordering::*}}, time::{Duration, Instant}};
use wasmtime::{component::*, *};
fn cpu() -> f64 { let s = std::fs::read_to_string("/proc/self/schedstat").unwrap_or_default(); let _ = s; let t = std::fs::read_to_string("/proc/self/stat").unwrap(); let f: Vec<&str> = t.rsplit(')').next().unwrap().split_whitespace().collect(); (f[11].parse::<f64>().unwrap() + f[12].parse::<f64>().unwrap()) * 1e4 }
#[derive(ComponentType, Lower)] #[component(record)]
struct D { id: String, trigger: String, attempt: u32 }
#[derive(ComponentType, Lower)] #[component(record)]
struct E { id: String, source: String, #[component(name = "type")] kind: String, subject: Option<String>, #[component(name = "time-ms")] t: u64, datacontenttype: Option<String>, traceparent: Option<String>, headers: Vec<(String, String)>, data: Vec<u8>, delivery: D }
#[derive(ComponentType, Lift)] #[component(record)]
struct Rep { status: Option<u16>, headers: Vec<(String, String)>, body: Vec<u8> }
#[derive(ComponentType, Lift)] #[component(record)]
struct Ret { #[component(name = "after-ms")] a: Option<u64>, reason: String }
#[derive(ComponentType, Lift)] #[component(variant)]
enum F { #[component(name = "retry")] Retry(Ret), #[component(name = "reject")] Reject(String) }
type Ans = (std::result::Result<Option<Rep>, F>,);
fn bare_engine(n: u32) -> Engine {
    let mut p = PoolingAllocationConfig::new();
    p.total_component_instances(n).total_core_instances(n * 8).total_memories(n).total_tables(n * 4).total_stacks(n).max_component_instance_size(1 << 20).max_core_instance_size(1 << 20).max_memory_size(4 << 30).table_elements(65536).linear_memory_keep_resident(256 << 10).table_keep_resident(16 << 10).max_unused_warm_slots(n).decommit_batch_size(16).pagemap_scan(Enabled::Yes);
    let mut c = Config::new();
    c.allocation_strategy(InstanceAllocationStrategy::Pooling(p)).memory_reservation(4 << 30).memory_guard_size(32 << 20).memory_may_move(false).epoch_interruption(true).async_stack_size(1 << 20).max_wasm_stack(512 << 10).async_stack_zeroing(false).concurrency_support(false).wasm_features(WasmFeatures::CM_ASYNC, false);
    Engine::new(&c).unwrap()
}
fn main() {
    let a: Vec<String> = std::env::args().collect();
    let wasm = match a.get(1).map(String::as_str) { Some("-") | None => component(OK), Some(f) => std::fs::read(f).unwrap() };
    let kind = a.get(2).cloned().unwrap_or("ok".into());
    let secs: f64 = a.get(3).map_or(1.0, |s| s.parse().unwrap());
    let rig = rig_with(1000);
    if kind == "cold" {
        let rss = || std::fs::read_to_string("/proc/self/status").unwrap().lines().find(|l| l.starts_with("RssAnon")).unwrap().to_string() + std::fs::read_to_string("/proc/self/status").unwrap().lines().find(|l| l.starts_with("RssFile")).unwrap();
        let maps = || std::fs::read_to_string("/proc/self/maps").unwrap().lines().count();
        let rt = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let t = Instant::now(); let f = rig.load(&wasm); println!("load with compile {:?}", t.elapsed());
        let t = Instant::now(); let r = rt.block_on(run(&f, &event("ok", vec![b'a'; 1024]))).0; println!("first call {:?} {:?}", t.elapsed(), r.outcome);
        println!("before: {} fds {}", rss(), std::fs::read_dir("/proc/self/fd").unwrap().count());
        let fs: Vec<_> = (0..100).map(|_| { let t = Instant::now(); let f = rig.load(&wasm); let l = t.elapsed(); let t = Instant::now(); rt.block_on(run(&f, &event("ok", vec![b'a'; 1024]))); (f, l, t.elapsed()) }).collect();
        let mut l: Vec<_> = fs.iter().map(|f| f.1).collect(); l.sort(); let mut c: Vec<_> = fs.iter().map(|f| f.2).collect(); c.sort();
        println!("100 loaded: {} fds {}; cached load p50 {:?} max {:?}; first call p50 {:?} max {:?}", rss(), std::fs::read_dir("/proc/self/fd").unwrap().count(), l[50], l[99], c[50], c[99]);
        println!("called: {}", rss()); let more: Vec<_> = (0..100).map(|_| rig.load(&wasm)).collect(); println!("100 more loaded, not called: {} {}", rss(), more.len());
        let s = if a.get(1).is_some_and(|a| a.contains("probe")) { rig.load(&wasm) } else { rig.load(&sleeper(300)) }; let (m0, r0) = (maps(), rss());
        rt.block_on(async { let mut j = tokio::task::JoinSet::new(); for _ in 0..1000 { let s = s.clone(); j.spawn(async move { run(&s, &event("sleep", r#"{"ms":300}"#)).await.0 }); } tokio::time::sleep(Duration::from_millis(250)).await; println!("1000 asleep: maps {} -> {}; {} -> {}", m0, maps(), r0, rss()); j.join_all().await; });
        return;
    }
    let eng = bare_engine(1000); let stop = Arc::new(AtomicBool::new(false));
    { let (e, s) = (eng.clone(), stop.clone()); std::thread::spawn(move || while !s.load(Relaxed) { std::thread::sleep(Duration::from_millis(10)); e.increment_epoch(); }); }
    let comp = wasmtime::component::Component::new(&eng, &wasm).unwrap();
    let mut l: wasmtime::component::Linker<StoreLimits> = wasmtime::component::Linker::new(&eng); l.define_unknown_imports_as_traps(&comp).unwrap();
    let pre = l.instantiate_pre(&comp).unwrap(); let h = comp.get_export_index(None, "tidemill:function/handler@0.1.0").unwrap(); let h = comp.get_export_index(Some(&h), "handle").unwrap();
    let f = rig.load(&wasm); let host = Arc::new(common::Memory::default());
    let mk = |k: &str| E { id: "event-1".into(), source: "test".into(), kind: k.into(), subject: Some("s".into()), t: 5, datacontenttype: Some("text/plain".into()), traceparent: None, headers: vec![("color".into(), "green".into())], data: vec![b'a'; 1024], delivery: D { id: "delivery-1".into(), trigger: "trigger".into(), attempt: 3 } };
    let mut res: Vec<Vec<Vec<(f64, f64)>>> = vec![vec![vec![]; 2]; 2];
    for rep in 0..6 { for which in [rep % 2, 1 - rep % 2] { for threads in [1usize, 2] {
        let total = AtomicU64::new(0); let (c0, t0) = (cpu(), Instant::now());
        std::thread::scope(|s| { for _ in 0..threads { s.spawn(|| {
            let rt = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            let n = rt.block_on(async { let mut n = 0u64; let end = Instant::now() + Duration::from_secs_f64(secs);
                if which == 0 { let e = mk(&kind); while Instant::now() < end { for _ in 0..50 {
                    let mut s = Store::new(&eng, StoreLimitsBuilder::new().memory_size(128 << 20).build()); s.limiter(|s| s); s.set_epoch_deadline(1); s.epoch_deadline_async_yield_and_update(1);
                    let i = pre.instantiate_async(&mut s).await.unwrap(); let h = i.get_typed_func::<(&E,), Ans>(&mut s, h).unwrap(); let r = h.call_async(&mut s, (&e,)).await.unwrap(); assert!(r.0.is_ok()); n += 1; } } }
                else { let (e, d) = (event(&kind, vec![b'a'; 1024]), delivery()); while Instant::now() < end { for _ in 0..50 { let r = f.run(&e, &d, host.clone()).await; assert_eq!(r.outcome, tidemill_core::outcome::Outcome::Ok); n += 1; } } }
                n }); total.fetch_add(n, SeqCst); }); } });
        let n = total.load(SeqCst) as f64; if rep > 0 { res[which][threads - 1].push((n / t0.elapsed().as_secs_f64(), (cpu() - c0) / n)); }
    } } }
    let med = |v: &Vec<(f64, f64)>, f: fn(&(f64, f64)) -> f64| { let mut x: Vec<f64> = v.iter().map(f).collect(); x.sort_by(|a, b| a.total_cmp(b)); (x[x.len() / 2], x[0], x[x.len() - 1]) };
    for t in 0..2 { let (b, s) = (med(&res[0][t], |r| r.0), med(&res[1][t], |r| r.0)); let (bc, sc) = (med(&res[0][t], |r| r.1), med(&res[1][t], |r| r.1));
        println!("{} thread(s): bare {:.0}/s ({:.0}..{:.0}) {:.2} us cpu; sandbox {:.0}/s ({:.0}..{:.0}) {:.2} us cpu; ratio {:.3}", t + 1, b.0, b.1, b.2, bc.0, s.0, s.1, s.2, sc.0, s.0 / b.0); }
    stop.store(true, SeqCst);
}
