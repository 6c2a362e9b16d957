//! TLS and SCRAM, against a real broker whose certificate is of a CA of the tests' own.

use std::fs;

use base64::prelude::{BASE64_STANDARD, Engine as _};
use insta::assert_snapshot;
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use tempfile::TempDir;

use super::{messages::unusable, *};
use crate::{
    kafka::check,
    private::{Broker, free_port},
};

/// A certificate authority.
struct Ca {
    dir: TempDir,
    issuer: Issuer<'static, KeyPair>,
}

impl Ca {
    fn new() -> Ca {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        // A certificate whose issuer has its own name would count as self-signed.
        let name = format!("CA {}", Ulid::generate());
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        let dir = tempfile::tempdir().unwrap();
        let certificate = params.self_signed(&key).unwrap();
        let text = pem("CERTIFICATE", certificate.der());
        fs::write(dir.path().join("ca.pem"), text).unwrap();
        let issuer = Issuer::new(params, key);
        Ca { dir, issuer }
    }

    /// Key and certificate of a broker of this name.
    fn keystore(&self, name: &str) -> String {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        let text =
            pem("PRIVATE KEY", &key.serialize_der()) + &pem("CERTIFICATE", certificate.der());
        let path = self.dir.path().join(format!("{name}.pem"));
        fs::write(&path, text).unwrap();
        path.display().to_string()
    }

    /// The property of those who trust it.
    fn trusted(&self) -> String {
        let path = self.dir.path().join("ca.pem");
        format!(r#""ssl.ca.location" = "{}""#, path.display())
    }
}

fn pem(what: &str, der: &[u8]) -> String {
    let base64 = BASE64_STANDARD.encode(der);
    format!("-----BEGIN {what}-----\n{base64}\n-----END {what}-----\n")
}

/// A broker with TLS, and with SCRAM and TLS.
struct Secured {
    broker: Broker,
    tls: u16,
    scram: u16,
    /// A topic of it, as somebody without a password sees it.
    lab: Lab,
}

impl Secured {
    /// With a certificate of that name.
    async fn new(ca: &Ca, name: &str) -> Secured {
        let (tls, scram) = (free_port(), free_port());
        let listeners = format!("SSL://127.0.0.1:{tls},SASL_SSL://127.0.0.1:{scram}");
        let broker = Broker::kafka_with(&format!(
            "listeners={listeners}\n\
             advertised.listeners={listeners}\n\
             ssl.keystore.type=PEM\n\
             ssl.keystore.location={}\n\
             sasl.enabled.mechanisms=SCRAM-SHA-512\n\
             listener.name.sasl_ssl.scram-sha-512.sasl.jaas.config=org.apache.kafka.common.security.scram.ScramLoginModule required;\n\
             connections.max.reauth.ms=2000\n",
            ca.keystore(name)
        ));
        let lab = Lab::without_topic(broker.url().to_owned());
        lab.make_topic(1).await;
        let secured = Secured {
            broker,
            tls,
            scram,
            lab,
        };
        secured.let_in();
        secured
    }

    /// Makes the user.
    fn let_in(&self) {
        self.user(&["--add-config", "SCRAM-SHA-512=[password=right-s3cret]"]);
    }

    /// Deletes it.
    fn shut_out(&self) {
        self.user(&["--delete-config", "SCRAM-SHA-512"]);
    }

    fn user(&self, change: &[&str]) {
        let mut args = vec![
            "--alter",
            "--entity-type",
            "users",
            "--entity-name",
            "miller",
        ];
        args.extend(change);
        self.broker.kafka_configs(&args);
    }

