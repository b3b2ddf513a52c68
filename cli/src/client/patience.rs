//! How long a node may be silent before the command gives it up.

use std::future::Future;
use std::io;
use std::pin::pin;
use std::time::Duration;

use futures_util::future::{Either, select};
use tokio::sync::watch::{self, Receiver};
use tokio::time::{sleep, timeout};

/// The longest that it may take to reach a node.
const CONNECTING: Duration = Duration::from_secs(5);

/// Who is to do something.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Turn {
    /// This command, which waits for what it is to send.
    Ours,
    /// The node. Each time anew when it has taken something.
    Theirs,
}

/// Of a request that is all there when it is sent.
pub(super) fn theirs() -> Receiver<Turn> {
    watch::channel(Turn::Theirs).1
}

/// The longest that a node may do nothing when it is its turn.
#[derive(Debug, Clone, Copy)]
pub(super) struct Patience(pub(super) Duration);

impl Patience {
    /// What comes of reaching a node.
    pub(super) async fn reach<T>(self, work: impl Future<Output = io::Result<T>>) -> io::Result<T> {
        let longest = self.0.min(CONNECTING);
        let late = || io::Error::new(io::ErrorKind::TimedOut, format!("it does not answer within {longest:?}"));
        timeout(longest, work).await.unwrap_or_else(|_| Err(late()))
    }

    /// What the node does, if it does something in time, or is alive each time that it has not.
    pub(super) async fn hear<T>(
        self,
        mut turn: Receiver<Turn>,
        work: impl Future<Output = T>,
        is_alive: impl AsyncFn() -> bool,
    ) -> Option<T> {
        let death = async {
            loop {
                self.silence(&mut turn).await;
                if !is_alive().await {
                    break;
                }
            }
        };
        match select(pin!(work), pin!(death)).await {
            Either::Left((heard, _)) => Some(heard),
            Either::Right(_) => None,
        }
    }

    /// Ends when the node has had its turn for too long.
    async fn silence(self, turn: &mut Receiver<Turn>) {
        loop {
            let whose = *turn.borrow_and_update();
            let changed = match whose {
                Turn::Ours => turn.changed().await,
                Turn::Theirs => match timeout(self.0, turn.changed()).await {
                    Ok(changed) => changed,
                    Err(_) => return,
                },
            };
            if changed.is_err() {
                // All has been sent.
                return sleep(self.0).await;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::pending;

    use tokio::runtime::Builder;

    use super::*;

    #[test]
    fn who_cannot_be_reached_in_time_is_named() {
        let runtime = Builder::new_current_thread().enable_time().build().unwrap();
        let reached =
            runtime.block_on(async { Patience(Duration::from_millis(5)).reach(pending::<io::Result<()>>()).await });
        let error = reached.unwrap_err();
        assert_eq!(
            (error.kind(), error.to_string().as_str()),
            (io::ErrorKind::TimedOut, "it does not answer within 5ms")
        );
    }
}
