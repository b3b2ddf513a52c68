//! What a gateway does when there is nothing to do: nothing.

use std::time::Duration;

use super::{Checked, ensure_next, sent, start_two};
use crate::conformance::Transport;
use crate::conformance::messages::request;

/// For so long an idle gateway does not wake up. One that looks for work every second, or half second, does.
const IDLE: Duration = Duration::from_millis(1100);

pub(crate) fn sleeps_when_idle(transport: &Transport) -> Checked {
    let (mut one, mut two) = start_two(transport)?;
    one.wait_for_idleness_of(IDLE, "before the first message")?;
    sent(one.send(&two.address(), request(1)))?;
    ensure_next(&mut two, &request(1))?;
    one.wait_for_idleness_of(IDLE, "with what was opened")?;
    two.wait_for_idleness_of(IDLE, "with what was opened")?;
    one.stop()?;
    two.wait_for_idleness_of(IDLE, "with what was closed")
}
