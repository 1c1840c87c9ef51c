//! A history on a real file system with all its writes: a base image, the log of writes, the notes, and which
//! blocks held the journal's files.

use std::env;
use std::fs::{self, File};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, bail, ensure};
use clap::ValueEnum as _;
use semj_tests::random::Random;

use crate::device::{FileSystem, LoggedMount, data_extents, spawn};
use crate::history::{self, Model, Noted};
use crate::image::{DataExtents, Device, read_content, write_content};
use crate::log::{self, Entry};

/// The journal's directory in the file system.
pub(crate) const JOURNAL: &str = "journal";

/// A history that is to be recorded.
#[derive(Debug)]
pub(crate) struct Request {
    pub(crate) file_system: FileSystem,
    /// What the lives follow from.
    pub(crate) seed: u64,
    /// What the power cuts follow from.
    pub(crate) cut_seed: u64,
    /// The lives' numbers, and how many operations each has.
    pub(crate) lives: Range<u64>,
    pub(crate) operations: Range<u64>,
    /// Whether the writer acknowledges before it syncs.
    pub(crate) is_early: bool,
    /// What is known of the journal on the base image.
    pub(crate) notes: Vec<Noted>,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Recording {
    pub(crate) dir: PathBuf,
    pub(crate) file_system: FileSystem,
    pub(crate) seed: u64,
    pub(crate) cut_seed: u64,
    pub(crate) log: Vec<Entry>,
    pub(crate) model: Model,
    pub(crate) data: DataExtents,
}

impl Recording {
    /// Where the image stands that a history begins with; whoever asks for a recording makes it.
    pub(crate) fn base(dir: &Path) -> PathBuf {
        dir.join("base")
    }

    /// Lets a writer live on the base image in `dir`, and records it there.
    pub(crate) fn make(dir: &Path, request: &Request) -> Result<Self> {
        let Request { file_system, seed, cut_seed, .. } = *request;
        let [image, log, notes, mounted] = ["image", "log", "notes", "mounted"].map(|name| dir.join(name));
        let base = File::open(Self::base(dir)).context("open the base image")?;
        let worked_on = File::create_new(&image).context("create the image")?;
        write_content(&worked_on, base.metadata()?.len(), &read_content(&base)?)?;
        drop(worked_on);
        let lines = |items: &[String]| items.iter().fold(String::new(), |text, item| text + item + "\n");
        let inherited: Vec<_> = request.notes.iter().map(ToString::to_string).collect();
        fs::write(&notes, lines(&inherited))?;
        fs::write(dir.join("about"), format!("{} {seed} {cut_seed}\n", file_system.name()))?;
        fs::create_dir_all(&mounted)?;

        let mount = LoggedMount::new(file_system, &image, &log, dir, &mounted)?;
        for life in request.lives.clone() {
            let mut random = Random::new(seed ^ life);
            let Range { start, end } = request.operations;
            let operations = start + random.below(end - start);
            let mut writer = Command::new(env::current_exe()?);
            writer.arg("write").arg("--journal").arg(mounted.join(JOURNAL));
            writer.arg("--log").arg(&log).arg("--notes").arg(&notes);
            for (name, value) in [("--seed", seed), ("--life", life), ("--operations", operations)] {
                writer.args([name, &value.to_string()]);
            }
            if request.is_early {
                writer.arg("--acknowledge-early");
            }
            let output = spawn(writer.stderr(Stdio::piped()))?.wait_with_output()?;
            if !output.status.success() {
                bail!("life {life} failed: {}", String::from_utf8_lossy(&output.stderr));
            }
        }
        let data: Vec<_> = data_extents(&mounted.join(JOURNAL))?;
        let data: Vec<_> = data.iter().map(|extent| format!("{} {}", extent.start, extent.end)).collect();
        fs::write(dir.join("data"), lines(&data))?;
        mount.unmount()?;

        let recording = Self::load(dir)?;
        recording.is_complete(&base, &image)?;
        fs::remove_file(&image)?;
        Ok(recording)
    }

    /// Whether the log is all that happened to the image, and left the file system in order: a device that mixes
    /// up writes or forgets some would show what no disk does.
    fn is_complete(&self, base: &File, image: &Path) -> Result<()> {
        let mut replayed = Device::read(base)?;
        replayed.advance(&self.log, self.log.len());
        let difference = replayed.differs_from(&Device::read(&File::open(image)?)?);
        ensure!(difference.is_none(), "the log of writes is not complete: {difference:?}");
        self.file_system.check(image)
    }

    /// Reads a recording.
    pub(crate) fn load(dir: &Path) -> Result<Self> {
        let read = |name: &str| {
            let path = dir.join(name);
            fs::read_to_string(&path).with_context(|| format!("read {}", path.display()))
        };
        let about = read("about")?;
        let [file_system, seed, cut_seed] = *about.split_whitespace().collect::<Vec<_>>() else {
            bail!("not about a recording: {about}");
        };
        let seed = seed.parse()?;
        let extent = |line: &str| {
            let (start, end) = line.split_once(' ')?;
            Some(start.parse().ok()?..end.parse().ok()?)
        };
        let data: Option<_> = read("data")?.lines().map(extent).collect();
        Ok(Self {
            dir: dir.to_owned(),
            file_system: FileSystem::from_str(file_system, false).map_err(anyhow::Error::msg)?,
            seed,
            cut_seed: cut_seed.parse()?,
            log: log::read(&dir.join("log"))?,
            model: Model::new(seed, history::read_notes(&dir.join("notes"))?),
            data: data.context("not extents")?,
        })
    }

    pub(crate) fn flushes(&self) -> u64 {
        self.log.iter().filter(|entry| **entry == Entry::Flush).count() as u64
    }
}
