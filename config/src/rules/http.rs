//! Triggers on HTTP: paths that cannot be told apart, what makes no sense for clients that wait, and
//! who gets in.

use std::collections::BTreeMap;

use matchit::{InsertError, Router};

use crate::{
    keys::join,
    sink::{Draft, Sink},
    tree::{Node, Table, Value},
    words::shorten,
};

use super::sharing::{Listener, listeners, name};

pub(super) fn check(sink: &mut Sink<'_>, root: &Table) {
    let paths = listeners(root, "http", |http| name(http, "path"));
    told_apart(sink, &paths);
    for (path, listeners) in &paths {
        one_answer(sink, path, listeners);
        for listener in listeners {
            clients_wait(sink, listener);
            ends_with_slash(sink, path, listener);
            cors(sink, listener);
        }
    }
    open_to_all(sink, root, paths.values().flatten());
}

/// A request goes to one path.
fn told_apart(sink: &mut Sink<'_>, paths: &BTreeMap<&str, Vec<Listener<'_>>>) {
    let mut first: Vec<(&str, &Listener<'_>)> = paths
        .iter()
        .filter_map(|(path, listeners)| Some((*path, listeners.first()?)))
        .collect();
    first.sort_by_key(|(_, listener)| listener.source.span.start);
    let mut router = Router::new();
    for (path, listener) in first {
        let Err(error) = router.insert(path, ()) else {
            continue;
        };
        let Some(node) = listener.source.get("path") else {
            continue;
        };
        let other = match &error {
            InsertError::Conflict { with } => with.as_str(),
            _ => "",
        };
        let name = listener.name;
        let message = format!("requests for the path of trigger `{name}` go to another path too");
        let label = format!(
            "expected a path that differs from `{}`, found `{}`",
            shorten(other),
            shorten(path)
        );
        let help = if other.contains("{*") == path.contains("{*") {
            "name the parameters the same, or change a part that is no parameter"
        } else {
            "change a part that is no parameter: `{*name}` takes in what `{name}` stands for"
        };
        let mut draft = Draft::error(node.span.clone(), message, label, help);
        let peer = paths.get(other).and_then(|listeners| listeners.first());
        if let Some((peer, at)) = peer.and_then(|peer| Some((peer, peer.source.get("path")?))) {
            let label = format!("the path of trigger `{}`", peer.name);
            draft = draft.with(at.span.clone(), label);
        }
        sink.add(draft);
    }
}

/// A client that waits gets one answer, so one trigger gives it.
fn one_answer(sink: &mut Sink<'_>, path: &str, listeners: &[Listener<'_>]) {
    let mut takes: BTreeMap<&str, (&str, &Node)> = BTreeMap::new();
    for listener in listeners.iter().filter(|listener| is_sync(listener)) {
        for method in listener.source.get("methods").map_or(&[][..], Node::list) {
            let Some(word) = method.string() else {
                continue;
            };
            let (taker, at) = *takes.entry(word).or_insert((listener.name, method));
            if taker == listener.name {
                continue;
            }
            let message = format!(
                "triggers `{taker}` and `{}` both answer {word} on path `{path}`",
                listener.name
            );
            let (span, label) = if method.given {
                let label = format!("expected another method, found {word} again");
                (&method.span, label)
            } else {
                let label = format!("expected `methods` without {word}, found the default");
                (&listener.source.span, label)
            };
            let help = "let one trigger answer each method; with mode = \"async\" all may run";
            let draft = Draft::error(span.clone(), message, label, help);
            sink.add(draft.with(at.span.clone(), format!("trigger `{taker}` answers it")));
        }
    }
}

