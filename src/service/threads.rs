//! The threads of services.

use std::cell::Cell;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::{Builder, JoinHandle};

thread_local! {
    static CREW: Cell<Option<Crew>> = const { Cell::new(None) };
    static AT_WORK: Cell<Option<Crew>> = const { Cell::new(None) };
}

/// The threads of one service.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Crew(u64);

impl Crew {
    pub(super) fn new() -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        Crew(NEXT.fetch_add(1, Ordering::Relaxed))
    }

    /// Starts a thread named `dht-<role>`.
    pub(super) fn spawn(self, role: &str, run: impl FnOnce() + Send + 'static) -> io::Result<JoinHandle<()>> {
        // The standard library panics over a zero byte in a thread's name.
        let name = format!("dht-{role}").replace('\0', "");
        Builder::new().name(name).spawn(move || {
            CREW.set(Some(self));
            run();
        })
    }

    /// Whether this is one of its threads or works for it, and cannot wait for the others: it might wait for itself.
    pub(super) fn is_here(self) -> bool {
        CREW.get() == Some(self) || self.is_at_work()
    }

    /// Works for the service on this thread, whoever's it is, until the result is dropped.
    pub(super) fn work(self) -> AtWork {
        AtWork { before: AT_WORK.replace(Some(self)) }
    }

    /// Whether this thread takes a turn of the service's manager, or tells what came of it: then nobody on it can wait
    /// for the manager.
    pub(super) fn is_at_work(self) -> bool {
        AT_WORK.get() == Some(self)
    }
}

/// This thread works for a service until this is dropped.
pub(super) struct AtWork {
    /// What it worked for before, within which this is.
    before: Option<Crew>,
}

impl Drop for AtWork {
    fn drop(&mut self) {
        AT_WORK.set(self.before);
    }
}

/// Calls code that the service does not trust to keep calm; the text of a panic is the error.
pub(super) fn calmly<T>(call: impl FnOnce() -> T) -> Result<T, String> {
    catch_unwind(AssertUnwindSafe(call)).map_err(|panic| {
        let text = panic.downcast_ref::<&str>().copied().or_else(|| panic.downcast_ref::<String>().map(String::as_str));
        format!("it panicked: {}", text.unwrap_or("without a message"))
    })
}
