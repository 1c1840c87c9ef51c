//! A file for each command.

pub(crate) mod compression;
pub(crate) mod disturb;
pub(crate) mod emission;
pub(crate) mod machine;
pub(crate) mod reopen;
pub(crate) mod report;
pub(crate) mod sustained;
pub(crate) mod throughput;
pub(crate) mod verify;
