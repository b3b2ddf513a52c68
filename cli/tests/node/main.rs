//! `dht node` as others run it: real processes, real sockets. Its lines and its end, the HTTP that it serves to good clients and
//! to bad ones, and the commands that talk to it.

#![cfg(unix)]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic, reason = "it is a test")]

mod bad_clients;
mod commands;
mod documents;
mod following;
mod http;
mod inside;
mod lasting;
mod life;
mod outputs;
mod owned;
mod page;
mod process;
mod settings;
mod silence;
mod tokens;
mod torrents;
mod values;
