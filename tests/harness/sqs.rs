//! A client of the server that speaks SQS, for queues that the tests make, fill and empty.

use serde_json::{Value, json};
use ureq::Agent;

use super::{PATIENCE, s3_endpoint, unique};

/// The server goes by the name of the service in here, and does not look at the signature.
const SIGNED: (&str, &str) = (
    "Authorization",
    "AWS4-HMAC-SHA256 Credential=test/20260101/us-east-1/sqs/aws4_request, SignedHeaders=host, Signature=0",
);

/// A queue of one test's own.
pub struct Sqs {
    agent: Agent,
    endpoint: String,
    name: String,
}

impl Sqs {
    /// Makes a queue on the shared server.
    pub fn new() -> Sqs {
        let config = Agent::config_builder()
            .timeout_global(Some(PATIENCE))
            .build();
        let queue = Sqs {
            agent: Agent::new_with_config(config),
            endpoint: s3_endpoint(),
            name: unique("queue"),
        };
        queue.ask("CreateQueue", json!({ "QueueName": queue.name }));
        queue
    }

    /// Its URL.
    pub fn url(&self) -> String {
        format!("{}/123456789012/{}", self.endpoint, self.name)
    }

    /// Its name among all of AWS.
    pub fn arn(&self) -> String {
        format!("arn:aws:sqs:us-east-1:123456789012:{}", self.name)
    }

    /// Sends at most ten messages.
    pub fn send(&self, bodies: &[String]) {
        let entry =
            |(n, body): (usize, &String)| json!({ "Id": n.to_string(), "MessageBody": body });
        let entries: Vec<Value> = bodies.iter().enumerate().map(entry).collect();
        self.ask(
            "SendMessageBatch",
            json!({ "QueueUrl": self.url(), "Entries": entries }),
        );
    }

    /// Takes at most ten messages out of the queue; none, if none come for a second.
    pub fn take(&self) -> Vec<String> {
        let fetch =
            json!({ "QueueUrl": self.url(), "MaxNumberOfMessages": 10, "WaitTimeSeconds": 1 });
        let answer = self.ask("ReceiveMessage", fetch);
        let messages = answer["Messages"].as_array().cloned().unwrap_or_default();
        if messages.is_empty() {
            return Vec::new();
        }
        let receipt = |(n, message): (usize, &Value)| json!({ "Id": n.to_string(), "ReceiptHandle": message["ReceiptHandle"] });
        let entries: Vec<Value> = messages.iter().enumerate().map(receipt).collect();
        self.ask(
            "DeleteMessageBatch",
            json!({ "QueueUrl": self.url(), "Entries": entries }),
        );
        let body = |message: &Value| message["Body"].as_str().expect("text").to_owned();
        messages.iter().map(body).collect()
    }

    /// How many messages there are, those that somebody works on included.
    pub fn length(&self) -> usize {
        let all = json!({ "QueueUrl": self.url(), "AttributeNames": ["All"] });
        let answer = self.ask("GetQueueAttributes", all);
        let count = |name: &str| -> usize {
            let count = answer["Attributes"][name].as_str().expect("a count");
            count.parse().expect("a number")
        };
        count("ApproximateNumberOfMessages") + count("ApproximateNumberOfMessagesNotVisible")
    }

    fn ask(&self, action: &str, request: Value) -> Value {
        let answer = self
            .agent
            .post(format!("{}/", self.endpoint))
            .header(SIGNED.0, SIGNED.1)
            .header("Content-Type", "application/x-amz-json-1.0")
            .header("X-Amz-Target", format!("AmazonSQS.{action}"))
            .send(request.to_string());
        let text = answer.expect("it answers").body_mut().read_to_string();
        let text = text.expect("it is read");
        match text.is_empty() {
            true => Value::Null,
            false => serde_json::from_str(&text).expect("JSON"),
        }
    }
}
