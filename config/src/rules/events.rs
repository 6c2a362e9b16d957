//! Events that functions emit: who makes those that triggers listen to, and chains that never end,
//! over objects that functions write too.

use std::collections::{BTreeMap, HashSet};

use tidemill_core::limits::HOPS;

use crate::{
    build::after,
    keys::join,
    plan::After,
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

/// What leads to what: an event type or a bucket to the triggers that listen to it, a trigger to its
/// function, to the types and buckets that its replies and dead letters go to and to the bucket its
/// objects move to, a function to the types it may emit and the buckets it may write.
#[derive(Default)]
struct Graph<'t> {
    nodes: Vec<Part<'t>>,
    /// Whither each leads, and where the file says so.
    edges: Vec<Vec<(usize, &'t Span)>>,
    ids: BTreeMap<Part<'t>, usize>,
    /// The triggers that listen to events or objects: what they listen to, and where they say so.
    listening: Vec<(usize, Part<'t>, &'t Node)>,
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Part<'t> {
    Type(&'t str),
    Bucket(&'t str),
    Trigger(&'t str),
    Function(&'t str),
}

impl<'t> Graph<'t> {
    fn of(root: &'t Table) -> Graph<'t> {
        let mut graph = Graph::default();
        for (name, function) in root.tables("functions") {
            let granted = |key| {
                let grants = function.table("allow").and_then(|allow| allow.get(key));
                grants.map_or(&[][..], Node::list)
            };
            for grant in granted("emit") {
                graph.makes(Part::Function(name), Part::Type, Some(grant));
            }
            for grant in granted("write") {
                graph.makes(Part::Function(name), Part::Bucket, Some(grant));
            }
        }
        for (name, trigger) in root.tables("triggers") {
            for place in ["on_success", "dead_letter"] {
                let to = |kind, key| {
                    let to = trigger.table(place).and_then(|to| to.table(kind));
                    to.and_then(|to| to.get(key))
                };
                graph.makes(Part::Trigger(name), Part::Type, to("event", "type"));
                graph.makes(Part::Trigger(name), Part::Bucket, to("bucket", "name"));
            }
            if let Some(node) = trigger.get("function")
                && let Some(function) = node.string()
            {
                let from = graph.node(Part::Trigger(name));
                let to = graph.node(Part::Function(function));
                graph.edges[from].push((to, &node.span));
            }
            if let Some(event) = trigger.table("event") {
                // Whoever wrote a filter thought of what passes.
                let all = trigger.get("filter").is_none();
                graph.hears(name, Part::Type, event.get("type"), all);
            }
            if let Some(bucket) = trigger.table("bucket") {
                if let After::Move { .. } = after(bucket) {
                    let to = bucket.table("after").and_then(|after| after.table("move"));
                    let to = to.and_then(|to| to.get("bucket"));
                    graph.makes(Part::Trigger(name), Part::Bucket, to);
                }
                let comes = bucket.strings("on").iter().any(|on| on == "created");
                // And so did whoever wrote a prefix.
                let all = bucket.string("prefix").is_empty() && trigger.get("filter").is_none();
                graph.hears(name, Part::Bucket, bucket.get("name"), comes && all);
            }
        }
        graph.listening.sort_by_key(|(_, _, node)| node.span.start);
        graph
    }

    fn makes(&mut self, from: Part<'t>, what: fn(&'t str) -> Part<'t>, node: Option<&'t Node>) {
        if let Some(node) = node
            && let Some(name) = node.string()
        {
            let (from, to) = (self.node(from), self.node(what(name)));
            self.edges[from].push((to, &node.span));
        }
    }

    /// A trigger listens; `all`: whatever comes, it runs.
    fn hears(
        &mut self,
        trigger: &'t str,
        what: fn(&'t str) -> Part<'t>,
        node: Option<&'t Node>,
        all: bool,
    ) {
        if let Some(node) = node
            && let Some(name) = node.string()
        {
            let (from, to) = (self.node(what(name)), self.node(Part::Trigger(trigger)));
            self.listening.push((to, what(name), node));
            if all {
                self.edges[from].push((to, &node.span));
            }
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
        for (_, heard, node) in &self.listening {
            let Part::Type(kind) = *heard else {
                continue;
            };
            if made.contains(kind) {
                continue;
            }
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
        for (start, ..) in &self.listening {
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
        let Some((first, heard, node)) = listening.into_iter().find(|(id, heard, _)| {
            let part = self.ids.get(heard);
            circle.contains(id) && part.is_some_and(|part| circle.contains(part))
        }) else {
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
        let what = match heard {
            Part::Bucket(name) => {
                // Of a trigger that comes back to its own bucket, `loops` tells.
                if triggers.len() == 1 {
                    return;
                }
                format!("objects of bucket `{}`", shorten(name))
            }
            _ => format!(
                "events of type `{}`",
                shorten(node.string().unwrap_or_default())
            ),
        };
        let message = format!("{what} may lead to new ones, without end");
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
        let narrow = match heard {
            Part::Bucket(_) => {
                "write elsewhere, or give a trigger a `prefix` that is not written under"
            }
            _ => "give a trigger a `filter`",
        };
        let help = format!(
            "see to it that the handlers stop, or {narrow}; after {HOPS} hops the event becomes a dead letter"
        );
        let mut draft = Draft::error(node.span.clone(), message, label, help).warning();
        if let Some(span) = self.made_at(circle, *heard) {
            draft = draft.with(span.clone(), "it is made here");
        }
        sink.add(draft);
    }

    /// Where a part of the circle says that it makes these.
    fn made_at(&self, circle: &[usize], heard: Part<'t>) -> Option<&'t Span> {
        let made = self.ids.get(&heard)?;
        let edges = circle.iter().flat_map(|part| &self.edges[*part]);
        let (_, span) = edges.into_iter().find(|(to, _)| to == made)?;
        Some(span)
    }
}
