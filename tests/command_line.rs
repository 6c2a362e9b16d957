//! The command line beside a running engine and without one, and the end of an engine.

use std::{fs, process::Stdio};

use crate::harness::{Site, wait_until};

const CONFIG: &str = r#"
[buckets.in]
url = "file:buckets/in"
[buckets.out]
url = "file:buckets/out"
[functions.probe]
component = "PROBE"
env = { ORDER = '{ "do": "follow" }' }
allow = { read = ["in"], write = ["out"], store = ["probe"], emit = ["probe.made"] }
[triggers.arrived]
function = "probe"
bucket = { name = "in" }
retry = { attempts = 1 }
"#;

fn site() -> Site {
    let site = Site::new(CONFIG);
    site.bucket("in");
    site.bucket("out");
    site
}

fn ids(site: &Site) -> Vec<String> {
    let list = site.succeeds(&["dead-letters", "list", "--json"]);
    let lines = list
        .lines()
        .map(|line| serde_json::from_str::<serde_json::Value>(line).expect("JSON"));
    lines
        .map(|line| line["id"].as_str().expect("an id").to_owned())
        .collect()
}

#[test]
fn dead_letters_with_and_without_an_engine() {
    let site = site();
    let folder = site.path("buckets/in");
    let engine = site.start();
    for n in 0..3 {
        fs::write(
            folder.join(format!("{n}")),
            r#"{"do": "reject", "text": "no"}"#,
        )
        .expect("it is written");
    }
    wait_until("all are given up", || site.dead_letters() == 3);
    let first = ids(&site);
    let (code, error) = site.fails(&["dead-letters", "redrive"]);
    assert_eq!(code, 2, "{error}");
    assert_eq!(
        site.succeeds(&["dead-letters", "purge", "--yes", &first[0]]),
        "1 purged\n"
    );
    let (code, error) = site.fails(&["dead-letters", "show", &first[0]]);
    assert_eq!(code, 1);
    assert!(
        error.contains(&format!("there is no dead letter {}", first[0])),
        "{error}"
    );

    // A redrive of what is still broken dies again, under a new id.
    assert_eq!(
        site.succeeds(&["dead-letters", "redrive", "--all"]),
        "2 redriven\n"
    );
    wait_until("they are given up again", || ids(&site).len() == 2);
    engine.wait_idle();
    let second = ids(&site);
    assert!(
        second.iter().all(|id| !first.contains(id)),
        "{first:?} {second:?}"
    );
    engine.stop();

    // Without an engine the commands work on the journal itself.
    assert_eq!(ids(&site), second);
    let shown = site.succeeds(&["dead-letters", "show", "--json", &second[0]]);
    let shown: serde_json::Value = serde_json::from_str(&shown).expect("JSON");
    let key = shown["subject"].as_str().expect("a subject");
    fs::write(
        folder.join(key),
        r#"{"do": "kv-set", "key": "redriven", "text": "well"}"#,
    )
    .expect("it is written");
    assert_eq!(
        site.succeeds(&["dead-letters", "redrive", &second[0]]),
        "1 redriven\n"
    );
    assert_eq!(
        site.succeeds(&[
            "dead-letters",
            "purge",
            "--all",
            "--trigger",
            "arrived",
            "--yes"
        ]),
        "1 purged\n"
    );
    assert_eq!(ids(&site).len(), 0);
    let engine = site.start();
    engine.wait_idle();
    assert_eq!(site.key("probe", "redriven").as_deref(), Some("well"));
    engine.stop();
}

/// The subjects of those that a list in JSON shows.
fn subjects(list: &str) -> Vec<String> {
    let subject = |line: &str| {
        let line: serde_json::Value = serde_json::from_str(line).expect("JSON");
        line["subject"].as_str().expect("a subject").to_owned()
    };
    let mut subjects: Vec<String> = list.lines().map(subject).collect();
    subjects.sort();
    subjects
}

