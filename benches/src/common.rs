//! What all commands have: where files go, how often something is measured, and how it is printed.

use std::path::PathBuf;

use anyhow::Result;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::child;

/// What all commands have.
#[derive(Clone, Debug, Default, clap::Args)]
pub struct Common {
    /// Where the files go, on a disk; default: the working directory. They are removed afterwards.
    #[arg(long, value_name = "DIR")]
    pub dir: Option<PathBuf>,
    /// How often each measurement is made; the medians are shown.
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..))]
    pub runs: u64,
    /// Print JSON, a row for each measurement.
    #[arg(long)]
    pub json: bool,
}

impl Common {
    /// Makes the measurements: one in this process, several in a process each. `command_line` says by which
    /// arguments another process would make a measurement, without those that all commands have.
    ///
    /// # Errors
    ///
    /// The first one of a measurement.
    pub fn measure<M, Row: Serialize + DeserializeOwned>(
        &self,
        measurements: &[M],
        command_line: impl Fn(&M) -> Vec<String>,
        measure: impl Fn(&M) -> Result<Row>,
    ) -> Result<Vec<Row>> {
        if let ([measurement], 1) = (measurements, self.runs) {
            return Ok(vec![measure(measurement)?]);
        }
        self.medians(measurements.iter().map(command_line), 1)
    }

    /// Makes the measurements in a process each, which these arguments have make one; each in so many parts in every run.
    ///
    /// # Errors
    ///
    /// The first one of a measurement.
    pub fn medians<Row: DeserializeOwned>(
        &self,
        command_lines: impl Iterator<Item = Vec<String>>,
        parts: u64,
    ) -> Result<Vec<Row>> {
        let command_lines: Vec<_> = command_lines
            .map(|mut arguments| {
                if let Some(dir) = &self.dir {
                    arguments.extend(["--dir".to_owned(), dir.display().to_string()]);
                }
                arguments
            })
            .collect();
        child::medians(&command_lines, (self.runs * parts) as usize)
    }

    /// Prints the rows as JSON or as this does.
    ///
    /// # Errors
    ///
    /// They can't be JSON.
    pub fn print<Row: Serialize>(&self, rows: &[Row], tables: impl FnOnce(&[Row]) -> String) -> Result<()> {
        if self.json {
            println!("{}", serde_json::to_string(rows)?);
        } else {
            println!("{}", tables(rows));
        }
        Ok(())
    }
}

/// Arguments as text.
#[macro_export]
macro_rules! arguments {
    ($($argument:expr),* $(,)?) => { vec![$($argument.to_string()),*] };
}
