//! The commands, a file each.

#[cfg(feature = "archive")]
pub(crate) mod archive;
pub(crate) mod cat;
pub(crate) mod chain;
pub(crate) mod compact;
pub(crate) mod consumers;
pub(crate) mod explain;
pub(crate) mod export;
pub(crate) mod get;
pub(crate) mod import;
pub(crate) mod index;
pub(crate) mod inspect;
pub(crate) mod repair;
pub(crate) mod restore;
pub(crate) mod retain;
pub(crate) mod rotate;
pub(crate) mod snapshot;
pub(crate) mod stats;
pub(crate) mod thin;
pub(crate) mod verify;
