//! The log: to standard error, as RUST_LOG says, and every error counted.

use std::sync::atomic::{AtomicUsize, Ordering};

use log::{Level, LevelFilter, Log, Metadata, Record, SetLoggerError};

/// Errors that were logged since the start, whether they were shown or not.
static ERRORS: AtomicUsize = AtomicUsize::new(0);

/// What RUST_LOG asks for is shown by `shown`; errors are counted besides.
struct Counting<L> {
    shown: L,
    errors: &'static AtomicUsize,
}

/// Logs from now on: what RUST_LOG asks for, or else what `usual` does.
pub(crate) fn install(usual: &str) -> Result<(), SetLoggerError> {
    let environment = env_logger::Env::default().default_filter_or(usual);
    let shown = env_logger::Builder::from_env(environment).build();
    // Errors count even where RUST_LOG shows none.
    let level = shown.filter().max(LevelFilter::Error);
    log::set_boxed_logger(Box::new(Counting { shown, errors: &ERRORS }))?;
    log::set_max_level(level);
    Ok(())
}

/// How many errors have been logged.
pub(crate) fn errors() -> usize {
    ERRORS.load(Ordering::SeqCst)
}

impl<L: Log> Log for Counting<L> {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.level() == Level::Error || self.shown.enabled(metadata)
    }

    fn log(&self, record: &Record<'_>) {
        if record.level() == Level::Error {
            self.errors.fetch_add(1, Ordering::SeqCst);
        }
        if self.shown.enabled(record.metadata()) {
            self.shown.log(record);
        }
    }

    fn flush(&self) {
        self.shown.flush();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_count_where_nothing_is_shown() {
        static COUNTED: AtomicUsize = AtomicUsize::new(0);
        let shown = env_logger::Builder::new().filter_level(LevelFilter::Off).build();
        let logger = Counting { shown, errors: &COUNTED };
        for level in [Level::Error, Level::Warn, Level::Error, Level::Trace] {
            logger.log(&Record::builder().level(level).args(format_args!("something")).build());
        }
        assert_eq!(COUNTED.load(Ordering::SeqCst), 2);
        assert!(logger.enabled(&Metadata::builder().level(Level::Error).build()));
        assert!(!logger.enabled(&Metadata::builder().level(Level::Warn).build()));
    }
}
