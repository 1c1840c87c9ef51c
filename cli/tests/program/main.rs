//! The program as a user runs it, a module for each command.

#![expect(clippy::unwrap_used, reason = "a test ends where something is not as it should be")]

mod support;

mod archive;
mod compact;
mod export;
mod follow;
mod import;
mod index;
mod read;
mod repair;
mod retain;
mod snapshot;
mod thin;
mod usage;
mod verify;
