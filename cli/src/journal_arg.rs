//! Which journal a command is about.

use std::path::PathBuf;

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
    /// The journal's directory. Commands that only read take an archive's URL too, with its scheme.
    #[arg(value_name = "DIR", conflicts_with = "journal")]
    dir: Option<PathBuf>,
    /// The journal's directory, by name; without either, SEMJ_JOURNAL names it.
    // Read by `named`: to clap, a value from the environment would contradict a DIR.
    #[arg(short, long, value_name = "DIR")]
    journal: Option<PathBuf>,
}

/// What was typed, or else what the environment names.
pub(crate) fn named(typed: [Option<&PathBuf>; 2]) -> Option<PathBuf> {
    let environment = || std::env::var_os("SEMJ_JOURNAL").filter(|dir| !dir.is_empty()).map(PathBuf::from);
    typed.into_iter().flatten().next().cloned().or_else(environment)
}

/// The same; ends the program with a usage error if nothing names one.
pub(crate) fn required(typed: [Option<&PathBuf>; 2]) -> PathBuf {
    match named(typed) {
        Some(dir) => dir,
        None => clap::Error::raw(
            ErrorKind::MissingRequiredArgument,
            "no journal is given: name its directory, or use --journal DIR or SEMJ_JOURNAL\n",
        )
        .exit(),
    }
}

impl JournalArg {
    /// The directory; ends the program with a usage error if none was given.
    pub(crate) fn dir(&self) -> PathBuf {
        required([self.dir.as_ref(), self.journal.as_ref()])
    }
}
