//! The table of keys holds together, and every range ends where it says.

use std::{fs, path::Path};

use tidemill_config::{
    FILE_LIMIT, Severity,
    keys::{KEYS, Key, Kind, Need, children},
    load, parse,
};

/// A file that holds this value at the key of the table, and what must be around it.
fn file_with(key: &Key, value: &str) -> String {
    let mut tables = vec![];
    let mut path = key.parent();
    while !path.is_empty() {
        tables.push(path);
        path = path.rsplit_once('.').map_or("", |(parent, _)| parent);
    }
    tables.reverse();
    // Folders take no options and send no notifications.
    let of_stores = ["buckets.*.options.", "triggers.*.bucket.notify."];
    let url = match of_stores.iter().any(|path| key.path.starts_with(path)) {
        true => "s3://b",
        false => "file:b",
    };
    let mut text = format!("[buckets.b]\nurl = \"{url}\"\n[functions.f]\ncomponent = \"f\"\n");
    text += "[connections.shop]\npostgres = \"postgres://h\"\n";
    text += "[connections.orders]\namqp = \"amqp://h\"\n[connections.telemetry]\nkafka = { brokers = [\"h:1\"] }\n";
    for table in tables.iter().skip(1) {
        if matches!(*table, "buckets.*" | "functions.*") {
            continue;
        }
        text += &format!("[{}]\n", name(table));
        for needed in children(table) {
            let deeper = key.path.starts_with(&format!("{}.", needed.path));
            if let Need::Required(_) = needed.need
                && needed.path != key.path
                && !deeper
            {
                text += &required(needed);
            }
        }
        let rivals: Vec<_> = children(table)
            .filter(|rival| matches!(rival.need, Need::OneOf(_)))
            .collect();
        let below = |rival: &Key| {
            key.path == rival.path || key.path.starts_with(&format!("{}.", rival.path))
        };
        if let Some(first) = rivals.first()
            && !rivals.iter().any(|rival| below(rival))
        {
            text += &match first.path {
                "triggers.*.bucket" => "bucket = { name = \"b\" }\n".into(),
                _ => format!("{}\n", first.example()),
            };
        }
    }
    let table = name(key.parent());
    let header = format!("[{table}]\n");
    let line = format!("{} = {value}\n", key.name());
    match text.find(&header) {
        Some(at) => text.insert_str(at + header.len(), &line),
        None => text += &format!("{header}{line}"),
    }
    text
}

fn name(path: &str) -> String {
    path.replace("buckets.*", "buckets.b")
        .replace("functions.*", "functions.f")
        .replace('*', "n")
}

fn required(key: &Key) -> String {
    match key.path {
        "triggers.*.function" => "function = \"f\"\n".into(),
        path if path.ends_with(".bucket.name") => "name = \"b\"\n".into(),
        _ => format!("{}\n", key.example()),
    }
}

fn problems(text: &str) -> Vec<String> {
    match parse(Path::new("t.toml"), text) {
        Ok(_) => Vec::new(),
        Err(invalid) => invalid
            .problems
            .into_iter()
            .filter(|problem| problem.severity == Severity::Error)
            .map(|problem| problem.to_string())
            .collect(),
    }
}

fn fits(key: &Key, value: &str) {
    let text = file_with(key, value);
    // The largest `first` is larger than the default of `max`, which has a rule of its own.
    let found: Vec<_> = problems(&text)
        .into_iter()
        .filter(|p| !p.contains("longer than"))
        .collect();
    assert!(
        found.is_empty(),
        "{} = {value}\n{text}\n{found:?}",
        key.path
    );
}

fn fails(key: &Key, value: &str) {
    let text = file_with(key, value);
    let found = problems(&text);
    assert_eq!(found.len(), 1, "{} = {value}\n{text}\n{found:?}", key.path);
    assert!(
        found[0].contains("out of range"),
        "{} = {value}: {}",
        key.path,
        found[0]
    );
}

