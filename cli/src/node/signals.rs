//! SIGINT, SIGTERM and SIGHUP: the first one ends the node, a second one the process.

use std::process;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::Sender;

use super::Happening;
use crate::INTERRUPTED;

/// Tells of the first signal. The second one does not wait for anything.
pub(super) fn listen(happens: Sender<Happening>) -> Result<(), ctrlc::Error> {
    let told = AtomicBool::new(false);
    ctrlc::set_handler(move || {
        if told.swap(true, Ordering::SeqCst) {
            process::exit(INTERRUPTED.into());
        }
        // Nobody listens only where the process ends anyway.
        happens.send(Happening::Told).ok();
    })
}
