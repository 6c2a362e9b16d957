//! What becomes of objects that were handled.

use std::{fs, sync::Mutex};

use tidemill_core::{
    destination::{Destination, OutboxAction, PublishError},
    event::Event,
    time::Timestamp,
};

use super::*;
use crate::bucket::BucketDestination;

struct Setup {
    world: World,
    done: Bucket,
    after: BucketDestination,
    told: Arc<Mutex<Vec<String>>>,
}

impl Setup {
    fn new() -> Setup {
        let world = World::new();
        let done = Bucket::open("done", &world.outside(""), true).unwrap();
        let told = Arc::new(Mutex::new(Vec::new()));
        let tell = {
            let told = told.clone();
            move |bucket: &str, key: &str, hops: u32| {
                told.lock().unwrap().push(format!("{bucket}/{key} {hops}"));
            }
        };
        let after = BucketDestination::new([world.bucket(), done.clone()], Arc::new(tell));
        Setup {
            world,
            done,
            after,
            told,
        }
    }

    async fn publish(&self, action: &OutboxAction) -> Result<(), PublishError> {
        let event = Event {
            id: "1".into(),
            source: "bucket:b".into(),
            kind: "object.created".into(),
            subject: None,
            time: Timestamp(0),
            datacontenttype: None,
            traceparent: None,
            hops: 3,
            headers: Vec::new(),
            data: "".into(),
        };
        self.after.publish(action, &event).await
    }

    async fn etag(&self, key: &str) -> String {
        self.world.bucket().head(key).await.unwrap().etag
    }

    async fn to(&self, key: &str, to_bucket: &str, to_key: &str) -> OutboxAction {
        OutboxAction::MoveObject {
            bucket: "b".into(),
            key: key.into(),
            etag: self.etag(key).await,
            to_bucket: to_bucket.into(),
            to_key: to_key.into(),
        }
    }
}

#[tokio::test]
async fn deletes_the_version_that_was_handled_only() {
    let setup = Setup::new();
    setup.world.write("a", "1");
    let delete = OutboxAction::DeleteObject {
        bucket: "b".into(),
        key: "a".into(),
        etag: setup.etag("a").await,
    };
    setup.world.write("a", "22");
    assert_eq!(setup.publish(&delete).await, Ok(()));
    assert_eq!(fs::read_to_string(setup.world.path("a")).unwrap(), "22");
    let delete = OutboxAction::DeleteObject {
        bucket: "b".into(),
        key: "a".into(),
        etag: setup.etag("a").await,
    };
    for _ in 0..2 {
        assert_eq!(setup.publish(&delete).await, Ok(()));
        assert!(!setup.world.path("a").exists());
    }
    assert!(setup.told.lock().unwrap().is_empty());
}

#[tokio::test]
async fn moves_once_however_often_it_is_told() {
    let setup = Setup::new();
    setup.world.write("in/a", "1");
    let action = setup.to("in/a", "done", "2024/in/a").await;
    // A crash between copy and deletion: both are there.
    fs::create_dir_all(setup.world.outside("2024/in")).unwrap();
    fs::write(setup.world.outside("2024/in/a"), "1").unwrap();
    for _ in 0..2 {
        assert_eq!(setup.publish(&action).await, Ok(()));
        assert!(!setup.world.path("in/a").exists());
        assert_eq!(
            setup.done.read("2024/in/a", None, None, 9).await.unwrap(),
            "1"
        );
    }
    assert_eq!(*setup.told.lock().unwrap(), ["done/2024/in/a 4"]);
}

#[tokio::test]
async fn leaves_a_changed_object_alone() {
    let setup = Setup::new();
    setup.world.write("a", "1");
    let action = setup.to("a", "done", "a").await;
    setup.world.write("a", "22");
    assert_eq!(setup.publish(&action).await, Ok(()));
    assert!(setup.world.path("a").exists() && !setup.world.outside("a").exists());
}

#[tokio::test]
async fn moves_large_objects_in_parts() {
    let setup = Setup::new();
    let content: Vec<u8> = (0..20_000_001u32).map(|n| (n % 251) as u8).collect();
    fs::write(setup.world.path("large"), &content).unwrap();
    let action = setup.to("large", "done", "d/large").await;
    assert_eq!(setup.publish(&action).await, Ok(()));
    assert!(!setup.world.path("large").exists());
    assert!(fs::read(setup.world.outside("d/large")).unwrap() == content);
    assert_eq!(fs::read_dir(setup.world.outside("d")).unwrap().count(), 1);
}

#[tokio::test]
async fn says_what_can_never_work() {
    let setup = Setup::new();
    setup.world.write("a", "1");
    for (bucket, key, words) in [
        ("b", "a", "cannot move onto itself"),
        ("nowhere", "a", "no bucket `nowhere`"),
        ("done", "a#1", "kept for writes in progress"),
        ("done", "../a", "path of names"),
    ] {
        let action = setup.to("a", bucket, key).await;
        let Err(PublishError::Rejected(text)) = setup.publish(&action).await else {
            panic!("{bucket}/{key}");
        };
        assert!(text.contains(words), "{text}");
    }
    let action = setup.to("a", "done", "a").await;
    fs::remove_dir_all(setup.world.outside("")).unwrap();
    let Err(PublishError::Failed(text)) = setup.publish(&action).await else {
        panic!("the folder may come back");
    };
    assert!(text.contains("is missing"), "{text}");
    assert!(setup.world.path("a").exists());
}
