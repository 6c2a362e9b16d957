//! Trying the brokers of a plan, for `tidemill check --connect`. Nothing is made, changed or read from
//! a topic.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use rdkafka::{
    ClientConfig,
    admin::{AdminClient, AdminOptions, ConfigResource, ResourceSpecifier},
    consumer::{BaseConsumer, Consumer},
    error::{KafkaError, KafkaResult, RDKafkaErrorCode},
    metadata::MetadataTopic,
};
use tidemill_config::plan::{Connection, Notify, Plan, SourcePlan};

use crate::check::{Finding, Severity};

use super::{
    assign::blocking,
    context::Context,
    destination::{key, targets_of},
    error::Unusable,
    probe::{unreachable, unreadable},
    settings::Settings,
};

/// How long brokers may take to answer.
const ANSWER: Duration = Duration::from_secs(10);

/// How long to wait for librdkafka to say why they do not.
const REASON: Duration = Duration::from_secs(1);

/// A topic of the plan.
struct Use {
    topic: String,
    /// Where in the plan.
    place: String,
    /// Whether events go there, and do not come from there.
    writes: bool,
}

/// Tries all Kafka connections of a plan, and the topics that it reads and writes.
pub async fn check(plan: &Plan) -> Vec<Finding> {
    let mut findings = Vec::new();
    let kafka = plan.connections.iter();
    let kafka = kafka.filter(|(_, plan)| matches!(plan.to, Connection::Kafka { .. }));
    let uses = uses(plan);
    for (connection, _) in kafka {
        let uses = uses.get(connection.as_str()).map_or(&[][..], Vec::as_slice);
        match Settings::new(plan, connection) {
            Ok(settings) => connect(&settings, uses, &mut findings).await,
            Err(error) => findings.push(unusable(connection, &error)),
        }
    }
    findings
}

fn uses(plan: &Plan) -> BTreeMap<&str, Vec<Use>> {
    let mut uses: BTreeMap<&str, Vec<Use>> = BTreeMap::new();
    for trigger in plan.triggers.values() {
        let (key, source) = match &trigger.source {
            SourcePlan::Kafka(source) => ("kafka", source),
            SourcePlan::Bucket(bucket) => match &bucket.notify {
                Some(Notify::Kafka(source)) => ("bucket.notify.kafka", source),
                _ => continue,
            },
            _ => continue,
        };
        let of_connection = uses.entry(&source.connection).or_default();
        of_connection.extend(source.topics.iter().map(|topic| Use {
            topic: topic.clone(),
            place: format!("triggers.{}.{key}.topics", trigger.name),
            writes: false,
        }));
    }
    for (trigger, role, target) in targets_of(plan) {
        uses.entry(&target.connection).or_default().push(Use {
            topic: target.topic.clone(),
            place: format!("triggers.{trigger}.{}.kafka.topic", key(role)),
            writes: true,
        });
    }
    uses
}

async fn connect(settings: &Settings, uses: &[Use], findings: &mut Vec<Finding>) {
    let connection = &settings.connection;
    let topics: Vec<String> = uses.iter().map(|used| used.topic.clone()).collect();
    let (admin, answers) = match ask(settings, topics).await {
        Ok(answer) => answer,
        Err((error, last)) => {
            let (problem, help) = unreachable(connection, &settings.brokers, &error, last);
            let help = help
                .unwrap_or("see that one is up and can be reached from here, or correct `brokers`");
            findings.push(Finding {
                severity: Severity::Error,
                place: format!("connections.{connection}"),
                problem: settings.secrets.blank(&problem),
                help: help.to_owned(),
            });
            return;
        }
    };
    for (used, answer) in uses.iter().zip(&answers) {
        match answer {
            Err(code) => findings.extend(missing(connection, used, *code)),
            Ok(replicas) if used.writes && *replicas > 1 => {
                findings.extend(few_replicas(&admin, used, *replicas).await);
            }
            Ok(_) => {}
        }
    }
}

type Admin = AdminClient<Context>;
type Last = Option<(RDKafkaErrorCode, String)>;

