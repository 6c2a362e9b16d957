//! Who may send.

use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use tidemill_config::plan::Verify;

use super::*;
use crate::http::Error;

fn with(verify: Verify) -> Route {
    let mut route = route("t", "POST /a");
    route.source.verify = Some(verify);
    route
}

fn signed(header: &str, secret: &str) -> Route {
    with(Verify::HmacSha256 {
        header: header.to_owned(),
        secret: text(secret),
    })
}

fn sign(secret: &str, body: &str) -> String {
    let mac = Hmac::<Sha256>::new_from_slice(secret.as_bytes()).unwrap();
    let mac = mac.chain_update(body).finalize().into_bytes();
    mac.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[tokio::test]
async fn the_bearer_of_the_token_may() {
    let world = World::new(vec![with(Verify::Bearer(text("s3cret")))]).await;
    for wrong in [
        "",
        "Authorization: s3cret",
        "Authorization: Basic s3cret",
        "Authorization: Bearer",
        "Authorization: Bearer ",
        "Authorization: Bearer s3cre",
        "Authorization: Bearer s3crett",
        "Authorization: Bearer s3cret\nAuthorization: Bearer s3cret",
    ] {
        let response = world.ask(&format!("POST /a\n{wrong}"), "x").await;
        response.refused(401, "bearer token");
        assert_eq!(response.header("www-authenticate"), Some("Bearer"));
        assert!(!response.json().to_string().contains("s3cret"));
    }
    assert!(world.intake.inner().offers.is_empty());
    for right in ["Bearer s3cret", "bearer  s3cret "] {
        let response = world
            .ask(&format!("POST /a\nAuthorization: {right}"), "x")
            .await;
        assert_eq!(response.status, 202);
    }
    let inner = world.intake.inner();
    assert_eq!(inner.offers.len(), 2);
    assert!(!format!("{:?}", inner.offers).contains("s3cret"));
}

#[tokio::test]
async fn who_signs_the_body_may() {
    // The example of GitHub's documentation.
    let secret = "It's a Secret to Everybody";
    let known = "757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17";
    assert_eq!(sign(secret, "Hello, World!"), known);
    let world = World::new(vec![signed("x-hub-signature-256", secret)]).await;
    let of_nothing = sign(secret, "");
    for (signature, body) in [
        (format!("sha256={known}"), "Hello, World!"),
        (known.to_owned(), "Hello, World!"),
        (of_nothing, ""),
    ] {
        let head = format!("POST /a\nX-Hub-Signature-256: {signature}");
        assert_eq!(world.ask(&head, body).await.status, 202);
    }
    let header = format!("X-Hub-Signature-256: sha256={known}");
    let other = format!("X-Hub-Signature-256: {}", sign("other", "Hello, World!"));
    for (header, body, says) in [
        ("", "Hello, World!", "asks for a signature"),
        (&*format!("{header}\n{header}"), "Hello, World!", "once"),
        (
            "X-Hub-Signature-256: nonsense",
            "Hello, World!",
            "hexadecimal",
        ),
        (&header, "Hello, World?", "not that of this body"),
        (&header, "", "not that of this body"),
        (&other, "Hello, World!", "not that of this body"),
    ] {
        let response = world.ask(&format!("POST /a\n{header}"), body).await;
        response.refused(401, says);
        assert_eq!(response.header("www-authenticate"), None);
        assert!(!response.json().to_string().contains("Secret"));
    }
    assert_eq!(world.intake.inner().offers.len(), 3);
}

#[test]
fn secrets_are_looked_up_at_the_start() {
    let start = |route| {
        let any = "127.0.0.1:0".parse().unwrap();
        HttpConnector::new(any, vec![route]).err().unwrap()
    };
    let error = start(signed("x", "${env:TIDEMILL_TEST_UNSET}"));
    assert!(matches!(error, Error::Secret { .. }), "{error:?}");
    assert!(error.to_string().contains("trigger `t`"), "{error}");
    let error = start(with(Verify::Bearer(text("${file:/dev/null}"))));
    assert!(matches!(error, Error::EmptySecret { .. }), "{error:?}");
}
