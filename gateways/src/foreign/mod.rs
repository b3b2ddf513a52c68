//! What gateways to the networks of other programs have in common.
//!
//! Their wires have other ids of requests, other proofs and other answers than our messages, so that a gateway must
//! remember something between a message and its answer. All of it is here or made of what is here, and bounded in number
//! and time: [`Recent`], [`Waiting`], [`Rate`]. A gateway is a [`Wire`], which knows neither sockets nor clocks, and
//! [`ForeignUdp`], which has both.

mod rate;
mod recent;
mod udp;
mod waiting;

pub(crate) use rate::Rate;
pub(crate) use recent::Recent;
#[cfg(feature = "mainline")]
pub(crate) use udp::Deferred;
pub(crate) use udp::{Effects, ForeignUdp, Now, Wire};
pub(crate) use waiting::Waiting;

/// An address that is not proved is sent at most so many times the bytes that came from there (RFC 9000, section 8).
const MAX_AMPLIFICATION: usize = 3;

/// The most bytes of an answer to a request of so many bytes from an address that is not proved, where so many bytes of
/// pings may go there as well.
pub(crate) fn allowance(request: usize, pings: usize) -> usize {
    request.saturating_mul(MAX_AMPLIFICATION).saturating_sub(pings)
}
