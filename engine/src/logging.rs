//! Logs, for people or as JSON, on standard error.

use std::io::{self, IsTerminal};

use tracing_subscriber::{EnvFilter, fmt};

/// How log lines look.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum LogFormat {
    /// For people at a terminal, as JSON otherwise.
    #[default]
    Auto,
    /// For people.
    Human,
    /// One JSON object a line.
    Json,
}

/// Starts logging. `TIDEMILL_LOG` filters, as in `info,tidemill::dispatcher=debug`.
pub fn start(format: LogFormat) {
    let filter = EnvFilter::builder()
        .with_env_var("TIDEMILL_LOG")
        .try_from_env()
        // The scheduler tells of its own housekeeping, and lapin shows whole messages; what goes wrong
        // with a broker is told by its connector.
        .unwrap_or_else(|_| EnvFilter::new("info,tokio_cron_scheduler=warn,lapin=off"));
    let terminal = io::stderr().is_terminal();
    let json = match format {
        LogFormat::Auto => !terminal,
        LogFormat::Human => false,
        LogFormat::Json => true,
    };
    let lines = fmt().with_env_filter(filter).with_writer(io::stderr);
    if json {
        lines
            .json()
            .flatten_event(true)
            .with_current_span(false)
            .with_span_list(false)
            .init();
    } else {
        lines.with_ansi(terminal).init();
    }
}
