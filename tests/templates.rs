//! `tidemill new` and `build`: from nothing to a function that runs.

use std::fs;

use crate::harness::{Client, Site, root, tidemill};

/// Makes a function, builds it, invokes it, and has it answer a request.
fn from_nothing(lang: &str) {
    let site = Site::new("");
    site.succeeds(&["new", "greet", "--lang", lang]);
    let project = site.path("greet");
    // Whatever was compiled for one run of this test is there for the next.
    let target = root().join("target/templates");
    let run = |args: &[&str]| {
        let mut command = tidemill(&project);
        let output = command.args(args).env("CARGO_TARGET_DIR", &target).output();
        let output = output.expect("the binary runs");
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let (out, err) = (text(&output.stdout), text(&output.stderr));
        assert!(output.status.success(), "{args:?}: {out}{err}");
        out
    };
    let built = run(&["build"]);
    assert!(built.starts_with("./greet.wasm, "), "{built}");
    assert_eq!(
        run(&["invoke", "greet", "--data", "@event.json"]),
        "Hello, mill! (1)\n\n"
    );

    // Its configuration as it is, but for the addresses.
    let config = fs::read_to_string(project.join("tidemill.toml")).expect("it is there");
    let config = config.replace("greet.wasm", "greet/greet.wasm");
    site.configure(&config);
    let engine = site.start();
    let client = Client::new(&engine.http().expect("an address"));
    let greeted = client.post("/greet", &[], r#"{"name": "tide"}"#);
    assert_eq!(
        (greeted.status, &*greeted.body),
        (200, "Hello, tide! (1)\n")
    );
    assert_eq!(client.post("/greet", &[], "{}").status, 400);
    engine.stop();
}

#[test]
fn in_rust() {
    from_nothing("rust");
}

#[test]
fn in_javascript() {
    from_nothing("js");
}

#[test]
fn what_is_there_already_stays() {
    let site = Site::new("");
    fs::create_dir(site.path("greet")).expect("it is made");
    let (code, error) = site.fails(&["new", "greet", "--lang", "js"]);
    assert_eq!(code, 1);
    insta::assert_snapshot!(error);
    let (code, error) = site.fails(&["new", "../greet", "--lang", "js"]);
    assert_eq!(code, 2);
    insta::assert_snapshot!(error);
    let (code, error) = site.fails(&["build", "greet"]);
    assert_eq!(code, 2);
    insta::assert_snapshot!(error);
}
