//! The real time and the memory that a run takes.

use std::time::Instant;

use crate::Report;

/// Runs from the moment at which it was started.
#[derive(Debug)]
pub(crate) struct Stopwatch {
    start: Instant,
}

impl Stopwatch {
    pub(crate) fn start() -> Self {
        Stopwatch { start: Instant::now() }
    }

    pub(crate) fn seconds(&self) -> f64 {
        self.start.elapsed().as_secs_f64()
    }

    /// Adds to a report what it took.
    pub(crate) fn stop(&self, report: Report) -> Report {
        let wall = self.seconds();
        Report {
            events_per_s: Some((report.events as f64 / wall).round()),
            wall_s: Some((wall * 1000.0).round() / 1000.0),
            peak_rss_mib: peak_memory(),
            ..report
        }
    }
}

/// The most memory that this process has had, in MiB, where the system tells.
fn peak_memory() -> Option<f64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    let kibibytes: f64 = line.trim().strip_suffix(" kB")?.parse().ok()?;
    Some((kibibytes / 1024.0).round())
}
