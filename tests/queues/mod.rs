//! Queues: messages of RabbitMQ and records of Kafka, held by their broker until they are done.

mod amqp;
mod batches;
mod connect;
mod kafka;
mod kafka_outage;
mod large;
mod odd;
mod outage;
