//! How far an experiment is: a line on standard error; none if that is no terminal.

use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use kademlia_simulator::Progress;

use super::table::count;

/// The line is drawn at most so often.
const PAUSE: Duration = Duration::from_millis(100);

/// The bar has so many steps.
const STEPS: f64 = 1000.0;

/// What is beyond the width of the terminal is cut off: a line that wraps leaves its first part behind.
const WITH_BAR: &str = "{prefix} {bar:12} {wide_msg}";
const WITHOUT_BAR: &str = "{prefix} {wide_msg}";

pub(super) struct Bar {
    bar: ProgressBar,
    /// Where the stage began.
    stage: Option<Begun>,
    drawn: Instant,
}

/// How far it was, and when, at the beginning of a stage.
#[derive(Debug, Clone, Copy)]
struct Begun {
    progress: Progress,
    time: Instant,
}

impl Begun {
    /// A stage is over when it has another name or another end, or when another run has begun.
    fn has(&self, progress: &Progress) -> bool {
        let stage = |progress: &Progress| (progress.run, progress.stage, progress.end, progress.nodes_end);
        stage(&self.progress) == stage(progress)
    }
}

impl Bar {
    pub(super) fn new() -> Self {
        let bar = ProgressBar::with_draw_target(Some(STEPS as u64), ProgressDrawTarget::stderr_with_hz(10));
        Bar { bar, stage: None, drawn: Instant::now() }
    }

    pub(super) fn show(&mut self, progress: Progress) {
        let time = Instant::now();
        let begun = match self.stage {
            Some(begun) if begun.has(&progress) => begun,
            _ => self.begin(Begun { progress, time }),
        };
        // What is left of the stage before must not stand beside the name of the next.
        if time.duration_since(self.drawn) < PAUSE && begun.time != time {
            return;
        }
        self.drawn = time;
        self.bar.set_position((share(&begun.progress, &progress).unwrap_or(0.0) * STEPS) as u64);
        self.bar.set_message(line(&begun.progress, &progress, time.duration_since(begun.time)));
    }

    fn begin(&mut self, begun: Begun) -> Begun {
        self.stage = Some(begun);
        let has_end = begun.progress.end.is_some() || begun.progress.nodes_end.is_some();
        if let Ok(style) = ProgressStyle::with_template(if has_end { WITH_BAR } else { WITHOUT_BAR }) {
            self.bar.set_style(style);
        }
        self.bar.set_prefix(name(&begun.progress));
        begun
    }

    pub(super) fn clear(&self) {
        self.bar.finish_and_clear();
    }
}

/// The stage, and of which run if there are several.
fn name(progress: &Progress) -> String {
    let Progress { stage, run, runs, .. } = progress;
    if *runs > 1 { format!("{stage:9} (run {run} of {runs})") } else { format!("{stage:9}") }
}

/// How much of the stage is over, if its end is known.
fn share(begun: &Progress, progress: &Progress) -> Option<f64> {
    let (over, whole) = match (progress.nodes_end, progress.end) {
        (Some(end), _) => {
            let over = progress.nodes.saturating_sub(begun.nodes);
            (over as f64, end.saturating_sub(begun.nodes) as f64)
        }
        (None, Some(end)) => {
            let since_begun = |time: Duration| time.saturating_sub(begun.now).as_secs_f64();
            (since_begun(progress.now), since_begun(end))
        }
        (None, None) => return None,
    };
    (whole > 0.0).then(|| (over / whole).min(1.0))
}

/// How far it is, how long it will take in real time, and the speed: what matters least is cut off first.
fn line(begun: &Progress, progress: &Progress, elapsed: Duration) -> String {
    let nodes = |nodes: usize| count(nodes as u64);
    let mut text = match (progress.nodes_end, progress.end.and_then(|end| end.checked_sub(begun.now))) {
        (Some(end), _) => format!("{} of {} nodes", nodes(progress.nodes), nodes(end)),
        (None, Some(whole)) => format!("{} of {}", brief(progress.now.saturating_sub(begun.now)), brief(whole)),
        (None, None) => format!("{}, {} nodes", brief(progress.now), nodes(progress.nodes)),
    };
    let seconds = elapsed.as_secs_f64();
    if seconds > 0.2 {
        let left = share(begun, progress).filter(|share| *share > 0.01).map(|share| seconds / share - seconds);
        if let Some(left) = left.and_then(|left| Duration::try_from_secs_f64(left).ok()) {
            text += &format!("  {} left", brief(left));
        }
        let events = progress.events.saturating_sub(begun.events) as f64 / seconds;
        text += &format!("  {} events/s", count(events.round() as u64));
    }
    text
}

/// A time in its two largest units: `3h12m`, `24h`, `5m30s`, `12s`.
pub(super) fn brief(time: Duration) -> String {
    let seconds = time.as_secs_f64().round() as u64;
    let minutes = (time.as_secs_f64() / 60.0).round() as u64;
    match (minutes / 60, seconds / 60) {
        (0, 0) => format!("{seconds}s"),
        (0, minutes) if seconds.is_multiple_of(60) => format!("{minutes}m"),
        (0, minutes) => format!("{minutes}m{:02}s", seconds % 60),
        (hours, _) if minutes.is_multiple_of(60) => format!("{hours}h"),
        (hours, _) => format!("{hours}h{:02}m", minutes % 60),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_brief() {
        let brief = |seconds| brief(Duration::from_secs(seconds));
        assert_eq!([0, 59, 60, 330].map(brief), ["0s", "59s", "1m", "5m30s"]);
        assert_eq!([3600, 11_520, 86_395, 86_400].map(brief), ["1h", "3h12m", "24h", "24h"]);
    }

    fn progress(now: u64, end: Option<u64>, events: u64) -> Progress {
        let (now, end) = (Duration::from_secs(now), end.map(Duration::from_secs));
        Progress { run: 1, runs: 1, stage: "churn", now, end, nodes: 1000, nodes_end: None, events }
    }

    #[test]
    fn the_line_says_what_is_left() {
        let begun = progress(100, Some(86_500), 1_000);
        let text = line(&begun, &progress(21_700, Some(86_500), 2_001_000), Duration::from_secs(20));
        assert_eq!(text, "6h of 24h  1m left  100,000 events/s");
        let text = line(&progress(0, None, 0), &progress(90, None, 500), Duration::from_millis(100));
        assert_eq!(text, "1m30s, 1,000 nodes");
    }

    #[test]
    fn while_nodes_join_they_are_what_is_counted() {
        let joined = |nodes| Progress { nodes, nodes_end: Some(1100), ..progress(90, None, 0) };
        let (begun, now) = (joined(100), joined(600));
        assert_eq!(share(&begun, &now), Some(0.5));
        let text = line(&begun, &now, Duration::from_secs(20));
        assert_eq!(text, "600 of 1,100 nodes  20s left  0 events/s");
        assert_eq!(share(&joined(1100), &joined(1100)), None, "all are there");
    }

    #[test]
    fn several_runs_are_told_apart() {
        let first = progress(0, None, 0);
        let second = Progress { run: 2, runs: 7, ..first };
        assert_eq!([first, second].map(|progress| name(&progress)), ["churn    ", "churn     (run 2 of 7)"]);
        let begun = Begun { progress: Progress { runs: 7, ..first }, time: Instant::now() };
        assert!(begun.has(&progress(9, None, 1)) && !begun.has(&second));
    }
}
