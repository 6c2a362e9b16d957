//! What is known of a bucket as a whole: where it begins, and what its ledger forgets.

use object_store::{ObjectStore, ObjectStoreExt, memory::InMemory, path::Path as StorePath};
use tidemill_core::{
    ledger::{BucketState, LedgerEntry},
    limits,
};

use super::*;
use crate::{bucket::remote::Remote, clock};

fn begun(world: &World, bucket: Bucket) -> Running {
    let mut connector = BucketConnector::new(bucket, Duration::from_millis(20)).only_new(true);
    connector.tuning = QUICK;
    let (health, stop) = (connector.health(), CancellationToken::new());
    let task = tokio::spawn(connector.run(world.ledger.clone(), stop.clone()));
    Running { health, stop, task }
}

/// Waits until files written from now on are younger than whatever was written before.
async fn later(world: &World) {
    let modified = || fs::metadata(world.outside("clock")).unwrap().modified();
    fs::write(world.outside("clock"), "").unwrap();
    let before = modified().unwrap() + QUICK.tick * 2;
    while modified().unwrap() <= before {
        tokio::task::yield_now().await;
        fs::write(world.outside("clock"), "").unwrap();
    }
}

#[tokio::test]
async fn what_was_there_before_is_no_news() {
    let world = World::new();
    world.write("old/a", "x");
    world.write("old/b", "x");
    later(&world).await;
    let running = begun(&world, world.bucket());
    running.reached(|_, ready| ready).await;
    world.write("new", "x");
    world.expect(&["created new"]).await;
    assert_eq!(world.ledger.objects().len(), 3, "all are in the ledger");
    world.write("old/a", "changed");
    fs::remove_file(world.path("old/b")).unwrap();
    world.expect(&["created old/a", "deleted old/b"]).await;
    running.stop().await;
    assert!(world.ledger.with(|l| l.state).unwrap().complete);
}

#[tokio::test]
async fn a_first_scan_that_was_cut_short_goes_on_from_where_the_bucket_began() {
    let world = World::new();
    for n in 0..20 {
        world.write(&format!("old/{n}"), "x");
    }
    later(&world).await;
    // The bucket has begun, and a part of it is in the ledger, when the engine dies.
    let began = clock::now();
    world.ledger.with(|l| {
        l.state = Some(BucketState {
            began,
            ..BucketState::default()
        });
    });
    later(&world).await;
    world.write("while/it/was/down", "x");
    let running = begun(&world, world.bucket());
    world.expect(&["created while/it/was/down"]).await;
    running.reached(|_, ready| ready).await;
    running.stop().await;
    assert_eq!(world.ledger.objects().len(), 21);
    assert_eq!(world.ledger.with(|l| l.state).unwrap().began, began);
}

#[tokio::test]
async fn object_stores_begin_likewise() {
    let world = World::new();
    let store: Arc<dyn ObjectStore> = Arc::new(InMemory::new());
    let put = async |key: &str| {
        let path = StorePath::from(format!("in/{key}"));
        store.put(&path, "x".into()).await.unwrap();
    };
    put("old").await;
    // Times of object stores have whole seconds.
    let second = clock::now().0 / 1000;
    while clock::now().0 / 1000 == second {
        tokio::task::yield_now().await;
    }
    let running = begun(&world, Bucket::over(Remote::over("b", store.clone())));
    running.reached(|_, ready| ready).await;
    put("new").await;
    world.expect(&["created new"]).await;
    running.stop().await;
    assert_eq!(world.ledger.objects().len(), 2);
}

#[tokio::test]
async fn keys_that_went_long_ago_are_forgotten_and_never_mistaken() {
    let world = World::new();
    let went = |key: &str, ago: Duration, deletes| LedgerEntry {
        key: key.into(),
        etag: None,
        size: 0,
        modified: clock::now().minus(ago),
        deletes,
    };
    let (long, short) = (limits::LEDGER_GONE * 2, limits::LEDGER_GONE / 2);
    world.ledger.with(|l| {
        for entry in [
            went("long", long, 3),
            went("longer", long, 7),
            went("lately", short, 9),
        ] {
            l.entries.insert(entry.key.clone(), entry);
        }
    });
    let running = world.start_with(QUICK, NEVER).await;
    world
        .ledger
        .wait("the two are forgotten", |l| l.entries.len() == 1)
        .await;
    world.write("long", "x");
    world.expect(&["created long"]).await;
    let id = world.ledger.with(|l| l.offers[0].id.clone());
    assert!(id.ends_with(".7"), "no id that it ever had: {id}");
    running.stop().await;
    let state = world.ledger.with(|l| l.state).unwrap();
    assert_eq!((state.deletes, state.complete), (7, true));

    // So it is after a restart.
    let running = world.start().await;
    world.write("longer", "x");
    world.expect(&["created longer"]).await;
    let id = world.ledger.with(|l| l.offers[1].id.clone());
    assert!(id.ends_with(".7"), "{id}");
    running.stop().await;
}
