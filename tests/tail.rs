//! `tidemill events tail`: what it shows, how it ends, and that the engine never waits for it.

use std::{
    collections::BTreeMap,
    fs,
    io::{BufRead, BufReader, Read, Write},
    net::TcpStream,
    process::{Child, ChildStderr, ChildStdout, Stdio},
    sync::mpsc,
};

use serde_json::Value;

use crate::harness::{Client, PATIENCE, Site, tidemill, wait_until};

const CONFIG: &str = r#"
[buckets.in]
url = "file:buckets/in"
[functions.probe]
component = "PROBE"
env = { ORDER = '{ "do": "follow" }' }
allow = { read = ["in"], emit = ["probe.made"] }
[functions.listen]
component = "PROBE"
env = { ORDER = '{ "do": "ok" }' }
[triggers.arrived]
function = "probe"
bucket = { name = "in" }
retry = { attempts = 2, first = "1ms" }
[triggers.made]
function = "listen"
event = { type = "probe.made" }
"#;

/// A command that follows the engine. Killed when dropped, or when it takes too long.
struct Tail {
    child: Child,
    _alive: mpsc::Sender<()>,
    out: BufReader<ChildStdout>,
    err: BufReader<ChildStderr>,
}

impl Tail {
    /// Starts it, and waits until it follows.
    fn start(site: &Site, args: &[&str]) -> Tail {
        Tail::start_with(site, args, &[])
    }

    /// The same with these environment variables.
    fn start_with(site: &Site, args: &[&str], env: &[(&str, &str)]) -> Tail {
        let mut command = tidemill(&site.path(""));
        command.args(["events", "tail"]).args(args);
        command.envs(env.iter().copied());
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().expect("the binary runs");
        let out = BufReader::new(child.stdout.take().expect("it is piped"));
        let err = BufReader::new(child.stderr.take().expect("it is piped"));
        let (alive, ends) = mpsc::channel();
        let pid = child.id().cast_signed();
        std::thread::spawn(move || {
            if ends.recv_timeout(PATIENCE) == Err(mpsc::RecvTimeoutError::Timeout) {
                // SAFETY: kill has no memory effects; the child is ours and not waited for yet.
                unsafe { libc::kill(pid, libc::SIGKILL) };
            }
        });
        let mut tail = Tail {
            child,
            _alive: alive,
            out,
            err,
        };
        let mut line = String::new();
        tail.err.read_line(&mut line).expect("it is read");
        assert!(line.starts_with("following the engine at "), "{line}");
        tail
    }

    fn line(&mut self) -> String {
        let mut line = String::new();
        self.out.read_line(&mut line).expect("it is read");
        line
    }

    fn interrupt(&self) {
        // SAFETY: kill has no memory effects; the child is ours and not waited for yet.
        unsafe { libc::kill(self.child.id().cast_signed(), libc::SIGINT) };
    }

    /// How it ends, and what it says last.
    fn end(mut self) -> (Option<i32>, String, String) {
        let (mut out, mut err) = (String::new(), String::new());
        self.out.read_to_string(&mut out).expect("it is read");
        self.err.read_to_string(&mut err).expect("it is read");
        let status = self.child.wait().expect("it has ended");
        (status.code(), out, err)
    }
}

