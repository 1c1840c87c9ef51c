//! The commands, a file each.

pub(crate) mod cat;
pub(crate) mod export;
pub(crate) mod import;
pub(crate) mod inspect;
pub(crate) mod stats;
pub(crate) mod verify;
