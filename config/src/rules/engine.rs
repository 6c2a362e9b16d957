//! The engine's own settings: who may reach it, and what its folder must not be.

use std::{net::SocketAddr, path::Path};

use crate::{
    plan::Store,
    sink::{Draft, Sink},
    tree::{Node, Table, Value},
};

pub(super) fn check(sink: &mut Sink<'_>, root: &Table) {
    let Some(engine) = root.table("engine") else {
        return;
    };
    if let Some((admin, node)) = address(engine, "admin") {
        guarded(sink, engine, admin, node);
        if let Some((http, other)) = address(engine, "http") {
            apart(sink, (admin, node), (http, other));
        }
    }
    for (name, bucket) in root.tables("buckets") {
        if let Some(node) = bucket.get("url") {
            outside_data(sink, engine, name, node);
        }
    }
    shared_folders(sink, root);
}

fn address<'t>(engine: &'t Table, key: &str) -> Option<(SocketAddr, &'t Node)> {
    let node = engine.get(key)?;
    match node.value {
        Value::Address(address) => Some((address, node)),
        _ => None,
    }
}

/// Whoever reaches the admin address may do everything.
fn guarded(sink: &mut Sink<'_>, engine: &Table, admin: SocketAddr, node: &Node) {
    if admin.ip().to_canonical().is_loopback() || engine.get("admin_token").is_some() {
        return;
    }
    let message = "`engine.admin` can be reached from other machines, but has no `admin_token`";
    let label = format!(
        "expected a loopback address such as 127.0.0.1:{}, found {admin}",
        admin.port()
    );
    let help =
        "add `admin_token = \"${env:TIDEMILL_ADMIN_TOKEN}\"` to [engine], or bind to 127.0.0.1";
    sink.add(Draft::error(node.span.clone(), message, label, help).absent());
}

/// Two listeners need two addresses.
fn apart(
    sink: &mut Sink<'_>,
    (admin, node): (SocketAddr, &Node),
    (http, other): (SocketAddr, &Node),
) {
    let any = admin.ip().is_unspecified() || http.ip().is_unspecified();
    if admin.port() != http.port() || admin.port() == 0 || !(any || admin.ip() == http.ip()) {
        return;
    }
    let message = "`engine.http` and `engine.admin` are the same address";
    let (at, name, else_at, else_name) = if node.given {
        (node, "admin", other, "http")
    } else {
        (other, "http", node, "admin")
    };
    let label = format!(
        "expected another port for {name}, found {} again",
        admin.port()
    );
    let help = "give one of them another port";
    let mut draft = Draft::error(at.span.clone(), message, label, help);
    if else_at.given {
        draft = draft.with(else_at.span.clone(), format!("{else_name} is here"));
    }
    sink.add(draft);
}

/// A bucket that holds the data folder would see each write of the engine as an object.
fn outside_data(sink: &mut Sink<'_>, engine: &Table, name: &str, node: &Node) {
    let (Some(root), Some(data)) = (folder(node), engine.get("data")) else {
        return;
    };
    let Value::Path(path) = &data.value else {
        return;
    };
    if !path.starts_with(root) {
        return;
    }
    let message = format!("bucket `{name}` contains the engine's data folder");
    let label = format!(
        "expected a folder without {}, found {}",
        path.display(),
        root.display()
    );
    let help =
        "give the bucket a folder of its own: what the engine writes must not become objects";
    let mut draft = Draft::error(node.span.clone(), message, label, help);
    if data.given {
        draft = draft.with(data.span.clone(), "the data folder is here");
    }
    sink.add(draft);
}

fn folder(url: &Node) -> Option<&Path> {
    match &url.value {
        Value::Store(Store::File { root }) => Some(root),
        _ => None,
    }
}

/// Two buckets over the same files see the same objects.
fn shared_folders(sink: &mut Sink<'_>, root: &Table) {
    let urls = root
        .tables("buckets")
        .filter_map(|(name, bucket)| Some((name, bucket.get("url")?)));
    let mut folders: Vec<_> = urls
        .filter_map(|(name, url)| Some((folder(url)?, name, url)))
        .collect();
    // A folder comes right before what is in it.
    folders.sort_by_key(|(folder, _, url)| (*folder, url.span.start));
    let mut outer: Vec<&(&Path, &String, &Node)> = Vec::new();
    for inner in &folders {
        outer.retain(|outer| inner.0.starts_with(outer.0));
        if let Some((_, name, url)) = outer.last() {
            let message = format!("buckets `{name}` and `{}` share files", inner.1);
            let label = format!("expected a folder of its own, found one in that of `{name}`");
            let help = "separate the folders, unless each object is meant to be in both buckets";
            let draft = Draft::error(inner.2.span.clone(), message, label, help).warning();
            sink.add(draft.with(url.span.clone(), format!("the folder of `{name}`")));
        }
        outer.push(inner);
    }
}
