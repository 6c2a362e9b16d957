//! Notifications of object stores, as a user has them: by a real queue, from a real server.

use crate::harness::{S3, Site, Sqs, wait_until};

fn plan(on: &S3, queue: &Sqs) -> String {
    let (name, queue) = (&on.name, queue.url());
    format!(
        r#"
[buckets.in]
url = "s3://{name}/in"
[functions.probe]
component = "PROBE"
env = {{ ORDER = '{{ "do": "count", "key": "all", "type": "" }}' }}
allow = {{ store = ["probe"] }}
[triggers.created]
function = "probe"
bucket = {{ name = "in", rescan = "1h", notify = {{ sqs = {{ queue = "{queue}" }} }} }}
[triggers.deleted]
function = "probe"
bucket = {{ name = "in", on = ["deleted"], rescan = "1h", notify = {{ sqs = {{ queue = "{queue}" }} }} }}
"#
    )
}

#[test]
fn what_the_store_tells_of_is_handled_long_before_the_next_listing() {
    let (bucket, queue) = (S3::new(), Sqs::new());
    let site = Site::new(&plan(&bucket, &queue));
    bucket.put("in/before", "x");
    bucket.tell(&queue);
    let engine = site.spawn(&bucket.env());
    engine.wait_ready();
    let handled = |count: &str| {
        wait_until(&format!("{count} are handled"), || {
            site.key("probe", "all").as_deref() == Some(count)
        });
    };
    handled("1");
    bucket.put("in/a", "x");
    handled("2");
    bucket.put("in/a", "y");
    handled("3");
    bucket.delete("in/a");
    handled("4");
    bucket.put("in/a", "y");
    handled("5");
    bucket.put("elsewhere", "x");
    queue.send(&["an order".into()]);
    engine.wait_log("is from no object store");
    wait_until("what was told is deleted", || queue.length() == 1);
    let noticed = |by| engine.metric("tidemill_objects_noticed_total", by);
    assert_eq!(noticed("by=\"listing\""), 1.0);
    assert_eq!(noticed("by=\"notification\""), 4.0);
    let told = |result| engine.metric("tidemill_notifications_total", result);
    assert_eq!(told("result=\"taken\""), 4.0);
    assert_eq!(told("result=\"elsewhere\""), 1.0);
    assert_eq!(told("result=\"strange\""), 1.0);
    let log = engine.stop();
    assert!(!log.contains("hunter2"), "{log}");
    let events = site.counters("all:");
    assert_eq!(events.len(), 5, "{events:?}");
    assert!(events.values().all(|count| *count == 1), "{events:?}");
}
