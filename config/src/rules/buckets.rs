//! Object stores: options that a store does not have, keys of which one half is missing, and secrets
//! that stand in the file.

use crate::{
    keys::join,
    plan::{Provider, Store},
    sink::{Draft, Sink},
    tree::{Node, Table, Value},
};

/// Which options which stores have; the rest is for all of them.
const OF: &[(&str, Provider)] = &[
    ("region", Provider::S3),
    ("path_style", Provider::S3),
    ("access_key_id", Provider::S3),
    ("secret_access_key", Provider::S3),
    ("session_token", Provider::S3),
    ("profile", Provider::S3),
    ("account", Provider::Az),
    ("access_key", Provider::Az),
    ("service_account", Provider::Gs),
];

/// What lets somebody in who reads it.
const SECRETS: &[&str] = &[
    "secret_access_key",
    "session_token",
    "access_key",
    "service_account",
];

pub(super) fn check(sink: &mut Sink<'_>, root: &Table) {
    for (name, bucket) in root.tables("buckets") {
        let (Some(url), Some(options)) = (bucket.get("url"), bucket.get("options")) else {
            continue;
        };
        let Some(table) = options.table() else {
            continue;
        };
        match &url.value {
            Value::Store(Store::File { .. }) => no_options(sink, name, url, options, table),
            Value::Store(Store::Remote { provider, .. }) => {
                of_others(sink, name, *provider, table);
                halves(sink, name, table);
                two_keys(sink, name, table);
                in_the_file(sink, name, table);
            }
            _ => {}
        }
    }
}

/// Sizes between which there are none, and those of objects that are gone.
pub(super) fn check_trigger(sink: &mut Sink<'_>, name: &str, trigger: &Table) {
    let Some(bucket) = trigger.table("bucket") else {
        return;
    };
    let (least, most) = (bucket.get("min_size"), bucket.get("max_size"));
    if let (Some(least), Some(most)) = (least, most)
        && bucket.whole("min_size") > bucket.whole("max_size")
    {
        let message = format!("no object has a size for trigger `{name}`");
        let label = "expected `min_size` to be at most `max_size`";
        let help = "exchange the two";
        let draft = Draft::error(least.span.clone(), message, label, help);
        sink.add(draft.with(most.span.clone(), "it is less than the least size"));
    }
}

fn given(table: &Table) -> impl Iterator<Item = (&String, &Node)> {
    table.entries.iter().filter(|(_, node)| node.given)
}

/// A folder needs no endpoint, region or keys.
fn no_options(sink: &mut Sink<'_>, name: &str, url: &Node, options: &Node, table: &Table) {
    if given(table).next().is_none() {
        return;
    }
    let message = format!("bucket `{name}` is a folder and takes no options");
    let label = "expected no options, found some";
    let draft = Draft::error(options.key_span.clone(), message, label, "remove `options`");
    sink.add(draft.with(url.span.clone(), "the folder is named here"));
}

/// An option that the store does not have would be taken for granted in vain.
fn of_others(sink: &mut Sink<'_>, name: &str, provider: Provider, table: &Table) {
    let not_its_own = |option: &str| {
        let of = OF.iter().find(|(own, _)| *own == option);
        of.is_some_and(|(_, of)| *of != provider)
    };
    for (option, node) in given(table).filter(|(option, _)| not_its_own(option)) {
        let scheme = provider.scheme();
        let message = format!("bucket `{name}` is on {scheme}://, which has no option `{option}`");
        let own = crate::keys::children("buckets.*.options").map(|key| key.name());
        let own = own.filter(|own| !not_its_own(own));
        let label = format!("expected {}", join(own.map(str::to_owned), "or"));
        sink.add(Draft::error(
            node.key_span.clone(),
            message,
            label,
            "remove it",
        ));
    }
}

/// Each half of a key is nothing without the other.
fn halves(sink: &mut Sink<'_>, name: &str, table: &Table) {
    for (half, other, example) in [
        (
            "access_key_id",
            "secret_access_key",
            "AWS_SECRET_ACCESS_KEY",
        ),
        ("secret_access_key", "access_key_id", "AWS_ACCESS_KEY_ID"),
        ("session_token", "access_key_id", "AWS_ACCESS_KEY_ID"),
        ("access_key", "account", "AZURE_STORAGE_ACCOUNT_NAME"),
    ] {
        let (Some(node), None) = (table.get(half), table.get(other)) else {
            continue;
        };
        let message = format!("bucket `{name}` has `{half}`, but no `{other}`");
        let label = format!("expected `{other}` beside it");
        let help = format!("add {other} = \"${{env:{example}}}\", or remove `{half}`");
        sink.add(Draft::error(node.key_span.clone(), message, label, help));
    }
}

/// Keys of the plan, and those of a profile.
fn two_keys(sink: &mut Sink<'_>, name: &str, table: &Table) {
    for other in ["access_key_id", "anonymous"] {
        let (Some(profile), Some(node)) = (table.get("profile"), table.get(other)) else {
            continue;
        };
        if !node.given || (other == "anonymous" && !table.flag("anonymous")) {
            continue;
        }
        let message = format!("bucket `{name}` has a `profile` and `{other}`");
        let label = "expected one of them";
        let draft = Draft::error(profile.key_span.clone(), message, label, "remove one");
        sink.add(draft.with(node.key_span.clone(), "the other"));
    }
}

/// A file is shown, copied and committed.
fn in_the_file(sink: &mut Sink<'_>, name: &str, table: &Table) {
    for option in SECRETS {
        let Some(node) = table.get(option) else {
            continue;
        };
        let Value::Text(text) = &node.value else {
            continue;
        };
        if text.has_reference() {
            continue;
        }
        let message = format!("`options.{option}` of bucket `{name}` stands in the file itself");
        let label = "expected a reference: ${env:NAME} or ${file:PATH}";
        let help =
            "whoever reads the file has it: put it into the environment, or into a file of its own";
        sink.add(Draft::error(node.key_span.clone(), message, label, help).warning());
    }
}
