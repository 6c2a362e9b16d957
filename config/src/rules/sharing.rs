//! Triggers that share a source: settings that must agree.

use std::collections::{BTreeMap, BTreeSet};

use crate::{
    keys::children,
    sink::{Draft, Sink, Span},
    tree::{Node, Table, Value},
};

/// A trigger that listens to a source.
#[derive(Clone, Copy)]
pub(super) struct Listener<'t> {
    pub name: &'t str,
    pub trigger: &'t Table,
    /// What it says of the source.
    pub source: &'t Table,
}

/// Sources that triggers can share.
struct Shared {
    /// The key of the source.
    kind: &'static str,
    /// The keys in it that tell the source from others, the last one for a person.
    identity: &'static [&'static str],
    /// What a source is, for a person.
    what: &'static str,
    /// The keys in it that are about the source.
    settings: &'static [&'static str],
}

const SHARED: [Shared; 5] = [
    Shared {
        kind: "bucket",
        identity: &["name"],
        what: "bucket",
        settings: &["after", "rescan", "start", "notify"],
    },
    Shared {
        kind: "http",
        identity: &["path"],
        what: "path",
        settings: &["mode", "max_body", "verify", "cors"],
    },
    Shared {
        kind: "event",
        identity: &["type"],
        what: "event type",
        settings: &[],
    },
    Shared {
        kind: "amqp",
        identity: &["connection", "queue"],
        what: "queue",
        settings: &["prefetch", "max_payload", "declare"],
    },
    Shared {
        kind: "kafka",
        identity: &["connection", "topics", "group"],
        what: "consumer group",
        settings: &["start", "max_payload"],
    },
];

/// A key that triggers agree on.
struct Setting<'s> {
    /// The table it is in, in the table of keys.
    table: &'s str,
    key: &'static str,
    /// What a source is, for a person.
    what: &'s str,
}

pub(super) fn check(sink: &mut Sink<'_>, root: &Table) {
    for shared in &SHARED {
        let identity = |source| names(source, shared.identity);
        for (names, listeners) in listeners(root, shared.kind, identity) {
            let source = names.last().copied().unwrap_or_default();
            let table = format!("triggers.*.{}", shared.kind);
            for key in shared.settings {
                let what = shared.what;
                let setting = Setting {
                    table: &table,
                    key,
                    what,
                };
                agree(sink, source, &setting, &listeners, |listener| {
                    listener.source
                });
            }
            let setting = Setting {
                table: "triggers.*",
                key: "unmatched",
                what: shared.what,
            };
            agree(sink, source, &setting, &listeners, |listener| {
                listener.trigger
            });
        }
    }
}

/// The triggers of each source of a kind, in the order of the file.
pub(super) fn listeners<'t, K: Ord>(
    root: &'t Table,
    kind: &str,
    identity: impl Fn(&'t Table) -> Option<K>,
) -> BTreeMap<K, Vec<Listener<'t>>> {
    let mut sources: BTreeMap<K, Vec<Listener<'_>>> = BTreeMap::new();
    for (trigger_name, trigger) in root.tables("triggers") {
        let Some(source) = trigger.table(kind) else {
            continue;
        };
        let Some(identity) = identity(source) else {
            continue;
        };
        sources.entry(identity).or_default().push(Listener {
            name: trigger_name,
            trigger,
            source,
        });
    }
    for listeners in sources.values_mut() {
        listeners.sort_by_key(|listener| listener.source.span.start);
    }
    sources
}

/// What stands at a key of a source that names it.
pub(super) fn name<'t>(source: &'t Table, key: &str) -> Option<&'t str> {
    source.get(key).and_then(Node::string)
}

/// The same for several keys; of a list, all that is in it, in the order of the alphabet.
fn names<'t>(source: &'t Table, keys: &[&str]) -> Option<Vec<&'t str>> {
    let mut names = Vec::new();
    for key in keys {
        let node = source.get(key)?;
        match &node.value {
            Value::List(nodes) => {
                let list: Option<BTreeSet<&str>> = nodes.iter().map(Node::string).collect();
                names.extend(list?);
            }
            _ => names.push(node.string()?),
        }
    }
    Some(names)
}

/// All triggers of a source say the same: what becomes of it cannot depend on who asks.
fn agree<'t>(
    sink: &mut Sink<'_>,
    source: &str,
    setting: &Setting<'_>,
    listeners: &[Listener<'t>],
    table: impl Fn(&Listener<'t>) -> &'t Table,
) {
    let Some((first, others)) = listeners.split_first() else {
        return;
    };
    let Setting { key, what, .. } = setting;
    let said = |listener: &Listener<'t>| Said::of(table(listener), key);
    let one = said(first);
    for other in others {
        let two = said(other);
        if one.value == two.value || [&one, &two].iter().any(|said| said.is_broken()) {
            continue;
        }
        // Of the two, what stands in the file is what can be wrong.
        let (at, peer, peer_name) = if two.given {
            (&two, &one, first.name)
        } else {
            (&one, &two, other.name)
        };
        let message = format!(
            "triggers `{}` and `{}` share {what} `{source}`, but not `{key}`",
            first.name, other.name
        );
        let found = if peer.value.is_some() {
            "found another"
        } else {
            "which has none"
        };
        let label = format!("expected the same `{key}` as in trigger `{peer_name}`, {found}");
        let help = match default(setting).filter(|_| !peer.given) {
            Some(default) => format!("write the same `{key}` in both: left out, it is {default}"),
            None => {
                format!("make both the same: `{key}` is about the {what}, not about one trigger")
            }
        };
        let said = if peer.given {
            "says otherwise here"
        } else {
            "says nothing here"
        };
        let draft = Draft::error(at.span.clone(), message, label, help);
        sink.add(draft.with(peer.span.clone(), format!("trigger `{peer_name}` {said}")));
    }
}

/// What a trigger says at a key, or that it says nothing.
struct Said<'t> {
    span: &'t Span,
    value: Option<&'t Value>,
    given: bool,
}

impl<'t> Said<'t> {
    fn of(table: &'t Table, key: &str) -> Said<'t> {
        match table.get(key) {
            Some(node) => Said {
                span: &node.span,
                value: Some(&node.value),
                given: node.given,
            },
            None => Said {
                span: &table.span,
                value: None,
                given: false,
            },
        }
    }

    fn is_broken(&self) -> bool {
        self.value.is_some_and(broken)
    }
}

fn broken(value: &Value) -> bool {
    match value {
        Value::Bad => true,
        Value::Table(table) => table.entries.values().any(|node| broken(&node.value)),
        Value::List(nodes) => nodes.iter().any(|node| broken(&node.value)),
        _ => false,
    }
}

fn default(setting: &Setting<'_>) -> Option<String> {
    let mut keys = children(setting.table);
    let key = keys.find(|known| known.name() == setting.key)?;
    key.default_toml()
}
