//! How far an experiment is: a line on standard error; none if that is no terminal.

use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use kademlia_simulator::Progress;

use super::table::count;

/// The line is drawn at most so often.
const PAUSE: Duration = Duration::from_millis(100);

/// The bar has so many steps.
const STEPS: f64 = 1000.0;

pub(super) struct Bar {
    bar: ProgressBar,
    /// Where the stage began.
    stage: Option<Begun>,
    /// Experiments can consist of several runs, each of which begins at zero.
    run: usize,
    drawn: Instant,
    now: Duration,
}

/// How far it was, and when, at the beginning of a stage.
#[derive(Debug, Clone, Copy)]
struct Begun {
    progress: Progress,
    time: Instant,
}

impl Bar {
    pub(super) fn new() -> Self {
        let bar = ProgressBar::with_draw_target(Some(STEPS as u64), ProgressDrawTarget::stderr_with_hz(10));
        Bar { bar, stage: None, run: 1, drawn: Instant::now(), now: Duration::ZERO }
    }

    pub(super) fn show(&mut self, progress: Progress) {
        if progress.now < self.now {
            self.run += 1;
            self.stage = None;
        }
        self.now = progress.now;
        let time = Instant::now();
        let begun = match self.stage {
            // A stage is over when it has another name or another end.
            Some(begun) if begun.progress.stage == progress.stage && begun.progress.end == progress.end => begun,
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
        let template = if begun.progress.end.is_some() { "{prefix} {bar:20} {msg}" } else { "{prefix} {msg}" };
        if let Ok(style) = ProgressStyle::with_template(template) {
            self.bar.set_style(style);
        }
        let run = if self.run > 1 { format!(" (run {})", self.run) } else { String::new() };
        self.bar.set_prefix(format!("{:15}", format!("{}{run}", begun.progress.stage)));
        begun
    }

    pub(super) fn clear(&self) {
        self.bar.finish_and_clear();
    }
}

/// How much of the stage is over, if its end is known.
fn share(begun: &Progress, progress: &Progress) -> Option<f64> {
    let whole = progress.end?.checked_sub(begun.now)?.as_secs_f64();
    let over = progress.now.saturating_sub(begun.now).as_secs_f64();
    (whole > 0.0).then(|| (over / whole).min(1.0))
}

/// The virtual time, the speed, and how long it will take in real time.
fn line(begun: &Progress, progress: &Progress, elapsed: Duration) -> String {
    let mut text = match progress.end.and_then(|end| end.checked_sub(begun.now)) {
        Some(whole) => format!("{} of {}", brief(progress.now.saturating_sub(begun.now)), brief(whole)),
        None => format!("{}, {} nodes", brief(progress.now), count(progress.nodes)),
    };
    let seconds = elapsed.as_secs_f64();
    if seconds > 0.2 {
        let events = progress.events.saturating_sub(begun.events) as f64 / seconds;
        text += &format!("  {} events/s", count(events.round() as u64));
        let left = share(begun, progress).filter(|share| *share > 0.01).map(|share| seconds / share - seconds);
        if let Some(left) = left.and_then(|left| Duration::try_from_secs_f64(left).ok()) {
            text += &format!("  {} left", brief(left));
        }
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

    #[test]
    fn the_line_says_what_is_left() {
        let progress = |now, end: Option<u64>, events| Progress {
            stage: "churn",
            now: Duration::from_secs(now),
            end: end.map(Duration::from_secs),
            nodes: 1000,
            events,
        };
        let begun = progress(100, Some(86_500), 1_000);
        let text = line(&begun, &progress(21_700, Some(86_500), 2_001_000), Duration::from_secs(20));
        assert_eq!(text, "6h of 24h  100,000 events/s  1m left");
        let text = line(&progress(0, None, 0), &progress(90, None, 500), Duration::from_millis(100));
        assert_eq!(text, "1m30s, 1,000 nodes");
    }
}
