//! The report: a table for the terminal, report.json for programs, REPORT.md for people.

use std::{fmt::Write as _, fs, path::Path};

use anyhow::{Context, Result};

use crate::{
    figure::{Better, Figure, Published},
    machine,
    measure::Spread,
};

/// The width of a bar of 1.0, in characters.
const BAR: f64 = 40.0;

/// The figures as a table in Markdown.
pub fn table(figures: &[Figure]) -> String {
    let mut text = String::from(
        "| figure | unit | better | engine (least..most) | floor (least..most) | ratio | goal | met |\n\
         |---|---|---|---|---|---|---|---|\n",
    );
    for figure in figures {
        let (better, sign) = match figure.better {
            Better::Higher => ("higher", ">="),
            Better::Lower => ("lower", "<="),
        };
        let goal = figure
            .goal
            .map_or_else(|| "-".to_owned(), |goal| format!("{sign} {goal}"));
        let met = match figure.met() {
            Some(true) => "yes",
            Some(false) => "**no**",
            None => "-",
        };
        let line = format!(
            "| {} | {} | {better} | {} | {} | {:.2} | {goal} | {met} |\n",
            figure.name,
            figure.unit,
            spread(figure.engine),
            spread(figure.floor),
            figure.ratio(),
        );
        text.push_str(&line);
    }
    text
}

/// Writes both files.
pub fn write(folder: &Path, figures: &[Figure]) -> Result<()> {
    let published: Vec<Published> = figures.iter().map(Figure::published).collect();
    let mut json = serde_json::to_string_pretty(&published)?;
    json.push('\n');
    for (name, text) in [("report.json", json), ("REPORT.md", markdown(figures))] {
        let path = folder.join(name);
        fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))?;
        println!("Wrote {}", path.display());
    }
    Ok(())
}

fn markdown(figures: &[Figure]) -> String {
    let mut text = String::from(
        "# Benchmarks\n\n\
         Written by `make bench`; never edited by hand. Each figure of the engine stands beside a bare floor: the same\n\
         work with the bare libraries and no engine, measured in the same run, in turn with it. The ratio is engine over\n\
         floor, of the medians. Engine, floor and brokers share the machine, so only ratios from one run mean anything.\n\n",
    );
    for (what, value) in machine::description() {
        writeln!(text, "- {what}: {value}").expect("a string takes everything");
    }
    text.push_str("\n## Figures\n\n");
    text.push_str(&table(figures));
    text.push_str("\n## Ratios\n\nEngine over floor; `|` is the goal.\n\n```\n");
    let width = figures
        .iter()
        .map(|figure| figure.name.len())
        .max()
        .unwrap_or(0);
    for figure in figures {
        let bar = bar(figure.ratio(), figure.goal);
        let better = match figure.better {
            Better::Higher => "higher is better",
            Better::Lower => "lower is better",
        };
        writeln!(
            text,
            "{:width$}  {bar} {:.2}, {better}",
            figure.name,
            figure.ratio()
        )
        .expect("a string takes everything");
    }
    text.push_str("```\n\n## What the floors are\n\n");
    let mut last = "";
    for figure in figures {
        if figure.floor_is != last {
            writeln!(text, "- **{}**: {}", figure.name, figure.floor_is)
                .expect("a string takes everything");
            last = figure.floor_is;
        }
    }
    text
}

fn bar(ratio: f64, goal: Option<f64>) -> String {
    let length = |value: f64| (value.clamp(0.0, 2.5) * BAR).round() as usize;
    let mut bar: Vec<char> = vec!['#'; length(ratio)];
    if let Some(goal) = goal.map(length) {
        bar.resize(bar.len().max(goal + 1), ' ');
        bar[goal] = '|';
    }
    bar.into_iter().collect()
}

fn spread(of: Spread) -> String {
    format!(
        "{} ({}..{})",
        number(of.median),
        number(of.least),
        number(of.most)
    )
}

fn number(value: f64) -> String {
    if value >= 100.0 {
        format!("{value:.0}")
    } else if value < 1.0 {
        format!("{value:.2}")
    } else {
        format!("{value:.1}")
    }
}