#[test]
fn every_range_ends_where_it_says() {
    let nanos = |text: &str| humantime::parse_duration(text).unwrap().as_nanos();
    let bytes = |text: &str| text.parse::<bytesize::ByteSize>().unwrap().as_u64();
    let mut ranges = 0;
    for key in KEYS {
        match key.kind {
            Kind::Whole(least, most) => {
                fits(key, &least.to_string());
                fits(key, &most.to_string());
                fails(key, &(i128::from(least) - 1).to_string());
                fails(key, &(most + 1).to_string());
            }
            Kind::Duration(least, most) => {
                fits(key, &format!("\"{least}\""));
                fits(key, &format!("\"{most}\""));
                fails(key, &format!("\"{most} 1us\""));
                if nanos(least) > 0 {
                    fails(key, &format!("\"{}us\"", nanos(least) / 1000 - 1));
                }
            }
            Kind::Size(least, most) => {
                fits(key, &format!("\"{least}\""));
                fits(key, &format!("\"{most}\""));
                fails(key, &format!("\"{}B\"", bytes(most) + 1));
                if bytes(least) > 0 {
                    fails(key, &format!("\"{}B\"", bytes(least) - 1));
                }
            }
            _ => continue,
        }
        ranges += 1;
    }
    assert!(ranges > 15, "{ranges}");
}

#[test]
fn every_default_and_example_is_valid() {
    for key in KEYS {
        let references = ["connection", "bucket", "name", "function"];
        let named = references.contains(&key.name()) && key.path.starts_with("triggers");
        if matches!(key.need, Need::Default(_) | Need::Required(_))
            && key.path.matches('.').count() > 0
            && !named
            && ![
                "triggers.*.bucket.after.move",
                "triggers.*.bucket.after.move.prefix",
                "buckets.*.url",
                "functions.*.component",
            ]
            .contains(&key.path)
        {
            let value = key.default_toml().unwrap_or_else(|| key.example_value());
            fits(key, &value);
        }
    }
}

#[test]
fn the_table_holds_together() {
    for (n, key) in KEYS.iter().enumerate() {
        assert!(
            !KEYS[..n].iter().any(|other| other.path == key.path),
            "{} is there twice",
            key.path
        );
        assert!(key.meaning.ends_with('.'), "{}", key.path);
        let parent = KEYS[..n].iter().find(|parent| parent.path == key.parent());
        match parent.map(|parent| parent.kind) {
            None => assert!(key.parent().is_empty(), "{} has no table", key.path),
            Some(Kind::Named | Kind::Map | Kind::Headers) => {
                assert_eq!(key.name(), "*", "{}", key.path)
            }
            Some(Kind::Table | Kind::WordOrTable(_)) => assert_ne!(key.name(), "*", "{}", key.path),
            Some(kind) => panic!("{} is in no table but {kind:?}", key.path),
        }
    }
}

#[test]
fn names_have_64_bytes() {
    let text = |name: &str| format!("[functions.{name}]\ncomponent = \"f\"\n");
    assert!(problems(&text(&"a".repeat(64))).is_empty());
    assert!(problems(&text("\"a.B-9_z\"")).is_empty());
    assert_eq!(problems(&text(&"a".repeat(65))).len(), 1);
}

#[test]
fn files_that_cannot_be_read() {
    let folder = tempfile::tempdir().unwrap();
    let message = |file: &Path| {
        let problems = load(file).unwrap_err().problems;
        assert_eq!(problems.len(), 1);
        assert_eq!(problems[0].at.file, file);
        (
            problems[0].at.line,
            problems[0].at.column,
            problems[0].message.clone(),
        )
    };
    let file = folder.path().join("tidemill.toml");
    assert_eq!(message(&file), (0, 0, "there is no such file".into()));
    assert_eq!(
        message(folder.path()),
        (0, 0, "this is a folder, not a file".into())
    );
    fs::write(&file, b"# fine\n# caf\xe9\n").unwrap();
    assert_eq!(message(&file), (2, 6, "the file is not UTF-8".into()));
    fs::write(&file, " ".repeat(FILE_LIMIT as usize)).unwrap();
    assert!(load(&file).is_ok());
    fs::write(&file, " ".repeat(FILE_LIMIT as usize + 1)).unwrap();
    assert_eq!(
        message(&file),
        (0, 0, "the file is larger than 1 MiB".into())
    );
}

