//! Destinations: what they may not be told, and what could never arrive.

use crate::{
    reserved,
    sink::{Draft, Sink},
    tree::Table,
    words::shorten,
};

pub(super) fn check(sink: &mut Sink<'_>, name: &str, trigger: &Table) {
    for place in ["on_success", "dead_letter"] {
        let Some(to) = trigger.table(place) else {
            continue;
        };
        if let Some(http) = to.table("http") {
            own_headers(sink, name, place, http);
        }
        if let Some(amqp) = to.table("amqp") {
            nowhere(sink, name, place, amqp);
        }
    }
}

/// Some headers say what the engine knows better.
fn own_headers(sink: &mut Sink<'_>, name: &str, place: &str, http: &Table) {
    let headers = http.table("headers").into_iter();
    for (header, node) in headers.flat_map(|headers| &headers.entries) {
        if !reserved::http_header(header) {
            continue;
        }
        let header = shorten(header);
        let message = format!(
            "`{place}.http` of trigger `{name}` sets the header `{header}`, which the engine sets by itself"
        );
        let label = "expected a header of your own, found one of the engine's";
        let help = "remove it";
        sink.add(Draft::error(node.key_span.clone(), message, label, help));
    }
}

/// The default exchange takes the routing key for the name of a queue.
fn nowhere(sink: &mut Sink<'_>, name: &str, place: &str, amqp: &Table) {
    let is_empty = |key: &str| {
        let node = amqp.get(key);
        node.filter(|node| node.string() == Some(""))
    };
    let (Some(exchange), Some(_)) = (is_empty("exchange"), is_empty("routing_key")) else {
        return;
    };
    let message = format!("`{place}.amqp` of trigger `{name}` leads to no queue");
    let label = "expected an exchange, or a routing key too, found the default exchange";
    let help = "name an exchange; or add routing_key = \"QUEUE\", which the default exchange takes for the name of a queue";
    sink.add(Draft::error(exchange.span.clone(), message, label, help));
}
