//! Files without errors: what plan they give, and what they are told all the same.

mod defaults;
mod examples;
mod promises;
mod sources;
mod warnings;

use std::path::Path;

use tidemill_config::{
    Loaded, parse,
    plan::{HttpSource, Plan, SourcePlan, TriggerPlan},
};

fn loaded(text: &str) -> Loaded {
    parse(Path::new("/srv/tide/tidemill.toml"), text).unwrap_or_else(|invalid| panic!("{invalid}"))
}

/// The warnings, one in a line, in the order of the file.
fn warned(text: &str) -> Vec<String> {
    let warnings = loaded(text).warnings;
    warnings
        .iter()
        .map(|problem| format!("{}: {}", problem.at.line, problem.message))
        .collect()
}

fn trigger<'p>(plan: &'p Plan, name: &str) -> &'p TriggerPlan {
    &plan.triggers[name]
}

fn http(trigger: &TriggerPlan) -> &HttpSource {
    match &trigger.source {
        SourcePlan::Http(source) => source,
        other => panic!("{other:?}"),
    }
}