    /// The topic by a port, with these properties.
    fn by(&self, port: u16, properties: &[&str]) -> Lab {
        let mut properties = properties.to_vec();
        properties.push(r#""reconnect.backoff.max.ms" = "500""#);
        Lab {
            brokers: format!("127.0.0.1:{port}"),
            topic: self.lab.topic.clone(),
            group: self.lab.group.clone(),
            properties: format!("{{ {} }}", properties.join(", ")),
            start: "earliest",
        }
    }

    /// Waits until a connector says these words, and looks that a check finds the same.
    async fn refuses(&self, port: u16, properties: &[&str], words: &str) {
        let lab = self.by(port, properties);
        let member = lab.run(&Fake::settling());
        // The first word may be that nobody answers; why is said next.
        let says = |said: &str| {
            println!("{said}");
            assert!(!said.contains("s3cret"), "{said}");
            said.contains(words)
        };
        member
            .reached(words, |status| {
                !status.ready && status.trouble.as_deref().is_some_and(says)
            })
            .await;
        let findings = check(&lab.plan()).await;
        let [finding] = &findings[..] else {
            panic!("{findings:?}");
        };
        let said = format!("{}; {}", finding.problem, finding.help);
        assert!(says(&said), "{said}");
        member.stop().await;
    }
}

const TLS: &str = r#""security.protocol" = "ssl""#;

const SCRAM: &str = r#""security.protocol" = "sasl_ssl", "sasl.mechanism" = "SCRAM-SHA-512""#;

const UNTRUSTED: &str = "see that `ssl.ca.location` has the CA of the brokers' certificates";

const REFUSED: &str = "refuse the login: sasl_ssl://";

const UNANSWERED: &str = "no broker of connection `telemetry` answers";

fn login(user: &str, password: &str) -> String {
    format!(r#""sasl.username" = "{user}", "sasl.password" = "{password}""#)
}

#[tokio::test(flavor = "multi_thread")]
async fn who_is_trusted_and_knows_the_password_reads_and_others_are_told_why_not() {
    let ca = Ca::new();
    let secured = Secured::new(&ca, "127.0.0.1").await;
    let trusts = ca.trusted();
    let right = login("miller", "right-s3cret");
    secured.lab.produce(0, 0..3).await;
    for (n, (port, properties)) in [
        (secured.tls, [TLS, &trusts, ""]),
        (secured.scram, [SCRAM, &trusts, &right]),
    ]
    .into_iter()
    .enumerate()
    {
        let properties: Vec<&str> = properties
            .into_iter()
            .filter(|one| !one.is_empty())
            .collect();
        let mut lab = secured.by(port, &properties);
        lab.group = format!("{}-{n}", lab.group);
        assert_eq!(check(&lab.plan()).await, []);
        let fake = Fake::settling();
        let member = lab.run(&fake);
        fake.given(3).await;
        member.reached("health", |status| status.ready).await;
        member.stop().await;
    }

    let stranger = Ca::new();
    let other = stranger.trusted();
    let wrong = login("miller", "wrong-s3cret");
    let unknown = login("reeve", "right-s3cret");
    let plain = secured.broker.port();
    let (tls, scram) = (secured.tls, secured.scram);
    let cases: [(u16, &[&str], &str); 8] = [
        (tls, &[TLS, &other], UNTRUSTED),
        (tls, &[TLS], UNTRUSTED),
        (scram, &[SCRAM, &other, &right], UNTRUSTED),
        (scram, &[SCRAM, &trusts, &wrong], REFUSED),
        (scram, &[SCRAM, &trusts, &unknown], REFUSED),
        (scram, &[TLS, &trusts], UNANSWERED),
        (
            plain,
            &[TLS, &trusts],
            "connecting to a PLAINTEXT broker listener?",
        ),
        (
            tls,
            &[],
            "they may want TLS or a login (`security.protocol`)",
        ),
    ];
    // At once, as each takes the time of those who try again and again.
    let refuses = |(port, properties, words)| secured.refuses(port, properties, words);
    futures_util::future::join_all(cases.map(refuses)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_of_another_name_is_refused() {
    let ca = Ca::new();
    let secured = Secured::new(&ca, "kafka.example.com").await;
    let trusts = [TLS, &ca.trusted()];
    secured.refuses(secured.tls, &trusts, UNTRUSTED).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_user_who_is_shut_out_is_told_and_let_in_again() {
    let ca = Ca::new();
    let secured = Secured::new(&ca, "127.0.0.1").await;
    let right = login("miller", "right-s3cret");
    let lab = secured.by(secured.scram, &[SCRAM, &ca.trusted(), &right]);
    let fake = Fake::settling();
    let member = lab.run(&fake);
    secured.lab.produce(0, 0..3).await;
    fake.given(3).await;
    member.reached("health", |status| status.ready).await;

    // The broker asks anew every two seconds, and closes the connection of whoever fails.
    secured.shut_out();
    member
        .reached("trouble", |status| {
            let trouble = status.trouble.as_deref().unwrap_or_default();
            !status.ready && trouble.contains("refuse the login")
        })
        .await;
    secured.lab.produce(0, 3..6).await;
    secured.let_in();
    member.reached("health", |status| status.ready).await;
    fake.given(6).await;
    member
        .reached("all", |status| status.settled == 6 && status.held == 0)
        .await;
    member.stop().await;
}

#[test]
fn properties_that_cannot_be_used() {
    let property = |text: &str| format!("{{ {TLS}, {text} }}");
    assert_snapshot!(unusable(&property(r#""ssl.ca.location" = "/nowhere/ca.pem""#)), @r#"cannot read /nowhere/ca.pem, which `connections.telemetry.kafka.properties."ssl.ca.location"` names: No such file or directory (os error 2)"#);
    let folder = tempfile::tempdir().unwrap();
    let none = folder.path().join("none.pem");
    fs::write(&none, "no certificate").unwrap();
    let said = unusable(&property(&format!(
        r#""ssl.ca.location" = "{}""#,
        none.display()
    )));
    assert_snapshot!(said, @"`connections.telemetry.kafka`: librdkafka cannot work with these properties: ssl.ca.location failed: error:05800088:x509 certificate routines::no certificate or crl found");
    let said = unusable(&property(r#""ssl.ca.pem" = "s3cret-s3cret""#));
    assert!(!said.contains("s3cret"), "{said}");
}

#[test]
fn the_certificates_of_the_system_are_trusted_unless_others_are_named() {
    let lab = Lab::without_topic("127.0.0.1:1".into());
    let location = |lab: &Lab| {
        let config = lab.connector().settings.consumer("group");
        config.get("ssl.ca.location").map(str::to_owned)
    };
    assert_eq!(location(&lab).as_deref(), Some("probe"));
    let ca = Ca::new();
    let lab = Lab {
        properties: format!("{{ {} }}", ca.trusted()),
        ..lab
    };
    assert_eq!(
        location(&lab),
        Some(ca.dir.path().join("ca.pem").display().to_string())
    );
}
