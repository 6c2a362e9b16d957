//! What browsers are told.

use tidemill_config::plan::{Cors, Verify};

use super::*;

fn with(origins: &[&str], headers: &[&str], credentials: bool) -> Vec<Route> {
    let owned = |list: &[&str]| list.iter().map(|s| s.to_string()).collect();
    let mut all = vec![route("a", "POST,PUT /a"), route("b", "OPTIONS /b")];
    all[0].source.cors = Some(Cors {
        origins: owned(origins),
        headers: owned(headers),
        credentials,
        max_age: Duration::from_secs(600),
    });
    all[0].source.verify = Some(Verify::Bearer(text("s")));
    all
}

const ASK: &str = "OPTIONS /a
    Origin: https://a.example
    Access-Control-Request-Method: PUT
    Access-Control-Request-Headers: authorization,x-a";

fn told<'a>(response: &'a Response, what: &str) -> Option<&'a str> {
    response.header(&format!("access-control-{what}"))
}

#[tokio::test]
async fn some_origins() {
    let world = World::new(with(
        &["https://b.example", "https://a.example"],
        &["authorization", "x-a"],
        true,
    ))
    .await;
    let response = world.ask(ASK, "").await;
    assert_eq!((response.status, response.body.len()), (204, 0));
    assert_eq!(told(&response, "allow-origin"), Some("https://a.example"));
    assert_eq!(told(&response, "allow-methods"), Some("POST, PUT"));
    assert_eq!(told(&response, "allow-headers"), Some("authorization, x-a"));
    assert_eq!(told(&response, "allow-credentials"), Some("true"));
    assert_eq!(told(&response, "max-age"), Some("600"));
    assert!(response.header("vary").unwrap().contains("Origin"));
    let response = world.ask(&ASK.replace("//a", "//c"), "").await;
    assert_eq!(response.status, 204);
    let headers = response.headers.keys();
    let mut telling = headers.filter(|name| name.starts_with("access-control"));
    assert_eq!(telling.next(), None);
    for (origin, allowed) in [
        ("https://a.example", Some("https://a.example")),
        ("https://a.example.evil", None),
        ("null", None),
    ] {
        let head = format!("POST /a\nOrigin: {origin}\nAuthorization: Bearer");
        // A page may read why it was refused, too.
        for (token, status) in [(" s", 202), (" x", 401)] {
            let response = world.ask(&format!("{head}{token}"), "").await;
            assert_eq!(response.status, status);
            assert_eq!(told(&response, "allow-origin"), allowed);
            let with_cookies = allowed.map(|_| "true");
            assert_eq!(told(&response, "allow-credentials"), with_cookies);
            assert_eq!(response.header("vary"), Some("Origin"));
        }
    }
    let response = world.ask("POST /a\nAuthorization: Bearer s", "").await;
    assert_eq!(told(&response, "allow-origin"), None);
    assert_eq!(response.header("vary"), Some("Origin"));
}

#[tokio::test]
async fn all_origins() {
    let world = World::new(with(&["*"], &["*"], false)).await;
    let response = world.ask(ASK, "").await;
    assert_eq!(told(&response, "allow-origin"), Some("*"));
    assert_eq!(told(&response, "allow-headers"), Some("authorization,x-a"));
    assert_eq!(told(&response, "allow-credentials"), None);
    let head = "PUT /a\nOrigin: null\nAuthorization: Bearer s";
    let response = world.ask(head, "").await;
    assert_eq!(
        (response.status, told(&response, "allow-origin")),
        (202, Some("*"))
    );
    assert_eq!(response.header("vary"), None);
}

#[tokio::test]
async fn options_is_a_method_like_others() {
    let world = World::new(with(&["*"], &[], false)).await;
    // No browser asks, and nobody listens.
    assert_eq!(world.ask("OPTIONS /a", "").await.status, 405);
    // Nothing is set, and somebody listens.
    assert_eq!(world.ask(&ASK.replace("/a", "/b"), "").await.status, 202);
    assert_eq!(world.intake.inner().offers.len(), 1);
}
