//! The examples, and the plans that they give.

use std::{fs, path::Path};

use tidemill_config::{
    Loaded, load,
    plan::{Allow, DestinationPlan, Order, Provider, SourcePlan, Store},
};

const QUICKSTART: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/examples/quickstart.toml");

#[test]
fn the_quickstart() {
    let Loaded { plan, warnings } = load(Path::new(QUICKSTART)).unwrap();
    assert!(
        warnings.is_empty() && plan.not_built.is_empty(),
        "{warnings:?}"
    );
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    assert_eq!(plan.file, Path::new(QUICKSTART));
    assert_eq!(plan.engine.data, root.join("data"));
    let store = |name: &str| plan.buckets[name].store.clone();
    assert_eq!(
        store("uploads"),
        Store::File {
            root: root.join("buckets/uploads")
        }
    );
    assert_eq!(
        store("thumbnails"),
        Store::File {
            root: root.join("buckets/thumbnails")
        }
    );
    let function = &plan.functions["thumbnail"];
    assert_eq!(
        function.component,
        root.join("functions/build/thumbnail.wasm")
    );
    assert_eq!(function.env["WIDTHS"].resolve().unwrap().expose(), "64,256");
    assert_eq!(
        function.allow,
        Allow {
            read: vec!["uploads".into()],
            write: vec!["thumbnails".into()],
            http: vec![],
            store: vec!["thumbnails".into()],
            emit: vec!["thumbnail.made".into()],
        }
    );
    let trigger = &plan.triggers["resize"];
    assert_eq!(
        (trigger.name.as_str(), trigger.function.as_str()),
        ("resize", "thumbnail")
    );
    let SourcePlan::Bucket(source) = &trigger.source else {
        panic!("{trigger:?}")
    };
    assert_eq!(source.bucket, "uploads");
    assert_eq!(source.suffix, [".jpg", ".jpeg", ".png"]);
}

/// What the examples show is there: a source of their kind, a batch, an order, and both destinations.
#[test]
fn the_examples_of_brokers() {
    let of = |name: &str, trigger: &str| {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples");
        let Loaded { plan, warnings } =
            load(&folder.join(name)).unwrap_or_else(|invalid| panic!("{invalid}"));
        assert!(
            warnings.is_empty() && plan.not_built.is_empty(),
            "{warnings:?}"
        );
        plan.triggers[trigger].as_ref().clone()
    };
    let billing = of("orders-amqp.toml", "billing");
    assert!(matches!(&billing.source, SourcePlan::Amqp(source) if source.queue == "orders"));
    assert_eq!(billing.order, Order::By("$.customer".parse().unwrap()));
    assert!(matches!(billing.on_success, Some(DestinationPlan::Amqp(_))));
    assert!(matches!(
        billing.dead_letter,
        Some(DestinationPlan::Amqp(_))
    ));
    let readings = of("readings-kafka.toml", "readings");
    assert!(matches!(&readings.source, SourcePlan::Kafka(source) if source.topics == ["readings"]));
    assert_eq!(readings.order, Order::By("$.sensor".parse().unwrap()));
    assert_eq!(readings.batch.unwrap().max, 500);
    assert!(matches!(
        readings.on_success,
        Some(DestinationPlan::Kafka(_))
    ));
    assert!(matches!(
        readings.dead_letter,
        Some(DestinationPlan::Kafka(_))
    ));
}

#[test]
fn the_example_of_object_stores() {
    let example = concat!(env!("CARGO_MANIFEST_DIR"), "/examples/photos-s3.toml");
    let Loaded { plan, warnings } = load(Path::new(example)).unwrap();
    assert!(
        warnings.is_empty() && plan.not_built.is_empty(),
        "{warnings:?}"
    );
    for name in ["uploads", "thumbnails"] {
        let expected = Store::Remote {
            provider: Provider::S3,
            bucket: "my-photos".into(),
            prefix: name.into(),
        };
        assert_eq!(plan.buckets[name].store, expected);
    }
}

/// The example of everything leaves out no key that the engine has.
#[test]
fn the_example_of_everything() {
    fn collect(value: &toml::Value, path: &str, found: &mut Vec<String>) {
        found.push(path.to_owned());
        if let toml::Value::Table(table) = value {
            for (name, value) in table {
                let path = [path, name].join(if path.is_empty() { "" } else { "." });
                collect(value, &path, found);
            }
        }
    }
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/examples/everything.toml");
    let Loaded { plan, warnings } = load(Path::new(file)).unwrap();
    assert!(
        warnings.is_empty() && plan.not_built.is_empty(),
        "{warnings:?}"
    );
    let mut found = Vec::new();
    let text = fs::read_to_string(file).unwrap();
    collect(&text.parse::<toml::Table>().unwrap().into(), "", &mut found);
    let is_there = |key: &str| {
        let parts: Vec<&str> = key.split('.').collect();
        found.iter().any(|path| {
            let path: Vec<&str> = path.splitn(parts.len(), '.').collect();
            let pairs = path.iter().zip(&parts);
            path.len() == parts.len() && pairs.into_iter().all(|(is, key)| *key == "*" || is == key)
        })
    };
    let built = tidemill_config::keys::KEYS.iter().filter(|key| key.built);
    // A part of what is not built is not built either.
    let absent: Vec<&str> = built
        .map(|key| key.path)
        .filter(|path| !path.starts_with("triggers.*.postgres") && !is_there(path))
        .collect();
    assert_eq!(absent, [""; 0]);
}
