//! The threads of services.

use std::cell::Cell;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::thread::{Builder, JoinHandle};

thread_local! {
    static OF_A_SERVICE: Cell<bool> = const { Cell::new(false) };
}

/// Starts a thread named `dht-<role>`.
pub(super) fn spawn(role: &str, run: impl FnOnce() + Send + 'static) -> io::Result<JoinHandle<()>> {
    // The standard library panics over a zero byte in a thread's name.
    let name = format!("dht-{role}").replace('\0', "");
    Builder::new().name(name).spawn(move || {
        OF_A_SERVICE.set(true);
        run();
    })
}

/// Whether this is a thread of a service, which cannot wait for others of its kind: it might wait for itself.
pub(super) fn is_ours() -> bool {
    OF_A_SERVICE.get()
}

/// Calls code that the service does not trust to keep calm; the text of a panic is the error.
pub(super) fn calmly<T>(call: impl FnOnce() -> T) -> Result<T, String> {
    catch_unwind(AssertUnwindSafe(call)).map_err(|panic| {
        let text = panic.downcast_ref::<&str>().copied().or_else(|| panic.downcast_ref::<String>().map(String::as_str));
        format!("it panicked: {}", text.unwrap_or("without a message"))
    })
}