impl Drop for Tail {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

fn drop_file(site: &Site, key: &str, order: &str) {
    fs::write(site.path("buckets/in").join(key), order).expect("it is written");
}

/// The lines as objects.
fn objects(text: &str) -> Vec<Value> {
    let lines = text.lines();
    lines
        .map(|line| serde_json::from_str(line).expect("JSON"))
        .collect()
}

#[test]
fn attempts_are_told_as_they_end() {
    let site = Site::new(CONFIG);
    site.bucket("in");
    let (code, error) = site.fails(&["events", "tail"]);
    assert_eq!(code, 1);
    assert_eq!(
        site.anonymous(&error),
        "error: no engine runs on SITE/data: start it with `tidemill run tidemill.toml`\n"
    );
    let engine = site.start();
    let mut all = Tail::start(&site, &["--json"]);
    let dead = Tail::start(&site, &["--outcome", "dead"]);
    let made = Tail::start(
        &site,
        &["--function", "listen", "--type", "probe.made", "--json"],
    );
    let other = Tail::start(&site, &["--source", "bucket:other"]);

    drop_file(&site, "bad", r#"{"do": "trap", "text": "boom"}"#);
    let lines: Vec<Value> = (0..3).map(|_| objects(&all.line()).remove(0)).collect();
    let told = |line: &Value| (line["outcome"].clone(), line["attempt"].clone());
    assert_eq!(told(&lines[0]), ("trap".into(), 1.into()));
    assert_eq!(told(&lines[1]), ("trap".into(), 2.into()));
    assert_eq!(told(&lines[2]), ("dead".into(), 2.into()));
    for line in &lines {
        assert_eq!(line["trigger"], "arrived");
        assert_eq!(line["function"], "probe");
        assert_eq!(
            (&line["source"], &line["type"]),
            (&"bucket:in".into(), &"object.created".into())
        );
        assert_eq!(line["subject"], "bad");
        assert!(
            line["reason"].as_str().expect("a reason").contains("boom"),
            "{line}"
        );
    }
    assert!(lines[0]["ms"].as_f64() > Some(0.0) && lines[2]["ms"].is_null());
    let dead_letter: Value =
        serde_json::from_str(&site.succeeds(&["dead-letters", "list", "--json"])).expect("JSON");
    assert_eq!(lines[2]["delivery"], dead_letter["id"]);

    drop_file(&site, "good", r#"{"do": "emit", "type": "probe.made"}"#);
    let mut outcomes = BTreeMap::new();
    for _ in 0..2 {
        let line = objects(&all.line()).remove(0);
        outcomes.insert(line["trigger"].to_string(), line["outcome"].clone());
    }
    assert_eq!(
        outcomes,
        BTreeMap::from([
            (r#""arrived""#.to_owned(), "ok".into()),
            (r#""made""#.to_owned(), "ok".into())
        ])
    );

    // Ctrl-C is an end like another.
    all.interrupt();
    assert_eq!(all.end().0, Some(0));
    engine.stop();
    let (code, out, err) = dead.end();
    assert_eq!((code, err.as_str()), (Some(0), "the engine has stopped\n"));
    assert_eq!(out.lines().count(), 1, "{out}");
    assert!(
        out.contains("  arrived  ") && out.contains("  object.created bad  #2  dead  attempts: "),
        "{out}"
    );
    let (code, out, _) = made.end();
    let out = objects(&out);
    assert_eq!((code, out.len()), (Some(0), 1));
    assert_eq!(out[0]["source"], "function:probe");
    assert_eq!(
        other.end(),
        (
            Some(0),
            String::new(),
            "the engine has stopped\n".to_owned()
        )
    );
}

#[test]
fn the_token_is_asked_for() {
    let engine =
        "[engine]\nadmin = \"127.0.0.1:0\"\nadmin_token = \"${env:TIDEMILL_TEST_TOKEN}\"\n";
    let site = Site::new(&format!("{engine}{CONFIG}"));
    site.bucket("in");
    let token = [("TIDEMILL_TEST_TOKEN", "open sesame")];
    let engine = site.spawn(&token);
    engine.wait_ready();
    assert!(matches!(engine.get("/api/events/tail"), Some((401, _))));
    let mut tail = Tail::start_with(&site, &["--json"], &token);
    drop_file(&site, "good", r#"{"do": "ok"}"#);
    assert_eq!(objects(&tail.line())[0]["subject"], "good");
    engine.stop();
    assert_eq!(tail.end().0, Some(0));
}

#[test]
fn so_many_may_follow_and_who_goes_makes_room() {
    const TAILS: usize = 16;
    let site = Site::new(CONFIG);
    site.bucket("in");
    let engine = site.start();
    let address = engine.admin().expect("it listens");
    let follow = || {
        let mut stream = TcpStream::connect(&address).expect("it listens");
        let request = format!("GET /api/events/tail HTTP/1.1\r\nHost: {address}\r\n\r\n");
        stream.write_all(request.as_bytes()).expect("it is sent");
        let mut stream = BufReader::new(stream);
        let mut status = String::new();
        stream.read_line(&mut status).expect("it answers");
        (status.contains(" 200 "), stream)
    };
    let mut all: Vec<_> = (0..TAILS).map(|_| follow()).collect();
    assert!(all.iter().all(|(taken, _)| *taken));
    assert!(!follow().0, "one too many");
    let (code, error) = site.fails(&["events", "tail"]);
    assert!(
        code == 1 && error.contains("end another `tidemill events tail`"),
        "{error}"
    );
    drop(all.pop());
    wait_until("there is room again", || follow().0);
    // Those who never read end with the engine all the same.
    engine.stop();
}

#[test]
fn an_engine_that_is_killed_is_told_of() {
    let site = Site::new(CONFIG);
    site.bucket("in");
    let engine = site.start();
    let tail = Tail::start(&site, &[]);
    engine.kill();
    let (code, _, err) = tail.end();
    assert_eq!(code, Some(1));
    assert!(err.contains("the engine is gone without a word"), "{err}");
}

/// More than all buffers between hold, while nobody reads.
#[test]
fn a_slow_reader_holds_nobody_up_and_is_told_what_it_missed() {
    const EVENTS: u64 = 200;
    const ATTEMPTS: u64 = 30;
    let site = Site::new(&format!(
        r#"
        [functions.probe]
        component = "PROBE"
        [triggers.hook]
        function = "probe"
        http = {{ path = "/hook", mode = "async" }}
        retry = {{ attempts = {ATTEMPTS}, first = "1ms", max = "1ms" }}
        "#
    ));
    let engine = site.start();
    let mut tail = Tail::start(&site, &["--json"]);
    let client = Client::new(&engine.http().expect("it listens"));
    let order = format!(r#"{{"do": "retry", "text": "{}"}}"#, "x".repeat(4000));
    for _ in 0..EVENTS {
        assert_eq!(client.post("/hook", &[], &order).status, 202);
    }
    wait_until("all are given up", || {
        engine.metric("tidemill_deliveries_dead_total", "") == EVENTS as f64
    });
    // The engine is done; what waits for the reader is still to be had, and the rest is counted.
    let (mut shown, mut left_out) = (0, 0);
    while shown + left_out < EVENTS * (ATTEMPTS + 1) {
        let line = &objects(&tail.line())[0];
        match line["left_out"].as_u64() {
            Some(count) => left_out += count,
            None => shown += 1,
        }
    }
    println!("{shown} shown, {left_out} left out");
    assert!(left_out > 0, "the buffers held it all: let it be more");
    assert_eq!(shown + left_out, EVENTS * (ATTEMPTS + 1));
    engine.stop();
    assert_eq!(tail.end().0, Some(0));
}
