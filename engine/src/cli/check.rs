//! `tidemill check`: all that is wrong with a file, without starting anything.

use std::path::Path;

use super::{Failure, load};

pub(super) fn check(file: &Path) -> Result<(), Failure> {
    let plan = load(file)?;
    for part in &plan.not_built {
        println!(
            "note: {}: {} is not built yet: `run` will refuse it",
            part.at, part.what
        );
    }
    for function in plan
        .functions
        .values()
        .filter(|function| !function.component.exists())
    {
        let (name, path) = (&function.name, function.component.display());
        println!("note: function `{name}`: its component {path} is not there yet");
    }
    let parts = [
        (plan.triggers.len(), "trigger"),
        (plan.functions.len(), "function"),
        (plan.buckets.len(), "bucket"),
    ];
    let parts = parts.map(|(n, what)| format!("{n} {what}{}", if n == 1 { "" } else { "s" }));
    println!("{}: fine: {}", file.display(), parts.join(", "));
    Ok(())
}
