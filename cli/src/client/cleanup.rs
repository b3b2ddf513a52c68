//! What a command clears away before it ends, if it is interrupted.

use std::fmt;
use std::process;
use std::sync::{Arc, Mutex, PoisonError};

use crate::INTERRUPTED;
use crate::signals::{self, SignalsError};

type Work = Box<dyn FnOnce() + Send>;

/// What is to be done then. Until there is something, a signal ends the command as it ends any program.
#[derive(Clone, Default)]
pub(super) struct Cleanup(Arc<Mutex<Vec<Work>>>);

impl Cleanup {
    /// Has this done as well. Whoever else waits, such as for standard input, is not waited for.
    pub(super) fn on_interrupt(&self, work: impl FnOnce() + Send + 'static) -> Result<(), SignalsError> {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.push(Box::new(work));
        if all.len() > 1 {
            return Ok(());
        }
        let all = Arc::clone(&self.0);
        signals::listen(move || {
            let works = std::mem::take(&mut *all.lock().unwrap_or_else(PoisonError::into_inner));
            works.into_iter().for_each(|work| work());
            process::exit(INTERRUPTED.into());
        })
    }
}

impl fmt::Debug for Cleanup {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cleanup").finish_non_exhaustive()
    }
}