#[test]
fn dead_letters_are_chosen_by_what_they_are() {
    let site = Site::new(&format!(
        "{CONFIG}\n[triggers.made]\nfunction = \"probe\"\nevent = {{ type = \"probe.made\" }}\n\
         retry = {{ attempts = 1 }}\n"
    ));
    let folder = site.bucket("in");
    site.bucket("out");
    let engine = site.start();
    let orders = [
        ("a", r#"{"do": "reject", "text": "no funds"}"#),
        ("b", r#"{"do": "reject", "text": "no name"}"#),
        ("c", r#"{"do": "trap", "text": "no luck"}"#),
        (
            "d",
            r#"{"do": "emit", "type": "probe.made", "text": "{\"do\": \"reject\", \"text\": \"no\"}"}"#,
        ),
    ];
    for (key, order) in orders {
        fs::write(folder.join(key), order).expect("it is written");
    }
    wait_until("four are given up", || site.dead_letters() == 4);
    let list = |filter: &[&str]| {
        let list = ["dead-letters", "list", "--json"];
        let beside = site.succeeds(&[&list, filter].concat());
        let query = filter.chunks(2).map(|pair| {
            let value = pair[1].replace(' ', "%20");
            format!("{}={value}", pair[0].trim_start_matches("--"))
        });
        let query: Vec<String> = query.collect();
        // Instants are milliseconds there.
        if !query
            .iter()
            .any(|part| part.starts_with("since") || part.starts_with("until"))
        {
            let (status, page) = engine
                .get(&format!(
                    "/api/dead-letters?{}",
                    query.join("&").replace("&trigger=", ",")
                ))
                .expect("an answer");
            assert_eq!(status, 200, "{page}");
            let page: serde_json::Value = serde_json::from_str(&page).expect("JSON");
            let same = page["dead_letters"].as_array().expect("a page").len();
            assert_eq!(same, beside.lines().count(), "{filter:?}");
        }
        beside
    };
    assert_eq!(subjects(&list(&["--trigger", "arrived"])), ["a", "b", "c"]);
    assert_eq!(
        list(&["--trigger", "arrived", "--trigger", "made"])
            .lines()
            .count(),
        4
    );
    assert_eq!(subjects(&list(&["--cause", "attempts"])), ["c"]);
    assert_eq!(subjects(&list(&["--reason", "no n"])), ["b"]);
    assert_eq!(
        subjects(&list(&["--reason", "no ", "--cause", "rejected"])),
        ["a", "b"]
    );
    assert_eq!(list(&["--since", "1h"]).lines().count(), 4);
    assert_eq!(list(&["--until", "1h"]).lines().count(), 0);
    assert_eq!(
        list(&["--since", "2020-01-01T00:00:00Z", "--until", "0s"])
            .lines()
            .count(),
        4
    );

    // A dry run shows the same, and changes nothing.
    let dry = site.succeeds(&[
        "dead-letters",
        "redrive",
        "--cause",
        "rejected",
        "--trigger",
        "arrived",
        "--dry-run",
    ]);
    assert!(dry.ends_with("\n2 would be redriven\n"), "{dry}");
    assert!(dry.contains("no funds") && dry.contains("no name"), "{dry}");
    let dry = site.succeeds(&["dead-letters", "purge", "--all", "--dry-run", "--json"]);
    assert_eq!(dry.lines().count(), 4);
    assert_eq!(site.dead_letters(), 4);

    // A rate: the third begins two gaps after the first.
    let begun = std::time::Instant::now();
    let redriven = site.succeeds(&[
        "dead-letters",
        "redrive",
        "--trigger",
        "arrived",
        "--rate",
        "4/s",
        "--json",
    ]);
    assert!(begun.elapsed() >= std::time::Duration::from_millis(500));
    let redriven: Vec<serde_json::Value> = redriven
        .lines()
        .map(|line| serde_json::from_str(line).expect("JSON"))
        .collect();
    assert_eq!(redriven.len(), 3);
    wait_until("they are given up again", || {
        let now = ids(&site);
        redriven
            .iter()
            .all(|line| now.iter().any(|id| line["id"] == id.as_str()))
    });
    let purged = site.succeeds(&[
        "dead-letters",
        "purge",
        "--reason",
        "no funds",
        "--yes",
        "--json",
    ]);
    let purged: serde_json::Value = serde_json::from_str(&purged).expect("JSON");
    assert!(
        redriven.iter().any(|line| line["id"] == purged["id"]),
        "{purged}"
    );
    engine.stop();

    // Without an engine the filter is the same, and one that is gone is told of.
    assert_eq!(
        subjects(&site.succeeds(&["dead-letters", "list", "--json", "--trigger", "arrived"])),
        ["b", "c"]
    );
    let gone = purged["id"].as_str().expect("an id");
    let output = site.tidemill(&["dead-letters", "redrive", gone, "--json"]);
    assert_eq!(output.status.code(), Some(1));
    let told: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert_eq!(told["id"], gone);
    assert!(
        told["error"]
            .as_str()
            .expect("a text")
            .contains("there is no dead letter"),
        "{told}"
    );

    // A trigger of before is known by its dead letters.
    let config = fs::read_to_string(site.path("tidemill.toml")).expect("it is there");
    fs::write(
        site.path("tidemill.toml"),
        config.replace("triggers.made", "triggers.done"),
    )
    .expect("it is written");
    assert_eq!(
        site.succeeds(&["dead-letters", "list", "--json", "--trigger", "made"])
            .lines()
            .count(),
        1
    );
    assert_eq!(
        site.fails(&["dead-letters", "list", "--trigger", "arived"]),
        (
            2,
            "error: there is no trigger `arived` in tidemill.toml: did you mean `arrived`?\n"
                .to_owned()
        )
    );
}

#[test]
fn invoke_with_and_without_an_engine() {
    let site = site();
    let count = |value: &str| {
        let order = r#"{"do": "increment", "key": "calls"}"#;
        assert_eq!(
            site.succeeds(&["invoke", "probe", "--data", order]),
            format!("{value}\n")
        );
    };
    count("1");
    let engine = site.start();
    count("2");
    let (code, error) = site.fails(&[
        "invoke",
        "probe",
        "--data",
        r#"{"do": "trap", "text": "boom"}"#,
    ]);
    assert_eq!(code, 1);
    assert!(error.contains("boom"), "{error}");
    let (code, error) = site.fails(&["invoke", "prob"]);
    assert_eq!(
        (code, error.trim()),
        (
            2,
            "error: there is no function `prob` in tidemill.toml: did you mean `probe`?"
        )
    );
    engine.stop();
    count("3");
    // Each is in the account, the one that failed too, and what it took is told.
    let usage: Vec<serde_json::Value> = site
        .succeeds(&["usage", "--function", "probe", "--json"])
        .lines()
        .map(|line| serde_json::from_str(line).expect("JSON"))
        .collect();
    let invocations: u64 = usage
        .iter()
        .map(|line| line["invocations"].as_u64().expect("a count"))
        .sum();
    assert_eq!(invocations, 4, "{usage:?}");
    assert_eq!(
        site.succeeds(&["usage", "--until", "2020-01-01"]),
        "nothing has run in this time\n"
    );
    let told = site.succeeds(&["invoke", "probe", "--json", "--data", r#"{"do": "ok"}"#]);
    let told: serde_json::Value = serde_json::from_str(&told).expect("JSON");
    assert!(told["wall_us"].as_u64() > Some(0), "{told}");
    fs::write(
        site.path("event.json"),
        r#"{"specversion":"1.0","type":"t","source":"s","id":"1","data":{"do":"event"}}"#,
    )
    .expect("it is written");
    let told = site.succeeds(&["invoke", "probe", "--data", "@event.json"]);
    let told: serde_json::Value = serde_json::from_str(&told).expect("JSON");
    assert_eq!(
        (&told["type"], &told["source"], &told["id"]),
        (&"t".into(), &"s".into(), &"1".into())
    );
}

#[test]
fn functions_are_told_with_what_they_did_today() {
    let site = Site::new(&format!(
        "{CONFIG}\n[functions.absent]\ncomponent = \"absent.wasm\"\n\
         [functions.broken]\ncomponent = \"broken.wasm\"\nmemory = \"64MiB\"\n"
    ));
    site.bucket("in");
    site.bucket("out");
    fs::write(site.path("broken.wasm"), "\0asm").expect("it is written");
    // Without a journal: nothing has run ever.
    let list = || -> Vec<serde_json::Value> {
        let list = site.succeeds(&["functions", "list", "--json"]);
        let lines = list.lines();
        lines
            .map(|line| serde_json::from_str(line).expect("JSON"))
            .collect()
    };
    let before = list();
    let names: Vec<_> = before.iter().map(|view| &view["function"]).collect();
    assert_eq!(names, ["absent", "broken", "probe"]);
    let probe = &before[2];
    assert_eq!(probe["today"], serde_json::Value::Null);
    let bytes = fs::read(crate::harness::component("probe")).expect("it is there");
    let digest: String = {
        use sha2::{Digest, Sha256};
        let digest = Sha256::digest(bytes);
        digest.iter().map(|byte| format!("{byte:02x}")).collect()
    };
    assert_eq!(probe["digest"], digest.as_str());
    let exports = probe["exports"].to_string();
    assert!(exports.contains("tidemill:function/handler@"), "{exports}");
    assert_eq!(
        probe["triggers"],
        serde_json::json!([{ "trigger": "arrived", "source": "bucket" }])
    );
    assert_eq!(
        (&before[1]["memory"], &before[0]["digest"]),
        (&(64 << 20).into(), &serde_json::Value::Null)
    );

    let good = fs::read_to_string(site.path("tidemill.toml")).expect("it is there");
    let known = good
        .split("\n[functions.absent]")
        .next()
        .expect("the begin");
    fs::write(site.path("known.toml"), known).expect("it is written");
    let order = r#"{"do": "ok"}"#;
    site.succeeds(&["invoke", "probe", "--config", "known.toml", "--data", order]);
    // Midnight may have passed since.
    if let Some(today) = list()[2]["today"].as_object() {
        assert_eq!(today["invocations"], 1);
    }
    let text = site.succeeds(&["functions", "list", "broken"]);
    assert_eq!(
        site.anonymous(&text),
        "broken
  component  SITE/broken.wasm
  digest     cd5d4935a48c0672cb06407bb443bc0087aff947c6b864bac886982c73b3027f
  problem    it is no WebAssembly component: build it with `tidemill build`
  limits     64 MiB of memory, 30s for an attempt, 64 at a time
  triggers   none: only `tidemill invoke` runs it
  today      nothing ran
"
    );
    let text = site.succeeds(&["functions", "list", "absent"]);
    assert!(
        text.contains("problem    it is not there: build it"),
        "{text}"
    );
    let (code, error) = site.fails(&["functions", "list", "brokn"]);
    assert!(
        code == 2 && error.contains("did you mean `broken`?"),
        "{error}"
    );
}

#[test]
fn keys_are_listed_page_by_page() {
    let site = site();
    let many = r#"{"do": "kv-many", "key": "k", "count": 2500}"#;
    site.succeeds(&["invoke", "probe", "--data", many]);
    let told = site.succeeds(&["invoke", "probe", "--data", r#"{"do": "kv-keys"}"#]);
    let keys: Vec<String> = serde_json::from_str(&told).expect("JSON");
    // All but the first, which was deleted again in the same attempt.
    let mut expected: Vec<String> = (1..2500).map(|n| format!("k{n}")).collect();
    expected.sort();
    assert_eq!(keys, expected);
}

#[test]
fn bash_takes_the_completions() {
    let site = site();
    let script = site.succeeds(&["completions", "bash"]);
    fs::write(site.path("completions"), script).expect("it is written");
    // What a person gets who types `tidemill dead-letters re` and presses the key.
    let typed = "source completions; COMP_WORDS=(tidemill dead-letters re); COMP_CWORD=2; \
        _tidemill tidemill re dead-letters; echo ${COMPREPLY[@]}";
    let output = std::process::Command::new("bash")
        .args(["-c", typed])
        .current_dir(site.path(""))
        .output()
        .expect("there is bash");
    assert_eq!(String::from_utf8_lossy(&output.stdout), "redrive\n");
}

#[test]
fn nobody_need_read_to_the_end() {
    let site = site();
    let mut list = crate::harness::tidemill(&site.path(""));
    list.args(["completions", "zsh"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut child = list.spawn().expect("the binary runs");
    // Whoever reads is gone before anything is written, or goes in the middle.
    drop(child.stdout.take());
    let output = child.wait_with_output().expect("it has ended");
    assert!(output.status.success(), "{output:?}");
    assert_eq!(String::from_utf8_lossy(&output.stderr), "");
}

#[test]
fn check_tells_what_there_is() {
    let site = site();
    let told = site.succeeds(&["check"]);
    assert_eq!(
        told.trim(),
        "tidemill.toml: fine: 1 trigger, 1 function, 2 buckets"
    );
}

#[test]
fn check_tells_programs_the_same() {
    let site = site();
    let told = site.succeeds(&["check", "--json"]);
    let told: serde_json::Value = serde_json::from_str(&told).expect("JSON");
    let nothing = serde_json::json!([]);
    assert_eq!(
        told,
        serde_json::json!({ "fine": true, "problems": nothing, "notes": nothing, "findings": nothing })
    );
    fs::write(site.path("wrong.toml"), "[engine]\ndrian = \"1s\"\n").expect("it is written");
    let output = site.tidemill(&["check", "--json", "wrong.toml"]);
    assert_eq!(output.status.code(), Some(2));
    let told: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert_eq!(told["fine"], false);
    let problem = &told["problems"][0];
    assert_eq!(problem["severity"], "error");
    assert_eq!(
        (&problem["line"], &problem["column"]),
        (&2.into(), &1.into())
    );
    assert_eq!(problem["help"], "did you mean `drain`?");
}

#[test]
fn sigterm_lets_running_attempts_finish() {
    let site = site();
    let engine = site.start();
    let order = r#"{"do": "sleep", "ms": 1500}"#;
    fs::write(site.path("buckets/in/slow"), order).expect("it is written");
    wait_until("it runs", || {
        engine.metric("tidemill_attempts_running", "") == 1.0
    });
    let log = engine.stop();
    assert!(log.contains("nothing was running any more"), "{log}");
    let pending: i64 = site
        .journal()
        .query_row("SELECT count(*) FROM deliveries", [], |row| row.get(0))
        .expect("a count");
    assert_eq!(pending, 0, "it was completed");
}

#[test]
fn a_drain_that_takes_too_long_is_cut_off_and_goes_on_at_the_next_start() {
    let site = Site::new(&format!(
        "[engine]\nadmin = \"127.0.0.1:0\"\ndrain = \"100ms\"\n{CONFIG}"
    ));
    let folder = site.bucket("in");
    site.bucket("out");
    let engine = site.start();
    fs::write(folder.join("slow"), r#"{"do": "sleep", "ms": 20000}"#).expect("it is written");
    wait_until("it runs", || {
        engine.metric("tidemill_attempts_running", "") == 1.0
    });
    let log = engine.stop();
    assert!(log.contains("were cut off and run again"), "{log}");
    fs::write(folder.join("slow"), r#"{"do": "ok"}"#).expect("it is written");
    let engine = site.start();
    engine.wait_idle();
    assert_eq!(site.dead_letters(), 0, "a cut is not a failure");
    engine.stop();
}

#[test]
fn a_token_guards_the_admin_address() {
    let site = Site::new(&format!(
        "[engine]\nadmin = \"127.0.0.1:0\"\nadmin_token = \"${{env:TIDEMILL_TEST_TOKEN}}\"\n{CONFIG}"
    ));
    site.bucket("in");
    site.bucket("out");
    let engine = site.spawn(&[("TIDEMILL_TEST_TOKEN", "open sesame")]);
    engine.wait_ready();
    assert!(matches!(engine.get("/metrics"), Some((401, _))));
    let (_, error) = site.fails(&["invoke", "probe", "--data", "{}"]);
    assert!(error.contains("TIDEMILL_TEST_TOKEN is not set"), "{error}");
    let address = engine.admin().expect("an address");
    let get = |token: &str, origin: Option<&str>| {
        let config = ureq::Agent::config_builder()
            .http_status_as_error(false)
            .build();
        let agent = ureq::Agent::new_with_config(config);
        let mut request = agent.get(format!("http://{address}/metrics"));
        request = request.header("authorization", format!("Bearer {token}"));
        if let Some(origin) = origin {
            request = request.header("origin", origin);
        }
        request.call().expect("an answer").status().as_u16()
    };
    assert_eq!(get("open", None), 401);
    assert_eq!(get("open sesame", None), 200);
    assert_eq!(get("open sesame", Some(&format!("http://{address}"))), 200);
    // A page from elsewhere that the browser lets reach a loopback address.
    assert_eq!(get("open sesame", Some("http://evil.example")), 403);
    engine.stop();
}
