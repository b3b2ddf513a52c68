//! What is measured: the figures, and how several runs become one.

use std::time::Duration;

use serde::{Serialize, Serializer};

use crate::report::round;

/// Something that is measured.
#[derive(Debug, PartialEq)]
pub(super) struct Figure {
    /// Its name in the JSON object.
    pub(super) key: &'static str,
    /// Its name in the table.
    pub(super) name: &'static str,
    pub(super) unit: &'static str,
}

macro_rules! figures {
    ($($constant:ident $key:literal $name:literal $unit:literal)*) => {
        $(pub(super) const $constant: Figure = Figure { key: $key, name: $name, unit: $unit };)*
    };
}

figures! {
    ECHO_CPU "echo_cpu_us" "echo of a datagram: processor time" "us"
    ECHO_RATE "echo_per_s" "  a second" ""
    FIND_NODE_CPU "find_node_cpu_us" "FIND_NODE over UDP: processor time" "us"
    FIND_NODE_RATIO "find_node_ratio" "  times the echo" ""
    FIND_NODE_RATE "find_node_per_s" "  a second" ""
    FIND_NODE_TCP_CPU "find_node_tcp_cpu_us" "FIND_NODE over TCP: processor time" "us"
    FIND_NODE_TCP_RATE "find_node_tcp_per_s" "  a second" ""
    FIND_NODE_UNIX_CPU "find_node_unix_cpu_us" "FIND_NODE over a Unix socket: processor time" "us"
    FIND_NODE_UNIX_RATE "find_node_unix_per_s" "  a second" ""
    SAVE_P50 "save_p50_ms" "save: median" "ms"
    SAVE_P99 "save_p99_ms" "  99 % within" "ms"
    SAVE_CPU "save_cpu_ms" "  processor time of the process" "ms"
    QUERY_P50 "query_p50_ms" "query: median" "ms"
    QUERY_P99 "query_p99_ms" "  99 % within" "ms"
    QUERY_CPU "query_cpu_ms" "  processor time of the process" "ms"
    QUERY_RATE "query_per_s_16" "  a second, 16 in flight" ""
    IDLE_CPU "idle_cpu_s_per_10s" "idle: processor time of the process in 10 s" "s"
    MEMORY "rss_kib_per_node" "memory: resident, a node" "KiB"
    MEMORY_ANONYMOUS "anon_kib_per_node" "  without files and code" "KiB"
    MEMORY_STACKS "stack_kib_per_node" "  of that, stacks of threads" "KiB"
}

/// What was measured, in the order in which it is shown. What cannot be measured on this system is not there.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Figures(Vec<(&'static Figure, f64)>);

impl Figures {
    pub(super) fn add(&mut self, figure: &'static Figure, value: Option<f64>) {
        self.0.extend(value.map(|value| (figure, value)));
    }

    pub(super) fn append(&mut self, mut others: Figures) {
        self.0.append(&mut others.0);
    }

    pub(super) fn get(&self, figure: &Figure) -> Option<f64> {
        self.iter().find(|(other, _)| *other == figure).map(|(_, value)| value)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (&'static Figure, f64)> {
        self.0.iter().copied()
    }

    /// The median of each figure over several runs.
    pub(super) fn median(runs: &[Figures]) -> Figures {
        let Some(first) = runs.first() else { return Figures::default() };
        let over_runs = |figure| median(runs.iter().filter_map(|run| run.get(figure)));
        let figures = first.iter().filter_map(|(figure, _)| Some((figure, over_runs(figure)?)));
        Figures(figures.collect())
    }
}

impl Serialize for Figures {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.iter().map(|(figure, value)| (figure.key, round(value))))
    }
}

/// The one in the middle, or between the two in the middle.
pub(super) fn median(values: impl Iterator<Item = f64>) -> Option<f64> {
    let mut values: Vec<f64> = values.collect();
    values.sort_unstable_by(f64::total_cmp);
    let upper = values.len() / 2;
    let lower = values.len().checked_sub(1)? / 2;
    Some((values.get(lower)? + values.get(upper)?) / 2.0)
}

pub(super) fn microseconds(time: Duration) -> f64 {
    time.as_secs_f64() * 1e6
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn medians() {
        let of = |values: &[f64]| median(values.iter().copied());
        assert_eq!(
            [of(&[]), of(&[3.0]), of(&[4.0, 1.0]), of(&[9.0, 1.0, 2.0])],
            [None, Some(3.0), Some(2.5), Some(2.0)]
        );
    }

    #[test]
    fn runs_become_one_by_the_median_of_each_figure() {
        let run = |echo: f64, memory: Option<f64>| {
            let mut figures = Figures::default();
            figures.add(&ECHO_CPU, Some(echo));
            figures.add(&MEMORY, memory);
            figures
        };
        let all = Figures::median(&[run(3.0, Some(100.0)), run(1.0, None), run(2.0, None)]);
        assert_eq!(serde_json::to_string(&all).unwrap(), r#"{"echo_cpu_us":2.0,"rss_kib_per_node":100.0}"#);
    }
}
