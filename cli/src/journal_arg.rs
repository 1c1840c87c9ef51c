//! Which journal a command is about.

use std::path::PathBuf;

use clap::Args;
use clap::error::ErrorKind;

use crate::remote;

/// `--journal DIR`, for commands that take other arguments too.
#[derive(Debug, Args)]
pub(crate) struct JournalOption {
    /// The journal's directory.
    #[arg(short, long, value_name = "DIR", env = "SEMJ_JOURNAL")]
    journal: PathBuf,
}

impl JournalOption {
    /// The directory; ends the program with a usage error if it can't be one.
    pub(crate) fn dir(&self) -> PathBuf {
        directory(self.journal.clone())
    }
}

/// `--journal DIR` or just `DIR`, of a journal on this machine.
#[derive(Debug, Args)]
pub(crate) struct JournalArg {
    /// The journal's directory.
    #[arg(value_name = "DIR", conflicts_with = "journal")]
    dir: Option<PathBuf>,
    /// The journal's directory, by name; without either, SEMJ_JOURNAL names it.
    // Read by `named`: to clap, a value from the environment would contradict a DIR.
    #[arg(short, long, value_name = "DIR")]
    journal: Option<PathBuf>,
}

impl JournalArg {
    /// The directory; ends the program with a usage error if none was given or it can't be one.
    pub(crate) fn dir(&self) -> PathBuf {
        directory(required([self.dir.as_ref(), self.journal.as_ref()]))
    }
}

/// The same, for commands that only read, and do so from an archive or one of its files too.
#[derive(Debug, Args)]
pub(crate) struct SourceArg {
    /// The journal's directory, one of its files, also of those in its quarantine/, or an archive's URL, with its scheme.
    #[arg(value_name = "DIR|FILE|URL", conflicts_with = "journal")]
    dir: Option<PathBuf>,
    /// The same, by name; without either, SEMJ_JOURNAL names it.
    #[arg(short, long, value_name = "DIR")]
    journal: Option<PathBuf>,
}

impl SourceArg {
    /// The directory, file or URL; ends the program with a usage error if none was given.
    pub(crate) fn source(&self) -> PathBuf {
        required([self.dir.as_ref(), self.journal.as_ref()])
    }
}

/// What was typed, or else what the environment names.
pub(crate) fn named(typed: [Option<&PathBuf>; 2]) -> Option<PathBuf> {
    let environment = || std::env::var_os("SEMJ_JOURNAL").filter(|dir| !dir.is_empty()).map(PathBuf::from);
    typed.into_iter().flatten().next().cloned().or_else(environment)
}

/// The same; ends the program with a usage error if nothing names one.
fn required(typed: [Option<&PathBuf>; 2]) -> PathBuf {
    match named(typed) {
        Some(dir) => dir,
        None => wrong_use(
            ErrorKind::MissingRequiredArgument,
            "no journal is given: name its directory, or use --journal DIR or SEMJ_JOURNAL",
        ),
    }
}

/// A directory that is there or can be made; ends the program with a usage error if it is a URL or a file.
pub(crate) fn directory(dir: PathBuf) -> PathBuf {
    let what = match remote::url(&dir) {
        Some(_) => "an archive's URL, where a directory is needed",
        None if dir.is_file() => {
            "a file, where a journal's directory is needed; semj cat, verify and inspect take a file"
        }
        None => return dir,
    };
    wrong_use(ErrorKind::InvalidValue, &format!("{}: {what}", dir.display()))
}

/// Ends the program with a usage error.
pub(crate) fn wrong_use(kind: ErrorKind, what: &str) -> ! {
    clap::Error::raw(kind, format!("{what}\n")).exit()
}
