//! Events that functions emit: who makes those that triggers listen to, and chains that never end.

use std::collections::{BTreeMap, HashSet};

use tidemill_core::limits::HOPS;

use crate::{
    keys::join,
    sink::{Draft, Sink, Span},
    suggest,
    tree::{Node, Table},
    words::shorten,
};

pub(super) fn check(sink: &mut Sink<'_>, root: &Table) {
    let graph = Graph::of(root);
    graph.nothing_emits(sink);
    graph.endless(sink);
}

/// What leads to what: an event type to the triggers that listen to it, a trigger to its function
/// and to the types that it makes of replies and dead letters, a function to the types it may emit.
#[derive(Default)]
struct Graph<'t> {
    nodes: Vec<Part<'t>>,
    /// Whither each leads, and where the file says so.
    edges: Vec<Vec<(usize, &'t Span)>>,
    ids: BTreeMap<Part<'t>, usize>,
    /// The triggers that listen to events, with the type.
    listening: Vec<(usize, &'t Node)>,
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Part<'t> {
    Type(&'t str),
    Trigger(&'t str),
    Function(&'t str),
}

impl<'t> Graph<'t> {
    fn of(root: &'t Table) -> Graph<'t> {
        let mut graph = Graph::default();
        for (name, function) in root.tables("functions") {
            let emit = function.table("allow").and_then(|allow| allow.get("emit"));
            for grant in emit.map_or(&[][..], Node::list) {
                graph.makes(Part::Function(name), Some(grant));
            }
        }
        for (name, trigger) in root.tables("triggers") {
            for place in ["on_success", "dead_letter"] {
                let event = trigger.table(place).and_then(|to| to.table("event"));
                graph.makes(
                    Part::Trigger(name),
                    event.and_then(|event| event.get("type")),
                );
            }
            if let Some(node) = trigger.get("function")
                && let Some(function) = node.string()
            {
                let from = graph.node(Part::Trigger(name));
                let to = graph.node(Part::Function(function));
                graph.edges[from].push((to, &node.span));
            }
            let Some(node) = trigger.table("event").and_then(|event| event.get("type")) else {
                continue;
            };
            let Some(kind) = node.string() else {
                continue;
            };
            let (from, to) = (
                graph.node(Part::Type(kind)),
                graph.node(Part::Trigger(name)),
            );
            graph.listening.push((to, node));
            // Whoever wrote a filter thought of what passes.
            if trigger.get("filter").is_none() {
                graph.edges[from].push((to, &node.span));
            }
        }
        graph.listening.sort_by_key(|(_, node)| node.span.start);
        graph
    }

    fn makes(&mut self, from: Part<'t>, node: Option<&'t Node>) {
        if let Some(node) = node
            && let Some(kind) = node.string()
        {
            let (from, to) = (self.node(from), self.node(Part::Type(kind)));
            self.edges[from].push((to, &node.span));
        }
    }

    fn node(&mut self, part: Part<'t>) -> usize {
        *self.ids.entry(part).or_insert_with(|| {
            self.nodes.push(part);
            self.edges.push(Vec::new());
            self.nodes.len() - 1
        })
    }

    /// A trigger waits for events that nobody makes.
    fn nothing_emits(&self, sink: &mut Sink<'_>) {
        let targets = self.edges.iter().flatten().map(|(to, _)| *to);
        let made: HashSet<&str> = targets
            .filter_map(|to| match self.nodes[to] {
                Part::Type(kind) => Some(kind),
                _ => None,
            })
            .collect();
        for (_, node) in &self.listening {
            let Some(kind) = node.string().filter(|kind| !made.contains(kind)) else {
                continue;
            };
            let shown = shorten(kind);
            let message = format!("nothing emits events of type `{shown}`");
            let label = "expected a type that a function may emit, found another";
            let help = match suggest::closest(kind, made.iter().copied()) {
                Some(near) => format!("did you mean \"{near}\"?"),
                None => format!("let a function emit it: allow = {{ emit = [\"{shown}\"] }}"),
            };
            let draft = Draft::error(node.span.clone(), message, label, help);
            sink.add(draft.warning().absent());
        }
    }

    /// Chains of events that come round. Where the depth-first way meets itself there is one.
    fn endless(&self, sink: &mut Sink<'_>) {
        let mut seen = vec![false; self.nodes.len()];
        let mut told = vec![false; self.nodes.len()];
        for (start, _) in &self.listening {
            if seen[*start] {
                continue;
            }
            // Each part on the way, with the number of its edges that were followed.
            let mut way = vec![(*start, 0)];
            let mut on_way = HashSet::from([*start]);
            seen[*start] = true;
            while let Some((here, followed)) = way.last_mut() {
                let Some((to, _)) = self.edges[*here].get(*followed) else {
                    on_way.remove(here);
                    way.pop();
                    continue;
                };
                *followed += 1;
                if on_way.contains(to) && !told[*to] {
                    let circle = way.iter().map(|(part, _)| *part);
                    let circle: Vec<usize> = circle.skip_while(|part| part != to).collect();
                    if !circle.iter().any(|part| told[*part]) {
                        self.tell(sink, &circle);
                    }
                    circle.iter().for_each(|part| told[*part] = true);
                }
                if !seen[*to] {
                    seen[*to] = true;
                    on_way.insert(*to);
                    way.push((*to, 0));
                }
            }
        }
    }

    /// Tells of parts of which each leads to the next, and the last to the first.
    fn tell(&self, sink: &mut Sink<'_>, circle: &[usize]) {
        let listening = self.listening.iter();
        let Some((first, node)) = listening.into_iter().find(|(id, _)| circle.contains(id)) else {
            return;
        };
        let begin = circle.iter().position(|id| id == first).unwrap_or(0);
        let (after, before) = (&circle[begin..], &circle[..begin]);
        let triggers = after
            .iter()
            .chain(before)
            .filter_map(|id| match self.nodes[*id] {
                Part::Trigger(name) => Some(format!("`{name}`")),
                _ => None,
            });
        let triggers: Vec<String> = triggers.collect();
        let kind = shorten(node.string().unwrap_or_default());
        let message = format!("events of type `{kind}` may lead to new ones, without end");
        let label = match triggers.as_slice() {
            [one] => format!("each runs trigger {one}, which may lead to another"),
            [one, others @ ..] => {
                const MOST: usize = 4;
                let named = join(others.iter().take(MOST).cloned(), "then");
                let more = others.len().saturating_sub(MOST);
                let more = if more > 0 {
                    format!(" and {more} more")
                } else {
                    String::new()
                };
                format!("each runs trigger {one}, that leads to {named}{more}, and back again")
            }
            [] => return,
        };
        let help = format!(
            "see to it that the handlers stop, or give a trigger a `filter`; after {HOPS} hops the event becomes a dead letter"
        );
        let mut draft = Draft::error(node.span.clone(), message, label, help).warning();
        if let Some(span) = self.made_at(circle, node) {
            draft = draft.with(span.clone(), "it is made here");
        }
        sink.add(draft);
    }

    /// Where a part of the circle says that it makes this type of events.
    fn made_at(&self, circle: &[usize], node: &Node) -> Option<&'t Span> {
        let kind = self.ids.get(&Part::Type(node.string()?))?;
        let edges = circle.iter().flat_map(|part| &self.edges[*part]);
        let (_, span) = edges.into_iter().find(|(to, _)| to == kind)?;
        Some(span)
    }
}
