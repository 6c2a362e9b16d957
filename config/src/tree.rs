//! The typed values of a file, as the walk leaves them: checked one by one, defaults filled in.
//!
//! A value with a problem is `Bad`, and reads as absent or empty. That is harmless: the plan made
//! of it is thrown away because of the problem.

use std::{
    collections::BTreeMap,
    net::{Ipv4Addr, SocketAddr},
    path::PathBuf,
    time::Duration,
};

use tidemill_core::{
    filter::{Condition, Pattern},
    rate::Rate,
    selector::Selector,
    time::Timestamp,
};

use crate::{plan::Store, reference::Text, sink::Span};

/// A value and where it stands.
#[derive(Clone, Debug)]
pub(crate) struct Node {
    /// The value; of a default, the table it would be in.
    pub span: Span,
    /// Its key; of a default, the table it would be in.
    pub key_span: Span,
    pub value: Value,
    /// Whether it stands in the file.
    pub given: bool,
}

/// Where a value stands is no part of it.
impl PartialEq for Node {
    fn eq(&self, other: &Node) -> bool {
        self.value == other.value
    }
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Value {
    Flag(bool),
    /// A number, or a number of bytes.
    Whole(u64),
    Duration(Duration),
    String(String),
    Text(Text),
    Path(PathBuf),
    Address(SocketAddr),
    Store(Store),
    Selector(Selector),
    Rate(Rate),
    Instant(Timestamp),
    Patterns(Vec<Pattern>),
    /// The patterns of a tree of fields.
    Conditions(Vec<Condition>),
    List(Vec<Node>),
    Table(Table),
    Bad,
}

#[derive(Clone, Debug)]
pub(crate) struct Table {
    /// Its header, or its braces.
    pub span: Span,
    pub entries: BTreeMap<String, Node>,
}

impl PartialEq for Table {
    fn eq(&self, other: &Table) -> bool {
        self.entries == other.entries
    }
}

impl Node {
    pub(crate) fn table(&self) -> Option<&Table> {
        match &self.value {
            Value::Table(table) => Some(table),
            _ => None,
        }
    }

    pub(crate) fn string(&self) -> Option<&str> {
        match &self.value {
            Value::String(text) => Some(text),
            _ => None,
        }
    }

    pub(crate) fn list(&self) -> &[Node] {
        match &self.value {
            Value::List(nodes) => nodes,
            _ => &[],
        }
    }
}

impl Table {
    pub(crate) fn get(&self, key: &str) -> Option<&Node> {
        self.entries.get(key)
    }

    pub(crate) fn table(&self, key: &str) -> Option<&Table> {
        self.get(key)?.table()
    }

    /// The tables in the table `key`, by name.
    pub(crate) fn tables(&self, key: &str) -> impl Iterator<Item = (&String, &Table)> {
        let entries = self.table(key).into_iter().flat_map(|table| &table.entries);
        entries.filter_map(|(name, node)| Some((name, node.table()?)))
    }

    pub(crate) fn flag(&self, key: &str) -> bool {
        matches!(
            self.get(key).map(|node| &node.value),
            Some(Value::Flag(true))
        )
    }

    pub(crate) fn whole(&self, key: &str) -> u64 {
        match self.get(key).map(|node| &node.value) {
            Some(Value::Whole(n)) => *n,
            _ => 0,
        }
    }

    pub(crate) fn duration(&self, key: &str) -> Duration {
        match self.get(key).map(|node| &node.value) {
            Some(Value::Duration(duration)) => *duration,
            _ => Duration::ZERO,
        }
    }

    pub(crate) fn string(&self, key: &str) -> String {
        self.get(key)
            .and_then(Node::string)
            .unwrap_or_default()
            .to_owned()
    }

    pub(crate) fn strings(&self, key: &str) -> Vec<String> {
        let nodes = self.get(key).map_or(&[][..], Node::list);
        nodes
            .iter()
            .filter_map(Node::string)
            .map(str::to_owned)
            .collect()
    }

    pub(crate) fn path(&self, key: &str) -> PathBuf {
        match self.get(key).map(|node| &node.value) {
            Some(Value::Path(path)) => path.clone(),
            _ => PathBuf::new(),
        }
    }

    pub(crate) fn address(&self, key: &str) -> SocketAddr {
        match self.get(key).map(|node| &node.value) {
            Some(Value::Address(address)) => *address,
            _ => (Ipv4Addr::LOCALHOST, 0).into(),
        }
    }

    pub(crate) fn selector(&self, key: &str) -> Option<Selector> {
        match &self.get(key)?.value {
            Value::Selector(selector) => Some(selector.clone()),
            _ => None,
        }
    }

    pub(crate) fn rate(&self, key: &str) -> Option<Rate> {
        match &self.get(key)?.value {
            Value::Rate(rate) => Some(*rate),
            _ => None,
        }
    }

    pub(crate) fn instant(&self, key: &str) -> Option<Timestamp> {
        match &self.get(key)?.value {
            Value::Instant(at) => Some(*at),
            _ => None,
        }
    }

    pub(crate) fn patterns(&self, key: &str) -> Option<&[Pattern]> {
        match &self.get(key)?.value {
            Value::Patterns(patterns) => Some(patterns),
            _ => None,
        }
    }

    pub(crate) fn conditions(&self, key: &str) -> &[Condition] {
        match self.get(key).map(|node| &node.value) {
            Some(Value::Conditions(conditions)) => conditions,
            _ => &[],
        }
    }

    pub(crate) fn text(&self, key: &str) -> Option<Text> {
        match &self.get(key)?.value {
            Value::Text(text) => Some(text.clone()),
            _ => None,
        }
    }

    pub(crate) fn texts(&self, key: &str) -> BTreeMap<String, Text> {
        let entries = self.table(key).into_iter().flat_map(|table| &table.entries);
        let texts = entries.filter_map(|(name, node)| match &node.value {
            Value::Text(text) => Some((name.clone(), text.clone())),
            _ => None,
        });
        texts.collect()
    }
}
