//! Which journal a command is about.

use std::path::{Path, PathBuf};

use clap::Args;
use clap::error::ErrorKind;

/// `--journal DIR`, for commands that take other arguments too.
#[derive(Debug, Args)]
pub(crate) struct JournalOption {
    /// The journal's directory.
    #[arg(short, long, value_name = "DIR", env = "SEMJ_JOURNAL")]
    pub(crate) journal: PathBuf,
}

/// `--journal DIR` or just `DIR`, for commands that take no other argument.
#[derive(Debug, Args)]
pub(crate) struct JournalArg {
    /// The journal's directory.
    #[arg(value_name = "DIR")]
    dir: Option<PathBuf>,
    /// The journal's directory, by name.
    #[arg(short, long, value_name = "DIR", env = "SEMJ_JOURNAL")]
    journal: Option<PathBuf>,
}

impl JournalArg {
    /// The directory; ends the program with a usage error if none was given.
    pub(crate) fn dir(&self) -> &Path {
        // A DIR that was typed counts for more than one from the environment.
        match self.dir.as_ref().or(self.journal.as_ref()) {
            Some(dir) => dir,
            None => clap::Error::raw(
                ErrorKind::MissingRequiredArgument,
                "no journal is given: name its directory, or use --journal DIR or SEMJ_JOURNAL\n",
            )
            .exit(),
        }
    }
}
