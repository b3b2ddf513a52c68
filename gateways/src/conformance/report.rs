//! What came of the checks.

use std::any::Any;
use std::fmt;
use std::io;
use std::time::Duration;

use super::Check;
use crate::gateway::GatewayError;

/// What came of every check on one transport. As text, one line for each check.
#[derive(Debug)]
#[must_use = "it tells whether the gateway conforms"]
pub struct Report {
    /// The name of the transport.
    pub transport: String,
    /// Each check and what came of it.
    pub results: Vec<(Check, Outcome)>,
}

impl Report {
    /// Whether no check failed. Those that do not apply did not fail.
    pub fn has_passed(&self) -> bool {
        self.failures().next().is_none()
    }

    /// The checks that failed, and why.
    pub fn failures(&self) -> impl Iterator<Item = (Check, &Failure)> {
        self.results.iter().filter_map(|(check, outcome)| match outcome {
            Outcome::Failed(failure) => Some((*check, failure)),
            _ => None,
        })
    }

    /// The checks that were not made, and why.
    pub fn not_applicable(&self) -> impl Iterator<Item = (Check, &'static str)> {
        self.results.iter().filter_map(|(check, outcome)| match outcome {
            Outcome::NotApplicable(reason) => Some((*check, *reason)),
            _ => None,
        })
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let failed = self.failures().count();
        write!(f, "{}: {failed} of {} checks failed", self.transport, self.results.len())?;
        for (check, outcome) in &self.results {
            write!(f, "\n  {check}: {outcome}")?;
        }
        Ok(())
    }
}

/// What came of one check.
#[derive(Debug)]
pub enum Outcome {
    /// The gateway does as it should.
    Passed,
    /// The check asks for what this transport does not promise, or was not described with; the reason.
    NotApplicable(&'static str),
    /// It does not.
    Failed(Failure),
}

impl Outcome {
    /// Whether the gateway does not do as it should.
    pub fn has_failed(&self) -> bool {
        matches!(self, Outcome::Failed(_))
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Outcome::Passed => f.write_str("passed"),
            Outcome::NotApplicable(reason) => write!(f, "not applicable: {reason}"),
            Outcome::Failed(failure) => write!(f, "FAILED: {failure}"),
        }
    }
}

/// Why a check failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Failure {
    /// Something else came, or was the case, than what should.
    #[error("expected {expected}, but {came}")]
    Unexpected {
        /// What should have come.
        expected: String,
        /// What did.
        came: String,
    },
    /// What should have come did not, in time.
    #[error("expected {expected}, but it did not come within {within:?}")]
    Late {
        /// What should have come.
        expected: String,
        /// How long it was waited for.
        within: Duration,
    },
    /// The gateway panicked.
    #[error("expected no panic, but there was one: {0}")]
    Panicked(String),
    /// The gateway gave an error.
    #[error("expected {expected}, but the gateway failed: {source}")]
    Gateway {
        /// What it was asked for.
        expected: &'static str,
        /// Its error.
        source: GatewayError,
    },
    /// What the check itself did past the gateway failed: a raw connection, a thread.
    #[error("the check could not go on: {what}: {source}")]
    Io {
        /// What the check needed.
        what: &'static str,
        /// The cause.
        source: io::Error,
    },
    /// The check asks for what the transport was not described with.
    #[error("the transport was not described with {0}")]
    NotDescribed(&'static str),
}

impl Failure {
    pub(super) fn unexpected(expected: impl Into<String>, came: impl Into<String>) -> Self {
        Failure::Unexpected { expected: expected.into(), came: came.into() }
    }

    pub(super) fn late(expected: impl Into<String>, within: Duration) -> Self {
        Failure::Late { expected: expected.into(), within }
    }

    pub(super) fn panicked(panic: &(dyn Any + Send)) -> Self {
        let text = panic.downcast_ref::<&str>().copied().or(panic.downcast_ref::<String>().map(String::as_str));
        Failure::Panicked(text.unwrap_or("without words").to_owned())
    }

    /// For a step of a check that takes what is outside of the gateway.
    pub(super) fn io(what: &'static str) -> impl Fn(io::Error) -> Self {
        move |source| Failure::Io { what, source }
    }

    /// For a step that the gateway itself takes.
    pub(super) fn gateway(expected: &'static str) -> impl Fn(GatewayError) -> Self {
        move |source| Failure::Gateway { expected, source }
    }
}

/// Nothing, if it is as it should be.
pub(super) fn ensure(holds: bool, expected: &str, came: impl FnOnce() -> String) -> Result<(), Failure> {
    if holds { Ok(()) } else { Err(Failure::unexpected(expected, came())) }
}

/// Nothing, if the two are equal.
pub(super) fn ensure_eq<T: PartialEq + fmt::Debug + ?Sized>(what: &str, came: &T, expected: &T) -> Result<(), Failure> {
    ensure(came == expected, &format!("{what}: {expected:?}"), || format!("it is {came:?}"))
}