/// Nobody keeps a request whose client waits: it runs once, at once.
fn clients_wait(sink: &mut Sink<'_>, listener: &Listener<'_>) {
    let Some(mode) = listener.source.get("mode").filter(|_| is_sync(listener)) else {
        return;
    };
    let name = listener.name;
    let given = |key: &str| listener.trigger.get(key).filter(|node| node.given);
    let mut tell = |key: &str, node: &Node, why: &str, instead: &str, is_error: bool| {
        let message = format!("`{key}` of trigger `{name}` does nothing with mode = \"sync\"");
        let label = format!("expected no `{key}`: {why}");
        let help = format!("remove it{instead}, or write mode = \"async\"");
        let draft = Draft::error(node.key_span.clone(), message, label, help);
        let draft = draft.with(mode.span.clone(), "the client waits for the reply");
        sink.add(if is_error { draft } else { draft.warning() });
    };
    for key in ["order_by", "batch"] {
        if let Some(node) = given(key) {
            tell(key, node, "requests do not wait for each other", "", true);
        }
    }
    if let Some(node) = given("retry") {
        let instead = " and let the client try again";
        tell(
            "retry",
            node,
            "there is one attempt, and its failure is answered",
            instead,
            false,
        );
    }
    if let Some(node) = given("dead_letter") {
        let why = "a failure is answered, and becomes no dead letter";
        tell("dead_letter", node, why, "", false);
    }
    if let Some(node) = given("unmatched").filter(|node| node.string() == Some("dead-letter")) {
        let why = "what no trigger matches is answered, and kept by nobody";
        tell("unmatched", node, why, "", false);
    }
}

/// A path is taken as it is written: with its slash, or without.
fn ends_with_slash(sink: &mut Sink<'_>, path: &str, listener: &Listener<'_>) {
    let plain = path.trim_end_matches('/');
    if plain.is_empty() || plain == path {
        return;
    }
    let Some(node) = listener.source.get("path") else {
        return;
    };
    let message = format!("the path of trigger `{}` ends with `/`", listener.name);
    let label = format!("expected `{plain}`, which is another path, found `{path}`");
    let help = format!(
        "write \"{plain}\" if requests come without the slash, or \"{path}{{*rest}}\" for all below it"
    );
    sink.add(Draft::error(node.span.clone(), message, label, help).warning());
}

/// What browsers do not take together.
fn cors(sink: &mut Sink<'_>, listener: &Listener<'_>) {
    let Some(cors) = listener.source.table("cors") else {
        return;
    };
    let name = listener.name;
    for key in ["origins", "headers"] {
        let all = cors.get(key).map_or(&[][..], Node::list);
        let Some(any) = all.iter().find(|node| node.string() == Some("*")) else {
            continue;
        };
        if all.len() > 1 {
            let message =
                format!("`http.cors.{key}` of trigger `{name}` names others beside \"*\"");
            let label = "expected \"*\" alone, found a list with others";
            let help = "remove \"*\", or all others: it stands for any";
            sink.add(Draft::error(any.span.clone(), message, label, help));
        }
        if key == "origins" && cors.flag("credentials") {
            let message = format!("trigger `{name}` lets pages of any origin send credentials");
            let label = "expected origins by name, found \"*\"";
            let help = "name the origins, or leave out `credentials`: browsers take no `*` with it";
            let mut draft = Draft::error(any.span.clone(), message, label, help);
            if let Some(credentials) = cors.get("credentials") {
                draft = draft.with(credentials.span.clone(), "they may send credentials");
            }
            sink.add(draft);
        }
    }
}

/// Paths without `verify` on an address that other machines reach. One warning for all: some are
/// meant for everybody.
fn open_to_all<'t>(
    sink: &mut Sink<'_>,
    root: &'t Table,
    listeners: impl Iterator<Item = &'t Listener<'t>>,
) {
    let node = root.table("engine").and_then(|engine| engine.get("http"));
    let Some((node, Value::Address(address))) = node.map(|node| (node, &node.value)) else {
        return;
    };
    if address.ip().to_canonical().is_loopback() {
        return;
    }
    let mut open: Vec<_> = listeners
        .filter(|listener| listener.source.get("verify").is_none())
        .collect();
    open.sort_by_key(|listener| listener.source.span.start);
    let Some(first) = open.first() else {
        return;
    };
    const MOST: usize = 4;
    let names = open
        .iter()
        .take(MOST)
        .map(|listener| format!("`{}`", listener.name));
    let names = match open.len().saturating_sub(MOST) {
        0 => join(names, "and"),
        more => join(names.chain([format!("{more} more")]), "and"),
    };
    let message = format!("whoever reaches this machine may send requests to {names}");
    let label =
        format!("expected `verify` in triggers on a public address, found none on {address}");
    let help = "add verify = { bearer = \"${env:TOKEN}\" } or { hmac_sha256 = ... }, unless it is meant so or a proxy checks";
    let draft = Draft::error(node.span.clone(), message, label, help).warning();
    let label = format!("trigger `{}` asks for no proof", first.name);
    sink.add(draft.with(first.source.span.clone(), label));
}

fn is_sync(listener: &Listener<'_>) -> bool {
    listener.source.string("mode") == "sync"
}
