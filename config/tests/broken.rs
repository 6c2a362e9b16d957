//! What a person reads about every file in `broken/`: each has its text beside it in a `.snap`.
//! After a change, read the new texts as if you had written the file late at night, then accept them
//! with `INSTA_UPDATE=always cargo test -p tidemill-config`.

use std::{fs, path::Path};

use tidemill_config::{Invalid, Loaded, Place, parse};

const FOLDER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/broken");

/// The name of each file in `broken/`, without its ending, and its text.
fn files() -> Vec<(String, String)> {
    let entries = fs::read_dir(FOLDER)
        .unwrap()
        .map(|entry| entry.unwrap().path());
    let mut files: Vec<_> = entries
        .filter(|path| {
            path.extension()
                .is_some_and(|extension| extension == "toml")
        })
        .map(|path| {
            let name = path.file_stem().unwrap().to_str().unwrap().to_owned();
            (name, fs::read_to_string(&path).unwrap())
        })
        .collect();
    files.sort();
    assert!(files.len() > 30, "{} files", files.len());
    files
}

fn broken(text: &str) -> Invalid {
    match parse(Path::new("/srv/tide/tidemill.toml"), text) {
        Ok(Loaded { warnings, .. }) => panic!("no error, but {warnings:?} in\n{text}"),
        Err(invalid) => invalid,
    }
}

#[test]
fn every_problem_reads_well() {
    let mut settings = insta::Settings::clone_current();
    settings.set_snapshot_path(FOLDER);
    settings.set_prepend_module_to_snapshot(false);
    settings.set_omit_expression(true);
    settings.bind(|| {
        for (name, text) in files() {
            insta::assert_snapshot!(name, broken(&text).to_string());
        }
    });
}

#[test]
fn every_problem_has_a_place_a_finding_and_a_next_step() {
    for (name, text) in files() {
        let problems = broken(&text).problems;
        assert!(
            problems.is_sorted_by_key(|problem| problem.at.span.start),
            "{name}"
        );
        for problem in problems {
            let Place {
                line, column, span, ..
            } = &problem.at;
            let before = &text[..span.start];
            let start = before.rfind('\n').map_or(0, |n| n + 1);
            assert_eq!(*line, before.matches('\n').count() + 1, "{name}: {problem}");
            assert_eq!(
                *column,
                text[start..span.start].chars().count() + 1,
                "{name}: {problem}"
            );
            let shown = format!("tidemill.toml:{line}:{column}");
            assert!(problem.to_string().contains(&shown), "{name}: {problem}");
            for part in [&problem.message, &problem.label, &problem.help] {
                assert!(
                    !part.is_empty() && !part.ends_with(['.', ' ']) || part.contains(". "),
                    "{name}: {problem}"
                );
            }
        }
    }
}

#[test]
fn no_secret_is_shown() {
    for (name, text) in files() {
        let invalid = broken(&text);
        let json = serde_json::to_string(&invalid.problems).unwrap();
        for shown in [
            invalid.to_string(),
            invalid.render(true),
            format!("{invalid:?}"),
            json,
        ] {
            assert!(!shown.contains("hunter"), "{name}: {shown}");
        }
    }
}

#[test]
fn programs_get_the_same() {
    let problem = &broken("[engine]\ndta = 1\n").problems[0];
    insta::assert_snapshot!(serde_json::to_string_pretty(problem).unwrap());
}

#[test]
fn colour_only_adds_escape_codes() {
    let invalid = broken("[engine]\ndta = 1\n");
    let coloured = invalid.render(true);
    assert!(coloured.contains("\u{1b}[") && !invalid.to_string().contains('\u{1b}'));
}