#[test]
fn a_large_broken_file_is_told_in_time() {
    let lines = |line: &str| line.repeat(FILE_LIMIT as usize / line.len());
    for line in [
        "a=1\n",
        "x\n",
        "[",
        "a=[\n",
        "[a]\nb={",
        "\"",
        "secret={\n",
        "é=\n",
    ] {
        let invalid = parse(Path::new("t.toml"), &lines(line)).unwrap_err();
        assert!(invalid.problems.len() <= 501, "{}", invalid.problems.len());
        assert!(!invalid.to_string().is_empty());
    }
    let unknown: String = (0..20_000).map(|n| format!("key{n} = 1\n")).collect();
    let invalid = parse(Path::new("t.toml"), &unknown).unwrap_err();
    assert_eq!(invalid.problems.len(), 501);
    assert_eq!(
        invalid.problems[500].message,
        "19500 more problems are not shown"
    );
}

#[test]
fn a_large_file_with_triggers_is_told_in_time() {
    let many = |line: &dyn Fn(usize) -> String| -> String { (0..3_000).map(line).collect() };
    let functions = "[connections]\nq.amqp = \"amqp://h\"\nk.kafka.brokers = [\"h:1\"]\n[functions.f]\ncomponent = \"f\"\nallow = { emit = [\"a\", \"b\"] }\n";
    let chain = |n: usize| {
        format!(
            "triggers.t{n} = {{ function = \"f\", event = {{ type = \"e{n}\" }}, on_success.event.type = \"e{}\" }}\n",
            n + 1
        )
    };
    let one_type =
        |n: usize| format!("triggers.t{n} = {{ function = \"f\", event = {{ type = \"a\" }} }}\n");
    let one_path = |n: usize| {
        format!(
            "triggers.t{n} = {{ function = \"f\", http = {{ path = \"/a\", mode = \"sync\" }} }}\n"
        )
    };
    let one_group = |n: usize| {
        format!(
            "triggers.t{n} = {{ function = \"f\", kafka = {{ connection = \"k\", topics = [\"a\", \"t{n}\"] }} }}\n"
        )
    };
    let one_queue = |n: usize| {
        format!(
            "triggers.t{n} = {{ function = \"f\", amqp = {{ connection = \"q\", queue = \"a\" }} }}\n"
        )
    };
    let topics = |n: usize| format!("\"t{n}\", ");
    let long = |name: &str| {
        let topics = many(&topics);
        format!(
            "triggers.{name} = {{ function = \"f\", kafka = {{ connection = \"k\", topics = [{topics}] }} }}\n"
        )
    };
    let zones = |n: usize| {
        format!(
            "triggers.t{n}.schedule = {{ cron = \"61 * * * *\", timezone = \"Nowhere/{n}\" }}\n"
        )
    };
    for (lines, problems) in [
        (many(&chain), 1),
        (many(&one_type), 1),
        (many(&one_path), 501),
        (many(&zones), 501),
        (many(&one_group), 501),
        (many(&one_queue), 1),
        (
            format!("{}{}{}", long("a"), long("b"), many(&one_group)),
            501,
        ),
    ] {
        // Dotted keys of the file itself come before its tables.
        let text = format!("{lines}{functions}");
        let found = match parse(Path::new("t.toml"), &text) {
            Ok(loaded) => loaded.warnings,
            Err(invalid) => invalid.problems,
        };
        assert_eq!(found.len(), problems, "{}", found[0]);
    }
}
