//! What the command line says of itself, and to those who mistype: as snapshots, to be read by people.

use std::{fmt::Write, fs};

use insta::assert_snapshot;

use crate::harness::Site;

const CONFIG: &str = r#"
[buckets.in]
url = "file:buckets/in"
[functions.probe]
component = "PROBE"
allow = { read = ["in"] }
[triggers.arrived]
function = "probe"
bucket = { name = "in" }
[triggers.nightly]
function = "probe"
schedule = { cron = "0 2 * * *" }
"#;

/// The names below `Commands:`.
fn commands(help: &str) -> Vec<String> {
    let lines = help.lines().skip_while(|line| *line != "Commands:").skip(1);
    let lines = lines.take_while(|line| !line.is_empty());
    let names = lines.filter_map(|line| line.strip_prefix("  ")?.split(' ').next());
    let names = names.filter(|name| !name.is_empty() && *name != "help");
    names.map(str::to_owned).collect()
}

fn collect(site: &Site, path: &[&str], all: &mut String) {
    let help = site.succeeds(&[path, &["--help"]].concat());
    let name = ["tidemill"].iter().chain(path).copied();
    let name = name.collect::<Vec<_>>().join(" ");
    writeln!(all, "==== {name} --help\n{help}").expect("a string takes all");
    for command in commands(&help) {
        collect(site, &[path, &[&command]].concat(), all);
    }
}

#[test]
fn every_command_has_help() {
    let mut all = String::new();
    collect(&Site::new(CONFIG), &[], &mut all);
    assert!(all.contains("==== tidemill dead-letters redrive --help"));
    assert_snapshot!(all);
}

#[test]
fn slips_are_answered_with_the_next_step() {
    let site = Site::new(CONFIG);
    let id = "00000000000000000000000000000000";
    let slips: &[&[&str]] = &[
        &[],
        &["rnu"],
        &["dead-letters", "redriv"],
        &["run", "--cofnig", "tidemill.toml"],
        &["run", "tidemil.toml"],
        &["check", "tidemil.toml"],
        &["invoke"],
        &["invoke", "prob"],
        &["invoke", "probe", "--data", "@event.json"],
        &[
            "invoke",
            "probe",
            "--data",
            r#"{"specversion": "1.0", "type": 5}"#,
        ],
        &["dead-letters", "list"],
        &["dead-letters", "list", "--trigger", "arrivd"],
        &["dead-letters", "list", "--cause", "trap"],
        &["dead-letters", "list", "--since", "yesterday"],
        &[
            "dead-letters",
            "list",
            "--since",
            "2027-01-02T00:00:00Z",
            "--until",
            "2027-01-01T00:00:00Z",
        ],
        &["dead-letters", "list", "--limit", "many"],
        &["dead-letters", "show"],
        &["dead-letters", "show", "1234"],
        &["dead-letters", "show", id],
        &["dead-letters", "redrive"],
        &["dead-letters", "redrive", id, "--all"],
        &["dead-letters", "redrive", id, "--trigger", "arrived"],
        &["dead-letters", "redrive", "--all", "--rate", "fast"],
        &["dead-letters", "redrive", "--all", "--rate", "50/d"],
        &["dead-letters", "redrive", id],
        &["dead-letters", "purge"],
        &["dead-letters", "purge", id],
        &["dead-letters", "purge", id, "--yes"],
        &["buckets", "status", "out"],
        &["functions", "list", "porbe"],
        &["usage", "--function", "nobody"],
        &["usage", "--since", "monday"],
        &["usage", "--since", "2027-01-02", "--until", "2027-01-01"],
        &["schedule", "preview", "nihgtly"],
        &["schedule", "preview", "--next", "0"],
        &["schedule", "preview", "--from", "tomorrow"],
        &["events", "tail"],
        &["events", "tail", "--trigger", "nothing"],
        &["events", "tail", "--outcome", "failed"],
        &["completions", "tcsh"],
        &["new", "probe", "--lang", "cobol"],
        &["build", "nowhere"],
    ];
    let (before, with) = slips.split_at(10);
    let mut all = String::new();
    let mut tell = |slips: &[&[&str]]| {
        for slip in slips {
            let (code, error) = site.fails(slip);
            let typed = slip.join(" ");
            writeln!(all, "$ tidemill {typed}\n{error}[{code}]\n").expect("a string takes all");
        }
    };
    tell(before);
    // Before the first start there is no journal.
    tell(&[
        &["dead-letters", "list"],
        &["usage"],
        &["buckets", "status"],
    ]);
    let engine = {
        site.bucket("in");
        site.start()
    };
    engine.stop();
    tell(&with[1..]);
    fs::write(site.path("tidemill.toml"), "[engin]\n").expect("it is written");
    tell(&[&["dead-letters", "list"]]);
    assert_snapshot!(all);
}
