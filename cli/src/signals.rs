//! Being told to end: by SIGINT, SIGTERM and SIGHUP, or by Ctrl-C where there are no signals.

use std::future::poll_fn;
use std::task::{Context, Poll};
use std::{io, thread};

use tokio::runtime::Builder;

#[cfg(unix)]
type Source = tokio::signal::unix::Signal;
#[cfg(windows)]
type Source = tokio::signal::windows::CtrlC;

/// Why nobody could tell the program to end.
#[derive(Debug, thiserror::Error)]
#[error("cannot listen for signals: {0}")]
pub(crate) struct SignalsError(#[from] io::Error);

/// Calls `told` each time the program is told to end, on a thread of its own. Nothing that comes after this is lost; but the
/// end of a terminal, of which both the kernel and the shell tell, counts only where it is the first that comes.
pub(crate) fn listen(mut told: impl FnMut() + Send + 'static) -> Result<(), SignalsError> {
    let runtime = Builder::new_current_thread().enable_io().build()?;
    let entered = runtime.enter();
    let mut sources = sources()?;
    drop(entered);
    let work = move || {
        runtime.block_on(async {
            let mut is_first = true;
            loop {
                let is_hangup = poll_fn(|context| poll(&mut sources, context)).await;
                if is_first || !is_hangup {
                    told();
                }
                is_first = false;
            }
        });
    };
    thread::Builder::new().name("signals".to_owned()).spawn(work)?;
    Ok(())
}

/// Whether it is the end of a terminal that tells of itself.
fn poll(sources: &mut [(Source, bool)], context: &mut Context<'_>) -> Poll<bool> {
    for (source, is_hangup) in sources {
        if let Poll::Ready(Some(())) = source.poll_recv(context) {
            return Poll::Ready(*is_hangup);
        }
    }
    Poll::Pending
}

#[cfg(unix)]
fn sources() -> io::Result<Vec<(Source, bool)>> {
    use tokio::signal::unix::{SignalKind, signal};
    let mut sources = vec![(signal(SignalKind::interrupt())?, false), (signal(SignalKind::terminate())?, false)];
    // To listen for it would take back what `nohup` has set.
    if !is_hangup_left_alone() {
        sources.push((signal(SignalKind::hangup())?, true));
    }
    Ok(sources)
}

#[cfg(windows)]
fn sources() -> io::Result<Vec<(Source, bool)>> {
    Ok(vec![(tokio::signal::windows::ctrl_c()?, false)])
}

/// Whether whoever started the program has it ignore the end of their terminal.
#[cfg(target_os = "linux")]
fn is_hangup_left_alone() -> bool {
    std::fs::read_to_string("/proc/self/status").is_ok_and(|status| ignores_hangup(&status))
}

/// Elsewhere that takes unsafe code to know. So the signal does there what it does to any program.
#[cfg(all(unix, not(target_os = "linux")))]
fn is_hangup_left_alone() -> bool {
    true
}

/// Whether SIGHUP, which is number 1, is among the signals that a process ignores.
#[cfg(target_os = "linux")]
fn ignores_hangup(status: &str) -> bool {
    let ignored = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    ignored.and_then(|digits| u64::from_str_radix(digits.trim(), 16).ok()).is_some_and(|signals| signals & 1 != 0)
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    #[test]
    fn what_a_process_ignores() {
        assert!(ignores_hangup("Name:\tdht\nSigBlk:\t0\nSigIgn:\t0000000000001001\nSigCgt:\t1\n"));
        assert!(!ignores_hangup("SigIgn:\t0000000000001000\nSigCgt:\t0000000000000001\n"));
        assert!(!ignores_hangup("SigIgn:\n") && !ignores_hangup(""));
    }
}
