//! Nodes that come and go.

use std::time::Duration;

use crate::random::Random;

/// How long nodes stay.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Sessions {
    /// Each moment is as good as any other to leave.
    Exponential {
        /// Half of the nodes leave before.
        median: Duration,
    },
    /// Many leave soon, and a few stay very long: what was measured of real networks, with shapes of 0.4 to 0.6.
    Weibull {
        /// Below 1, who has stayed long is likely to stay.
        shape: f64,
        /// Half of the nodes leave before.
        median: Duration,
    },
}

impl Sessions {
    /// The length of one session.
    pub fn draw(&self, random: &mut Random) -> Duration {
        match *self {
            Sessions::Exponential { median } => random.weibull(1.0, median),
            Sessions::Weibull { shape, median } => random.weibull(shape, median),
        }
    }
}

/// What follows when a node leaves. None says goodbye: each just falls silent, as in a crash.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Departure {
    /// Another node with an id of its own comes at once, so that there are always as many.
    Replaced,
    /// It comes back under its id after a while.
    Returns {
        /// How long it is away.
        after: Duration,
        /// Whether its store has survived.
        with_store: bool,
    },
    /// Nobody comes.
    Gone,
}

/// Nodes come and go.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Churn {
    /// How long they stay.
    pub sessions: Sessions,
    /// What follows when one leaves.
    pub departure: Departure,
}
