//! Why a component does not fit the engine: which import or export, and what is near it.

use wasmtime::{Engine, component::Component};

use crate::{
    bind::{
        INTERFACES,
        handler::{BATCH_HANDLER, HANDLER},
    },
    load::Problem,
};

/// How alike two names must be to be worth a hint; 1 is the same.
const ALIKE: f64 = 0.85;

/// Why the linker refuses a component.
pub(crate) fn problem(engine: &Engine, component: &Component, error: &wasmtime::Error) -> Problem {
    let ty = component.component_type();
    let imports: Vec<&str> = ty.imports(engine).map(|(name, _)| name).collect();
    let missing = imports
        .iter()
        .find(|name| !INTERFACES.iter().any(|has| fits(has, name)));
    if let Some(import) = missing {
        return absent(import);
    }
    let detail = error
        .chain()
        .skip(1)
        .map(ToString::to_string)
        .collect::<Vec<_>>()
        .join(": ");
    let outer = error.to_string();
    // wasmtime names the instance in its outermost message.
    let named = imports
        .iter()
        .find(|name| outer.contains(&format!("`{name}`")));
    Problem::Types {
        does: "imports",
        interface: named.map_or_else(|| imports.join(", "), ToString::to_string),
        detail: if detail.is_empty() { outer } else { detail },
    }
}

/// Why a component has no handler that the engine could call.
pub(crate) fn no_handler(component: &Component) -> Problem {
    let ty = component.component_type();
    let exports: Vec<&str> = ty
        .exports(component.engine())
        .map(|(name, _)| name)
        .collect();
    let other = [HANDLER, BATCH_HANDLER].into_iter().find_map(|ours| {
        let theirs = exports.iter().find(|name| base(name) == base(ours))?;
        Some((ours, theirs))
    });
    match other {
        Some((ours, theirs)) => version("exports", theirs, &[ours]),
        None => Problem::NoHandler {
            exports: list(&exports, "nothing"),
        },
    }
}

fn absent(import: &str) -> Problem {
    let others: Vec<&str> = INTERFACES
        .iter()
        .copied()
        .filter(|has| base(has) == base(import))
        .collect();
    if !others.is_empty() {
        return version("imports", import, &others);
    }
    let mut near: Vec<(f64, &str)> = INTERFACES
        .iter()
        .map(|has| (strsim::jaro_winkler(base(has), base(import)), *has))
        .filter(|(alike, _)| *alike >= ALIKE)
        .collect();
    near.sort_by(|a, b| b.0.total_cmp(&a.0));
    let near: Vec<&str> = near.into_iter().map(|(_, name)| name).take(3).collect();
    let siblings: Vec<&str> = INTERFACES
        .iter()
        .copied()
        .filter(|has| package(has) == package(import))
        .collect();
    let near = if !siblings.is_empty() {
        format!("of that package it has {}", list(&siblings, ""))
    } else if !near.is_empty() {
        format!("near it are {}", list(&near, ""))
    } else {
        "it has the interfaces of `tidemill:function`, `wasi:keyvalue`, `wasi:config` and WASI 0.2 \
         without HTTP"
            .to_owned()
    };
    Problem::Import {
        import: import.to_owned(),
        near,
    }
}

fn version(does: &'static str, theirs: &str, ours: &[&str]) -> Problem {
    Problem::Version {
        does,
        theirs: theirs.to_owned(),
        ours: list(ours, ""),
        package: package(theirs).to_owned(),
    }
}

/// Whether an interface of the engine serves an import, by the rules of semantic versions.
fn fits(has: &str, import: &str) -> bool {
    base(has) == base(import) && track(has) == track(import)
}

/// The name without its version.
fn base(name: &str) -> &str {
    name.split('@').next().unwrap_or(name)
}

/// The name's package, without interface and version.
fn package(name: &str) -> &str {
    name.split(['/', '@']).next().unwrap_or(name)
}

/// The part of a version that compatible ones share: all of a pre-release, else up to the first number
/// that is not zero.
fn track(name: &str) -> Option<String> {
    let version = name.split_once('@')?.1;
    if version.contains('-') {
        return Some(version.to_owned());
    }
    let mut track = Vec::new();
    for number in version.split('.') {
        track.push(number);
        if number != "0" {
            break;
        }
    }
    Some(track.join("."))
}

/// `a`, `b` and `c`
fn list(names: &[&str], none: &str) -> String {
    let quoted: Vec<String> = names.iter().map(|name| format!("`{name}`")).collect();
    match quoted.split_last() {
        None => none.to_owned(),
        Some((last, [])) => last.clone(),
        Some((last, rest)) => format!("{} and {last}", rest.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_fit_as_the_linker_has_it() {
        let cases = [
            ("a:b/c@0.2.12", "a:b/c@0.2.0", true),
            ("a:b/c@0.2.0", "a:b/c@0.2.12", true),
            ("a:b/c@0.1.0", "a:b/c@0.2.0", false),
            ("a:b/c@1.2.0", "a:b/c@1.9.0", true),
            ("a:b/c@0.0.1", "a:b/c@0.0.2", false),
            ("a:b/c@0.2.0-draft2", "a:b/c@0.2.0-draft", false),
            ("a:b/c@0.2.0-draft2", "a:b/c@0.2.0-draft2", true),
            ("a:b/c@0.2.0", "a:b/c", false),
            ("a:b/c@0.2.0", "a:b/d@0.2.0", false),
        ];
        for (has, import, expected) in cases {
            assert_eq!(fits(has, import), expected, "{has} for {import}");
        }
    }
}
