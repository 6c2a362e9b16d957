//! The README's promise: drop a photo into a bucket and its thumbnails appear.

use std::{fs, path::Path};

use serde_json::Value;

use crate::harness::{Client, Site, files, photo, root, wait_until};

/// The quickstart of the README, moved into a site.
fn quickstart() -> Site {
    // The report is for one test alone, which does not wait for a minute.
    quickstart_every("1h")
}

fn quickstart_every(every: &str) -> Site {
    let file = root().join("config/examples/quickstart.toml");
    let text = fs::read_to_string(file).expect("the quickstart is there");
    let built = root().join("functions/build");
    let text = text
        .replace("../../functions/build", built.to_str().expect("UTF-8"))
        .replace("../../", "./")
        .replace(
            "[engine]",
            "[engine]\nadmin = \"127.0.0.1:0\"\nhttp = \"127.0.0.1:0\"",
        )
        .replace("every = \"1m\"", &format!("every = \"{every}\""));
    let site = Site::new(&text);
    for bucket in [
        "uploads",
        "thumbnails",
        "announcements",
        "tables",
        "reports",
    ] {
        site.bucket(bucket);
    }
    site
}

fn size(path: &Path) -> (usize, usize) {
    let size = imagesize::size(path).expect("an image");
    (size.width, size.height)
}

/// The thumbnails of a photo of this size, by width.
fn assert_thumbnails(site: &Site, key: &str) {
    let (stem, extension) = key.rsplit_once('.').expect("an extension");
    let (width, height) = size(&site.path("buckets/uploads").join(key));
    for small in [64, 256] {
        let path = site.path(&format!("buckets/thumbnails/{stem}-{small}.{extension}"));
        wait_until(&format!("{} is there", path.display()), || path.exists());
        let expected = (height as f64 * small as f64 / width as f64).round() as usize;
        assert_eq!(size(&path), (small, expected), "{}", path.display());
    }
}

#[test]
fn every_photo_gets_its_thumbnails() {
    let site = quickstart();
    let uploads = site.path("buckets/uploads");
    fs::copy(photo("astronaut.png"), uploads.join("before.png")).expect("it is copied");
    let engine = site.start();

    fs::copy(photo("rocket.jpg"), uploads.join("copied.jpg")).expect("it is copied");
    fs::copy(photo("chelsea.png"), site.path("aside.png")).expect("it is copied");
    fs::rename(site.path("aside.png"), uploads.join("renamed in.png")).expect("it is renamed");
    fs::create_dir_all(uploads.join("a/new/folder")).expect("it is made");
    fs::copy(
        photo("hubble_deep_field.jpg"),
        uploads.join("a/new/folder/hübble.jpg"),
    )
    .expect("it is copied");
    fs::write(uploads.join("notes.txt"), "not a photo").expect("it is written");

    for key in [
        "before.png",
        "copied.jpg",
        "renamed in.png",
        "a/new/folder/hübble.jpg",
    ] {
        assert_thumbnails(&site, key);
    }
    engine.wait_idle();
    assert_eq!(
        files(&site.path("buckets/thumbnails")).len(),
        8,
        "and nothing else"
    );
    assert_eq!(
        site.key("thumbnails", "made").as_deref(),
        Some("4"),
        "once for each photo"
    );
    assert_eq!(site.dead_letters(), 0);
    engine.stop();

    // A restart repeats nothing.
    let engine = site.start();
    engine.wait_idle();
    assert_eq!(engine.metric("tidemill_attempts_total", ""), 0.0);
    engine.stop();
}

#[test]
fn a_broken_photo_becomes_a_dead_letter_and_is_redriven_once_it_is_whole() {
    let site = quickstart();
    let uploads = site.path("buckets/uploads");
    let engine = site.start();
    let whole = fs::read(photo("rocket.jpg")).expect("it is read");
    fs::write(uploads.join("rocket.jpg"), &whole[..whole.len() / 3]).expect("it is written");
    wait_until("it is given up", || site.dead_letters() == 1);

    let list = site.succeeds(&["dead-letters", "list"]);
    let reason = list.lines().nth(1).expect("a reason");
    assert!(reason.contains("rejected after 1 attempt: "), "{list}");
    assert!(
        reason.to_lowercase().contains("jpeg"),
        "the decoder's words: {list}"
    );
    let id = list.split_whitespace().next().expect("an id");
    let shown = site.succeeds(&["dead-letters", "show", id]);
    assert!(shown.contains("subject      rocket.jpg"), "{shown}");

    // The new version is an event of its own; the dead letter stays until a person decides.
    fs::write(uploads.join("rocket.jpg"), &whole).expect("it is written");
    assert_thumbnails(&site, "rocket.jpg");
    engine.wait_idle();
    assert_eq!(site.dead_letters(), 1);
    for thumbnail in files(&site.path("buckets/thumbnails")) {
        fs::remove_file(site.path("buckets/thumbnails").join(thumbnail)).expect("it is removed");
    }
    assert_eq!(
        site.succeeds(&["dead-letters", "redrive", id]),
        "1 redriven\n"
    );
    assert_thumbnails(&site, "rocket.jpg");
    engine.wait_idle();
    assert_eq!(site.dead_letters(), 0);
    engine.stop();
}

#[test]
fn every_webhook_is_announced() {
    let site = quickstart();
    let engine = site.start();
    let client = Client::new(&engine.http().expect("an address"));
    let file =
        fs::read_to_string(root().join("tests/data/webhooks/github.jsonl")).expect("is there");
    let webhooks: Vec<Value> = file
        .lines()
        .map(|l| serde_json::from_str(l).expect("JSON"))
        .collect();
    for webhook in &webhooks {
        let event = webhook["event"].as_str().expect("a name");
        let headers = [
            ("X-GitHub-Event", event),
            ("Content-Type", "application/json"),
        ];
        let replied = client.post("/hooks/github", &headers, webhook["payload"].to_string());
        assert_eq!(replied.status, 202, "{replied:?}");
    }
    engine.wait_idle();
    assert_eq!(site.dead_letters(), 0);
    let announced = files(&site.path("buckets/announcements"));
    assert_eq!(announced.len(), webhooks.len());
    let all: Vec<String> = announced
        .iter()
        .map(|key| fs::read_to_string(site.path("buckets/announcements").join(key)).expect("text"))
        .collect();
    let opened = "Codertocat: pull request opened in Codertocat/Hello-World: “Update the README with new information.”\nhttps://github.com/Codertocat/Hello-World/pull/2\n";
    assert!(all.iter().any(|text| text == opened), "{}", all.concat());
    engine.stop();
}

#[test]
fn the_weather_is_reported_as_another_tool_computes_it() {
    let site = quickstart_every("1s");
    let tables = root().join("tests/data/tables");
    fs::copy(
        tables.join("seattle-weather.csv"),
        site.path("buckets/tables/seattle-weather.csv"),
    )
    .expect("copied");
    let engine = site.start();
    let report = site.path("buckets/reports/weather.json");
    wait_until("the report is there", || report.exists());
    let json = |path: &Path| -> Value {
        serde_json::from_slice(&fs::read(path).expect("it is read")).expect("JSON")
    };
    assert_eq!(json(&report), json(&tables.join("weather-expected.json")));
    engine.stop();
}
