//! The first signal ends the node, a second one the process.

use std::process;
use std::sync::mpsc::Sender;

use super::Happening;
use crate::INTERRUPTED;
use crate::signals::{self, SignalsError};

/// Tells of the first signal. The second one does not wait for anything.
pub(super) fn listen(happens: Sender<Happening>) -> Result<(), SignalsError> {
    let mut told = false;
    signals::listen(move || {
        if std::mem::replace(&mut told, true) {
            process::exit(INTERRUPTED.into());
        }
        // Nobody listens only where the process ends anyway.
        happens.send(Happening::Told).ok();
    })
}
