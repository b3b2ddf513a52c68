//! What was asked and what was found: as a table and as JSON.

use std::collections::BTreeMap;
use std::time::Duration;

use comfy_table::Table;
use kademlia_dht::Effort;
use kademlia_dht::testnet::Transports;
use serde::Serialize;

use crate::tables::empty_table;

/// The transports of the node that saved and of the one that asked.
type Pair = (Transports, Transports);

/// What came of the queries of one round.
#[derive(Debug, Clone, Default)]
pub(crate) struct Round {
    pairs: BTreeMap<Pair, Tally>,
}

#[derive(Debug, Clone, Default)]
struct Tally {
    asked: usize,
    found: usize,
    /// What the queries took that ended with an answer, found or not.
    efforts: Vec<Effort>,
}

impl Tally {
    fn add(&mut self, other: &Tally) {
        self.asked += other.asked;
        self.found += other.found;
        self.efforts.extend(&other.efforts);
    }

    fn row(&self, from: String, to: String) -> Row {
        let mut times: Vec<Duration> = self.efforts.iter().map(|effort| effort.elapsed).collect();
        times.sort_unstable();
        Row {
            from,
            to,
            asked: self.asked,
            found: self.found,
            p50_ms: percentile(&times, 50),
            p99_ms: percentile(&times, 99),
            hops: mean(self.efforts.iter().map(|effort| effort.hops)),
            messages: mean(self.efforts.iter().map(|effort| effort.messages)),
        }
    }
}

/// One pair of transports. What cannot be told, because no query ended with an answer, is left out.
#[derive(Debug, Clone, Serialize)]
struct Row {
    from: String,
    to: String,
    asked: usize,
    found: usize,
    p50_ms: Option<f64>,
    p99_ms: Option<f64>,
    hops: Option<f64>,
    messages: Option<f64>,
}

impl Round {
    /// Counts one query. `effort` is `None` if it ended without an answer.
    pub(crate) fn count(&mut self, from: Transports, to: Transports, found: bool, effort: Option<Effort>) {
        let tally = self.pairs.entry((from, to)).or_default();
        tally.asked += 1;
        tally.found += usize::from(found);
        tally.efforts.extend(effort);
    }

    pub(crate) fn asked(&self) -> usize {
        self.pairs.values().map(|tally| tally.asked).sum()
    }

    pub(crate) fn found(&self) -> usize {
        self.pairs.values().map(|tally| tally.found).sum()
    }

    /// This round and the other, as one.
    pub(crate) fn and(mut self, other: &Round) -> Round {
        for (pair, tally) in &other.pairs {
            self.pairs.entry(*pair).or_default().add(tally);
        }
        self
    }

    fn rows(&self) -> Vec<Row> {
        self.pairs.iter().map(|((from, to), tally)| tally.row(from.to_string(), to.to_string())).collect()
    }

    /// A table with a row for each pair, and one for all.
    pub(crate) fn table(&self) -> Table {
        let header = ["saved on", "asked on", "found/asked", "median ms", "99 % ms", "hops", "messages"];
        let mut table = empty_table(header, 2);
        let mut all = Tally::default();
        self.pairs.values().for_each(|tally| all.add(tally));
        for row in self.rows().into_iter().chain([all.row("all".to_owned(), "all".to_owned())]) {
            let number = |number: Option<f64>| number.map_or_else(|| "-".to_owned(), |number| format!("{number:.1}"));
            let found = format!("{}/{}", row.found, row.asked);
            let numbers = [row.p50_ms, row.p99_ms, row.hops, row.messages].map(number);
            table.add_row([row.from, row.to, found].into_iter().chain(numbers));
        }
        table
    }
}

/// The whole result, as JSON.
#[derive(Debug, Serialize)]
pub(crate) struct Summary {
    nodes: usize,
    records: usize,
    asked: usize,
    found: usize,
    pairs: Vec<Row>,
    #[serde(skip_serializing_if = "Option::is_none")]
    after_kill: Option<AfterKill>,
}

/// What of all that was asked after nodes were killed.
#[derive(Debug, Serialize)]
struct AfterKill {
    killed: usize,
    asked: usize,
    found: usize,
    pairs: Vec<Row>,
}

impl Summary {
    /// `killed` are the number of nodes that were killed, and the second round.
    pub(crate) fn new(nodes: usize, records: usize, first: &Round, killed: Option<(usize, &Round)>) -> Self {
        let all = killed.iter().fold(first.clone(), |all, (_, second)| all.and(second));
        let after_kill = killed.map(|(killed, round)| AfterKill {
            killed,
            asked: round.asked(),
            found: round.found(),
            pairs: round.rows(),
        });
        Summary { nodes, records, asked: all.asked(), found: all.found(), pairs: all.rows(), after_kill }
    }
}

/// The smallest of `sorted` that at least so many percent do not exceed, in milliseconds.
pub(crate) fn percentile(sorted: &[Duration], percent: usize) -> Option<f64> {
    let rank = (sorted.len() * percent).div_ceil(100).max(1);
    sorted.get(rank - 1).map(|time| round(time.as_secs_f64() * 1000.0))
}

pub(crate) fn mean(numbers: impl ExactSizeIterator<Item = usize>) -> Option<f64> {
    let amount = numbers.len();
    (amount > 0).then(|| round(numbers.sum::<usize>() as f64 / amount as f64))
}

/// To three digits behind the point.
pub(crate) fn round(number: f64) -> f64 {
    (number * 1000.0).round() / 1000.0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn effort(milliseconds: u64) -> Effort {
        Effort { messages: 4, hops: 2, elapsed: Duration::from_millis(milliseconds), ..Effort::default() }
    }

    #[test]
    fn percentiles_are_by_nearest_rank() {
        let times: Vec<Duration> = (1..=200).map(Duration::from_millis).collect();
        assert_eq!((percentile(&times, 50), percentile(&times, 99)), (Some(100.0), Some(198.0)));
        assert_eq!(percentile(&times[..1], 99), Some(1.0));
        assert_eq!(percentile(&[], 50), None);
    }

    #[test]
    fn rounds_add_up_and_keep_pairs_apart() {
        let (udp, tcp) = ("udp".parse().unwrap(), "tcp+unix".parse().unwrap());
        let (mut first, mut second) = (Round::default(), Round::default());
        first.count(udp, tcp, true, Some(effort(3)));
        first.count(tcp, udp, true, Some(effort(1)));
        second.count(udp, tcp, false, None);
        let summary = serde_json::to_value(Summary::new(9, 1, &first, Some((4, &second)))).unwrap();
        assert_eq!((summary["asked"].as_u64(), summary["found"].as_u64()), (Some(3), Some(2)));
        let pair = &summary["pairs"][0];
        assert_eq!((&pair["from"], &pair["to"]), (&"udp".into(), &"tcp+unix".into()));
        assert_eq!((&pair["asked"], &pair["found"], &pair["p50_ms"]), (&2.into(), &1.into(), &3.0.into()));
        assert_eq!(summary["after_kill"]["killed"], 4);
        assert!(summary["after_kill"]["pairs"][0]["p99_ms"].is_null());
        assert!(serde_json::to_value(Summary::new(9, 1, &first, None)).unwrap().get("after_kill").is_none());
        assert!(first.and(&second).table().to_string().contains("2/3"));
    }
}
