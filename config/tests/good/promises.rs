//! What any trigger may say about its deliveries.

use std::time::Duration;

use tidemill_config::{
    Loaded,
    plan::{DestinationPlan, Order, SourcePlan, Unmatched},
};
use tidemill_core::filter::{Comparison, Pattern, Scalar};

use crate::{loaded, trigger};

#[test]
fn filters() {
    let plan = loaded(
        r#"
        functions.f.component = "f"
        [triggers.t]
        function = "f"
        http = { path = "/x" }
        unmatched = "dead-letter"
        [triggers.t.filter]
        type = ["push", { prefix = "pull" }, { suffix = ".x" }]
        source = [{ wildcard = "http:/*" }]
        subject = [{ ignore-case = "ABC" }]
        id = [{ exists = true }]
        datacontenttype = [{ anything-but = ["a", { prefix = "b" }] }, { anything-but = "c" }]
        headers = { X-Kind = ["a"] }
        data = { n = [5, 1_000.5, true, { numeric = [">", 0, "<=", 5] }, { numeric = ["=", -1] }], a.b."c.d" = [{ exists = false }], numeric = ["a"], prefix = [{ prefix = "b" }] }
        or = [{ subject = ["a"] }, { data = { x = ["b"] }, or = [{ id = ["c"] }] }]
        "#,
    )
    .plan;
    let t = trigger(&plan, "t");
    assert_eq!(t.unmatched, Unmatched::DeadLetter);
    let filter = t.filter.as_ref().unwrap();
    let text = |text: &str| Pattern::Equals(Scalar::String(text.into()));
    let number = |number| Pattern::Equals(Scalar::Number(number));
    let of = |place: &str| {
        let found = filter
            .conditions
            .iter()
            .find(|one| one.place.to_string() == place);
        found
            .unwrap_or_else(|| panic!("{place} in {filter:?}"))
            .patterns
            .clone()
    };
    assert_eq!(
        of("attr:type"),
        [
            text("push"),
            Pattern::Prefix("pull".into()),
            Pattern::Suffix(".x".into())
        ]
    );
    assert_eq!(of("attr:source"), [Pattern::Wildcard("http:/*".into())]);
    assert_eq!(of("attr:subject"), [Pattern::IgnoreCase("ABC".into())]);
    assert_eq!(of("attr:id"), [Pattern::Exists(true)]);
    let but = [
        Pattern::AnythingBut(vec![text("a"), Pattern::Prefix("b".into())]),
        Pattern::AnythingBut(vec![text("c")]),
    ];
    assert_eq!(of("attr:datacontenttype"), but);
    assert_eq!(of("header:x-kind"), [text("a")]);
    let numbers = [
        number(5.0),
        number(1000.5),
        Pattern::Equals(Scalar::Flag(true)),
        Pattern::Numeric(vec![
            (Comparison::Greater, 0.0),
            (Comparison::LessOrEqual, 5.0),
        ]),
        Pattern::Numeric(vec![(Comparison::Equal, -1.0)]),
    ];
    assert_eq!(of("$.n"), numbers);
    assert_eq!(of("$.a.b[\"c.d\"]"), [Pattern::Exists(false)]);
    assert_eq!(
        (of("$.numeric"), of("$.prefix")),
        (vec![text("a")], vec![Pattern::Prefix("b".into())])
    );
    assert_eq!(filter.conditions.len(), 10);
    let [first, second] = &filter.alternatives[..] else {
        panic!("{filter:?}")
    };
    assert_eq!((first.conditions.len(), first.alternatives.len()), (1, 0));
    assert_eq!((second.conditions.len(), second.alternatives.len()), (1, 1));
}

#[test]
fn the_delivery_promise() {
    let Loaded { plan, warnings } = loaded(
        r#"
        buckets.results.url = "file:results"
        [functions.f]
        component = "f"
        allow = { emit = ["made"] }
        [functions.g]
        component = "g"
        [triggers.plain]
        function = "f"
        http = { path = "/plain" }
        [triggers.one]
        function = "g"
        event = { type = "made" }
        idempotency = { key = "$.order[0].id", window = "30d" }
        order_by = "header:Customer"
        rate = "50/m"
        on_success = { bucket = { name = "results" } }
        dead_letter = { event = { type = "failed" } }
        [triggers.two]
        function = "g"
        event = { type = "failed" }
        idempotency = { key = "attr:subject" }
        on_success = { http = { url = "https://${env:HOST}/done", headers = { X-Key = "${env:KEY}" }, timeout = "5s" } }
        dead_letter = { http = { url = "${env:URL}" } }
        [triggers.stored]
        function = "g"
        bucket = { name = "results", prefix = "in/", suffix = [".json"] }
        on_success = { bucket = { name = "results", key = "in/{id}" } }
        dead_letter = { bucket = { name = "results", key = "dead/{date}/{type}/{subject}.json" } }
        "#,
    );
    assert!(
        warnings.is_empty() && plan.not_built.is_empty(),
        "{warnings:?}"
    );
    let plain = trigger(&plan, "plain");
    assert_eq!(plain.unmatched, Unmatched::Settle);
    assert!(plain.filter.is_none() && plain.idempotency.is_none() && plain.order == Order::None);
    assert!(plain.rate.is_none() && plain.on_success.is_none() && plain.dead_letter.is_none());
    let one = trigger(&plan, "one");
    assert!(matches!(&one.source, SourcePlan::Event(event) if event.kind == "made"));
    let idempotency = one.idempotency.as_ref().unwrap();
    assert_eq!(idempotency.key.to_string(), "$.order[0].id");
    assert_eq!(idempotency.window, Duration::from_secs(30 * 86_400));
    assert_eq!(one.order, Order::By("header:customer".parse().unwrap()));
    let rate = one.rate.unwrap();
    assert_eq!((rate.count, rate.per), (50, Duration::from_secs(60)));
    let Some(DestinationPlan::Bucket { bucket, key }) = &one.on_success else {
        panic!("{one:?}")
    };
    assert_eq!(
        (bucket.as_str(), key.as_str()),
        ("results", "{trigger}/{id}")
    );
    assert!(matches!(&one.dead_letter, Some(DestinationPlan::Event { kind }) if kind == "failed"));
    let two = trigger(&plan, "two");
    let window = two.idempotency.as_ref().unwrap().window;
    assert_eq!(window, Duration::from_secs(86_400));
    let Some(DestinationPlan::Http(done)) = &two.on_success else {
        panic!("{two:?}")
    };
    assert_eq!(format!("{:?}", done.headers["X-Key"]), "${env:KEY}");
    assert_eq!(done.timeout, Duration::from_secs(5));
    let Some(DestinationPlan::Http(dead)) = &two.dead_letter else {
        panic!("{two:?}")
    };
    assert_eq!(
        (dead.headers.len(), dead.timeout),
        (0, Duration::from_secs(30))
    );
}
