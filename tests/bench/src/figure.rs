//! A figure: one quantity of the engine beside the same of its floor.

use serde::Serialize;

use crate::measure::{Samples, Spread};

/// Which way is better.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Better {
    Higher,
    Lower,
}

/// What is published of a figure, in these words.
#[derive(Serialize)]
pub struct Published {
    pub name: String,
    pub unit: String,
    pub engine: f64,
    pub floor: f64,
    pub ratio: f64,
    /// What the ratio should reach, or stay below. Absent: a figure to know, not to hold.
    pub goal: Option<f64>,
    pub met: Option<bool>,
}

/// A figure with its spread.
pub struct Figure {
    pub name: String,
    pub unit: &'static str,
    pub better: Better,
    pub engine: Spread,
    pub floor: Spread,
    pub goal: Option<f64>,
    /// What the floor is, in a sentence.
    pub floor_is: &'static str,
}

impl Figure {
    /// Events a second.
    pub fn rate(
        name: &str,
        goal: Option<f64>,
        floor_is: &'static str,
        samples: &Samples,
    ) -> Figure {
        let unit = ("events/s", Better::Higher);
        Figure::new(name, unit, goal, floor_is, samples, |sample| sample.rate)
    }

    /// CPU of the process for each event.
    pub fn cpu(name: &str, goal: Option<f64>, floor_is: &'static str, samples: &Samples) -> Figure {
        let unit = ("us CPU/event", Better::Lower);
        Figure::new(name, unit, goal, floor_is, samples, |sample| sample.cpu)
    }

    /// Anything of which less is better.
    pub fn least<T>(
        name: &str,
        unit: &'static str,
        goal: Option<f64>,
        floor_is: &'static str,
        samples: &Samples<T>,
        value: fn(&T) -> f64,
    ) -> Figure {
        Figure::new(name, (unit, Better::Lower), goal, floor_is, samples, value)
    }

    /// What stays below a bound, and has no floor but that.
    pub fn within(
        name: &str,
        unit: &'static str,
        bound: f64,
        bound_is: &'static str,
        values: impl IntoIterator<Item = f64>,
    ) -> Figure {
        Figure {
            name: name.to_owned(),
            unit,
            better: Better::Lower,
            engine: Spread::of(values),
            floor: Spread::of([bound]),
            goal: Some(1.0),
            floor_is: bound_is,
        }
    }

    fn new<T>(
        name: &str,
        (unit, better): (&'static str, Better),
        goal: Option<f64>,
        floor_is: &'static str,
        samples: &Samples<T>,
        value: fn(&T) -> f64,
    ) -> Figure {
        Figure {
            name: name.to_owned(),
            unit,
            better,
            engine: Spread::of(samples.engine.iter().map(value)),
            floor: Spread::of(samples.floor.iter().map(value)),
            goal,
            floor_is,
        }
    }

    /// Engine over floor, of the medians.
    pub fn ratio(&self) -> f64 {
        self.engine.median / self.floor.median
    }

    /// Whether the goal is met.
    pub fn met(&self) -> Option<bool> {
        let ratio = self.ratio();
        self.goal.map(|goal| match self.better {
            Better::Higher => ratio >= goal,
            Better::Lower => ratio <= goal,
        })
    }

    /// As it is published.
    pub fn published(&self) -> Published {
        Published {
            name: self.name.clone(),
            unit: self.unit.to_owned(),
            engine: rounded(self.engine.median),
            floor: rounded(self.floor.median),
            ratio: rounded(self.ratio()),
            goal: self.goal,
            met: self.met(),
        }
    }
}

/// To what the measurement can tell.
fn rounded(value: f64) -> f64 {
    if value >= 100.0 {
        value.round()
    } else {
        (value * 100.0).round() / 100.0
    }
}
