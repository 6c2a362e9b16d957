//! Object stores: how one is reached, and that nothing but URLs tells it from a folder.

use std::fs;

use crate::harness::{Engine, S3, Server, Site, photo, root, wait_for, wait_until};

mod moto {
    #[test]
    fn the_quickstart_runs_when_only_its_urls_are_others() {
        super::the_quickstart_runs_when_only_its_urls_are_others(super::Server::Moto);
    }
}

mod s3s {
    #[test]
    fn the_quickstart_runs_when_only_its_urls_are_others() {
        super::the_quickstart_runs_when_only_its_urls_are_others(super::Server::S3s);
    }
}

/// A site whose plan is `text`, with `in` and `out` of a plan on the bucket, and its engine.
fn start(site: &Site, bucket: &S3) -> Engine {
    let engine = site.spawn(&bucket.env());
    engine.wait_ready();
    engine
}

fn the_quickstart_runs_when_only_its_urls_are_others(server: Server) {
    let bucket = S3::on(server);
    let plan = root().join("config/examples/quickstart.toml");
    let plan = fs::read_to_string(plan).expect("the quickstart is there");
    let built = root().join("functions/build");
    let plan = plan
        .replace("../../functions/build", built.to_str().expect("UTF-8"))
        .replace("../../data", "./data")
        .replace(
            "[engine]",
            "[engine]\nadmin = \"127.0.0.1:0\"\nhttp = \"127.0.0.1:0\"",
        )
        .replace("every = \"1m\"", "every = \"1h\"");
    let urls = format!("{}\nurl = \"s3://{}/", bucket.options(), bucket.name);
    let site = Site::new(&plan.replace("url = \"file:../../buckets/", &urls));
    for name in ["rocket.jpg", "astronaut.png", "chelsea.png"] {
        let content = fs::read(photo(name)).expect("it is read");
        bucket.put(&format!("uploads/a%20b/{name}"), content);
    }
    bucket.put("uploads/notes.txt", "not a photo");
    bucket.put("elsewhere/rocket.jpg", "not in the bucket of the plan");
    let engine = start(&site, &bucket);
    for (stem, extension) in [("rocket", "jpg"), ("astronaut", "png"), ("chelsea", "png")] {
        for width in [64, 256] {
            let key = format!("thumbnails/a%20b/{stem}-{width}.{extension}");
            let made = wait_for(&format!("{key} is there"), || bucket.get(&key));
            let size = imagesize::blob_size(&made).expect("an image");
            assert_eq!(size.width, width);
        }
    }
    engine.wait_idle();
    let thumbnails = bucket.keys();
    let thumbnails = thumbnails.iter().filter(|key| key.starts_with("thumb"));
    assert_eq!(thumbnails.count(), 6, "and nothing else");
    assert_eq!(site.key("thumbnails", "made").as_deref(), Some("3"));
    assert_eq!(site.dead_letters(), 0);
    assert!(engine.metric("tidemill_store_requests_total", "result=\"sent\"") > 6.0);
    let log = engine.stop();
    assert!(!log.contains("hunter2"), "{log}");

    // A restart repeats nothing.
    let engine = start(&site, &bucket);
    engine.wait_idle();
    assert_eq!(engine.metric("tidemill_attempts_total", ""), 0.0);
    engine.stop();
}

/// A plan with one bucket, `in`, that one function handles; `bucket` is more of the trigger.
fn plan(on: &S3, order: &str, bucket: &str) -> String {
    let (name, options) = (&on.name, on.options());
    format!(
        r#"
[engine]
admin = "127.0.0.1:0"
[buckets.in]
url = "s3://{name}/in"
{options}
[buckets.out]
url = "s3://{name}/out"
{options}
[functions.probe]
component = "PROBE"
env = {{ ORDER = '{order}' }}
allow = {{ read = ["in"], write = ["in", "out"], store = ["probe"] }}
[triggers.probe]
function = "probe"
bucket = {{ name = "in", rescan = "1s"{bucket} }}
retry = {{ attempts = 2, first = "10ms" }}
"#
    )
}

#[test]
fn a_store_that_cannot_be_used_is_told_by_check_and_by_readiness() {
    let bucket = S3::new();
    let text = plan(&bucket, "{}", "").replace(&bucket.name, "no-such-bucket");
    let text = text.replace(
        "/in\"",
        "/in\"\noptions = { endpoint = \"${env:WHERE}\", access_key_id = \"a\", secret_access_key = \"${env:KEY}\" }",
    );
    let site = Site::new(&text);
    site.succeeds(&["check"]);
    let (code, error) = site.fails(&["check", "--connect"]);
    assert_eq!(code, 1);
    assert!(
        error.contains("`options.endpoint` cannot be looked up: the environment variable WHERE"),
        "{error}"
    );
    let [(_, endpoint), ..] = bucket.env();
    let engine = site.spawn(&[("WHERE", endpoint), ("KEY", "hunter2")]);
    engine.wait_log("NoSuchBucket");
    let (status, text) = wait_for("the admin address", || engine.get("/readyz"));
    assert!(status == 503 && text.contains("NoSuchBucket"), "{text}");
    assert!(!engine.log().contains("hunter2"));
    engine.stop();
}

#[test]
fn keys_region_and_endpoint_come_from_a_profile() {
    let bucket = S3::new();
    let order = r#"{ "do": "tally", "key": "all", "bucket": "out" }"#;
    let text = plan(&bucket, order, "");
    let profile = "/in\"\noptions = { profile = \"tide\" }";
    let site = Site::new(&text.replace("/in\"", profile));
    let [(_, endpoint), ..] = bucket.env();
    let config = format!("[profile tide]\nregion = us-east-1\nendpoint_url = {endpoint}\n");
    fs::write(site.path("config"), config).expect("it is written");
    let keys = "[tide]\naws_access_key_id = test\naws_secret_access_key = hunter2\n";
    fs::write(site.path("credentials"), keys).expect("it is written");
    let (config, keys) = (site.path("config"), site.path("credentials"));
    let env = [
        ("AWS_CONFIG_FILE", config.to_str().expect("UTF-8")),
        ("AWS_SHARED_CREDENTIALS_FILE", keys.to_str().expect("UTF-8")),
        // Of the bucket `out`, whose plan names none.
        ("AWS_PROFILE", "tide"),
        // What the plan names comes before the environment.
        ("AWS_REGION", "eu-west-1"),
    ];
    let engine = site.spawn(&env);
    engine.wait_ready();
    bucket.put("in/a", "x");
    wait_until("it is written to the other bucket", || {
        bucket.get("out/a").is_some()
    });
    let log = engine.stop();
    assert!(!log.contains("hunter2"), "{log}");

    fs::write(&keys, "[tide]\nrole_arn = arn:aws:iam::1:role/tide\n").expect("it is written");
    let engine = site.spawn(&env);
    let (_, log) = engine.wait();
    assert!(
        log.contains("profile `tide`") && log.contains("`role_arn`"),
        "{log}"
    );
}
