//! What was run, in a line: the same above tables and in pictures.

use crate::experiment::Plan;
use crate::{Loss, Sessions};

impl Plan {
    /// What is run in an experiment, in a line: the nodes, how many of them are killed or cut off, the time, how nodes come and
    /// go, what is lost, how many lie, k, alpha and the seed.
    ///
    /// ```
    /// use kademlia_simulator::experiment::Plan;
    ///
    /// assert_eq!(Plan::default().summary("lookups"), "1,000 nodes, k 20, alpha 3, seed 1");
    /// assert_eq!(Plan::default().summary("kill"), "1,000 nodes, 50 % killed, k 20, alpha 3, seed 1");
    /// ```
    pub fn summary(&self, experiment: &str) -> String {
        self.without("", experiment)
    }

    /// The same for a series, whose axis is not told again.
    #[cfg(feature = "charts")]
    pub(crate) fn summary_of(&self, experiment: &str, series: &crate::experiment::Series) -> String {
        let summary = self.without(series.axis, experiment);
        if series.axis == "nodes" && series.points.len() > 1 { format!("up to {summary}") } else { summary }
    }

    /// All but the parameter with this name.
    fn without(&self, name: &str, experiment: &str) -> String {
        let mut parts = vec![format!("{} nodes", grouped(&self.nodes.to_string()))];
        let share = brief(self.share * 100.0);
        parts.extend(match experiment {
            "kill" if name != "killed" => Some(format!("{share} % killed")),
            "partition" => Some(format!("{share} % on one side")),
            _ => None,
        });
        parts.extend(self.time.map(|time| format!("{} h", brief(time.as_secs_f64() / 3600.0))));
        parts.extend(self.churn.map(|churn| sessions(churn.sessions)));
        parts.extend(loss(self.setup.wire.loss));
        let liars = Some(self.setup.liars).filter(|share| *share > 0.0 && name != "liars");
        parts.extend(liars.map(|share| format!("{} % liars", brief(share * 100.0))));
        let params = [("k", self.setup.params.k), ("alpha", self.setup.params.alpha)];
        parts.extend(params.iter().filter(|(other, _)| *other != name).map(|(name, value)| format!("{name} {value}")));
        parts.push(format!("seed {}", self.setup.seed));
        parts.join(", ")
    }
}

fn sessions(sessions: Sessions) -> String {
    let (kind, median) = match sessions {
        Sessions::Exponential { median } => ("exponential sessions".to_owned(), median),
        Sessions::Weibull { shape, median } => (format!("Weibull sessions of shape {}", brief(shape)), median),
    };
    format!("{kind} with a median of {} min", brief(median.as_secs_f64() / 60.0))
}

fn loss(loss: Loss) -> Option<String> {
    let percent = |share: f64| format!("{} % loss", brief(share * 100.0));
    match loss {
        Loss::Independent(share) => (share > 0.0).then(|| percent(share)),
        Loss::Bursts { share, length } => {
            (share > 0.0).then(|| format!("{} in bursts of {} s", percent(share), brief(length.as_secs_f64())))
        }
    }
}

/// Without digits that say nothing.
fn brief(number: f64) -> String {
    ((number * 1000.0).round() / 1000.0).to_string()
}

/// Digits in groups of three.
pub(crate) fn grouped(number: &str) -> String {
    let (whole, rest) = number.split_at(number.find('.').unwrap_or(number.len()));
    let mut text = String::new();
    for (index, digit) in whole.chars().enumerate() {
        if index > 0 && (whole.len() - index).is_multiple_of(3) && !text.ends_with('-') {
            text.push(',');
        }
        text.push(digit);
    }
    text + rest
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::{Churn, Departure, Setup, Wire};

    #[test]
    fn groups_of_digits() {
        assert_eq!(["1", "-123", "1234", "-123456.75"].map(grouped), ["1", "-123", "1,234", "-123,456.75"]);
    }

    #[test]
    fn what_was_run_is_told() {
        let minutes = |minutes: u64| Duration::from_secs(minutes * 60);
        let plan = |sessions, loss, time| Plan {
            setup: Setup { wire: Wire { loss, ..Wire::default() }, ..Setup::default() },
            churn: Some(Churn { sessions, departure: Departure::Replaced }),
            time: Some(time),
            ..Plan::default()
        };
        let exponential = Sessions::Exponential { median: minutes(60) };
        let lossy = plan(exponential, Loss::Independent(0.07), minutes(24 * 60));
        let told = "1,000 nodes, 24 h, exponential sessions with a median of 60 min, 7 % loss, k 20, alpha 3, seed 1";
        assert_eq!(lossy.summary("churn"), told);
        let weibull = Sessions::Weibull { shape: 0.6, median: minutes(2) };
        let bursts = Loss::Bursts { share: 0.05, length: Duration::from_millis(1500) };
        let told = "1,000 nodes, 0.2 h, Weibull sessions of shape 0.6 with a median of 2 min, \
            5 % loss in bursts of 1.5 s, k 20, alpha 3, seed 1";
        assert_eq!(plan(weibull, bursts, minutes(12)).summary("churn"), told);
    }

    #[test]
    #[cfg(feature = "charts")]
    fn what_differs_along_the_axis_is_not_told_as_if_it_did_not() {
        let told = |experiment, axis, points| {
            let point = crate::experiment::Point { at: 1.0, report: crate::Report::default() };
            Plan::default().summary_of(experiment, &crate::experiment::Series { axis, points: vec![point; points] })
        };
        assert_eq!(told("lookups", "nodes", 2), "up to 1,000 nodes, k 20, alpha 3, seed 1");
        assert_eq!(told("lookups", "nodes", 1), "1,000 nodes, k 20, alpha 3, seed 1");
        let lying = Plan { setup: Setup { liars: 0.25, ..Setup::default() }, ..Plan::default() };
        assert_eq!(lying.summary("liars"), "1,000 nodes, 25 % liars, k 20, alpha 3, seed 1");
        let series = crate::experiment::Series { axis: "liars", points: Vec::new() };
        assert_eq!(lying.summary_of("liars", &series), Plan::default().summary("liars"));
        assert_eq!(told("sweep", "k", 7), "1,000 nodes, alpha 3, seed 1");
        assert_eq!(told("sweep", "alpha", 7), "1,000 nodes, k 20, seed 1");
    }
}