/// How many replicas each topic has, or why it cannot be used.
async fn ask(
    settings: &Settings,
    topics: Vec<String>,
) -> Result<(Admin, Vec<Result<usize, RDKafkaErrorCode>>), (KafkaError, Last)> {
    let name = format!("kafka:{}", settings.connection);
    let context = || Context::new(&name, &settings.secrets);
    let made = |config: ClientConfig| -> KafkaResult<(BaseConsumer<Context>, Admin)> {
        let asker = config.create_with_context(context())?;
        Ok((asker, config.create_with_context(context())?))
    };
    let (asker, admin) = made(settings.admin()).map_err(|error| (error, None))?;
    let context = asker.context().clone();
    let answer = blocking(move || {
        let answers = metadata(&asker, &topics);
        if answers.is_err() {
            // Why is told to those who poll.
            let until = Instant::now() + REASON;
            let says_why =
                |last: Last| last.is_some_and(|(code, _)| code != RDKafkaErrorCode::AllBrokersDown);
            while !says_why(asker.context().last_error()) && Instant::now() < until {
                drop(asker.poll(Duration::from_millis(10)));
            }
        }
        Ok((admin, answers?))
    });
    answer.await.map_err(|error| (error, context.last_error()))
}

fn metadata(
    asker: &BaseConsumer<Context>,
    topics: &[String],
) -> KafkaResult<Vec<Result<usize, RDKafkaErrorCode>>> {
    // Without topics too it shows whether the brokers answer. It makes no topic.
    if topics.is_empty() {
        asker.fetch_metadata(Some("__consumer_offsets"), ANSWER)?;
    }
    let answer = |topic: &String| {
        let metadata = asker.fetch_metadata(Some(topic), ANSWER)?;
        Ok(metadata.topics().first().map_or(Ok(0), replicas))
    };
    topics.iter().map(answer).collect()
}

fn replicas(topic: &MetadataTopic) -> Result<usize, RDKafkaErrorCode> {
    if let Some(error) = topic.error() {
        return Err(error.into());
    }
    let replicas = topic
        .partitions()
        .iter()
        .map(|partition| partition.replicas().len());
    Ok(replicas.min().unwrap_or(0))
}

fn missing(connection: &str, used: &Use, code: RDKafkaErrorCode) -> Option<Finding> {
    let text = unreadable(connection, &[(used.topic.clone(), code)])?;
    let (problem, help) = match (used.writes, code) {
        (true, RDKafkaErrorCode::UnknownTopic | RDKafkaErrorCode::UnknownTopicOrPartition) => (
            format!("connection `{connection}` has no topic `{}`", used.topic),
            "make it, or correct `topic`; what is produced to it waits until it is there"
                .to_owned(),
        ),
        _ => split(text),
    };
    Some(Finding {
        severity: Severity::Error,
        place: used.place.clone(),
        problem,
        help,
    })
}

/// Whether what is acknowledged may be on one broker alone.
async fn few_replicas(admin: &Admin, used: &Use, replicas: usize) -> Option<Finding> {
    let options = AdminOptions::new().request_timeout(Some(ANSWER));
    let specifiers = [ResourceSpecifier::Topic(&used.topic)];
    let configs = admin.describe_configs(&specifiers, &options).await;
    // Users that may not ask are not told.
    let configs = configs.ok()?;
    let value = |config: &ConfigResource| config.get("min.insync.replicas")?.value.clone();
    let value = configs
        .into_iter()
        .flatten()
        .find_map(|config| value(&config))?;
    (value == "1").then(|| Finding {
        severity: Severity::Warning,
        place: used.place.clone(),
        problem: format!(
            "topic `{}` has {replicas} replicas, but `min.insync.replicas` is 1: a record counts as published when one broker has it, and is lost with that broker",
            used.topic
        ),
        help: format!("set `min.insync.replicas` of the topic to {}", replicas - 1),
    })
}

fn unusable(connection: &str, error: &Unusable) -> Finding {
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(error) = cause {
        text.push_str(&format!(": {error}"));
        cause = error.source();
    }
    let (problem, help) = split(text);
    Finding {
        severity: Severity::Error,
        place: format!("connections.{connection}"),
        problem,
        help,
    }
}

/// The problem, and the next step behind its last semicolon.
fn split(text: String) -> (String, String) {
    match text.rsplit_once("; ") {
        Some((problem, help)) => (problem.to_owned(), help.to_owned()),
        None => (text, "correct it".to_owned()),
    }
}
