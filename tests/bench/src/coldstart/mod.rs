//! Cold starts: the first event of a function over a later one, the memory of functions that nobody calls, and many
//! handlers that sleep at once.

pub mod asleep;
mod first;

use anyhow::Result;

use crate::{Effort, figure::Figure};

/// Measures it.
pub fn run(effort: Effort) -> Result<Vec<Figure>> {
    let mut figures = first::run(effort)?;
    figures.extend(asleep::run(effort)?);
    Ok(figures)
}
