//! The wire: how long messages take, and which never arrive.

use std::time::Duration;

use kademlia_dht::core::Time;

use crate::handle::mix;
use crate::random::{Random, normal, unit};

/// What happens to messages. By default: round trips of 80 ms at the median, and no faults.
#[derive(Debug, Clone, PartialEq)]
pub struct Wire {
    /// How long a message and its reply take between two nodes: the same every time.
    pub latency: Latency,
    /// Each message takes longer by up to this share of its time, another each time. Messages overtake each other.
    pub jitter: f64,
    /// The share of the round trip by which one way is longer than the other, at most: 0 for two equal ways, 1 if all
    /// of it may be on one.
    pub asymmetry: f64,
    /// Which messages are lost.
    pub loss: Loss,
    /// The share of messages that arrive twice, the second time up to two minutes later.
    pub duplicates: f64,
    /// The share of pairs of nodes of which one hears the other, but not the other way round.
    pub one_way: f64,
    /// Nodes that are slow to take what arrives.
    pub slow: Slow,
}

/// Round trips.
#[derive(Debug, Clone, PartialEq)]
pub enum Latency {
    /// All alike.
    Constant(Duration),
    /// Those of the internet: lognormal.
    LogNormal {
        /// Half of all pairs of nodes are nearer to each other than this.
        median: Duration,
        /// The standard deviation of the logarithm: with 0.5, one pair in a hundred takes 3.2 times the median.
        sigma: f64,
    },
    /// Each node is at one of several places, evenly; the entry at (a, b) is the round trip that starts at a and leads
    /// to b, of which half is each way.
    Matrix(Vec<Vec<Duration>>),
}

/// Which messages are lost.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Loss {
    /// This share, each for itself.
    Independent(f64),
    /// About this share, as each node's connection fails for periods of a given length.
    Bursts {
        /// The share of messages.
        share: f64,
        /// How long a connection fails at a time.
        length: Duration,
    },
}

/// Nodes that are slow to take what arrives.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Slow {
    /// The share of nodes.
    pub share: f64,
    /// How much longer it takes until a message is dealt with there.
    pub delay: Duration,
}

impl Default for Wire {
    fn default() -> Self {
        Wire {
            latency: Latency::LogNormal { median: Duration::from_millis(80), sigma: 0.5 },
            jitter: 0.0,
            asymmetry: 0.0,
            loss: Loss::Independent(0.0),
            duplicates: 0.0,
            one_way: 0.0,
            slow: Slow::default(),
        }
    }
}

/// How much later than usual the second copy of a message arrives: half of them by more than this, and a few by very much,
/// when what they ask for has long been answered.
const BEHIND: Duration = Duration::from_millis(500);
const BEHIND_SHAPE: f64 = 0.5;

/// No message lives longer than two minutes (RFC 9293, section 3.4.1).
const LONGEST_BEHIND: Duration = Duration::from_secs(120);

/// When a message arrives: not at all, once, or twice.
pub(crate) type Arrivals = [Option<Duration>; 2];

/// Distinguishes what is drawn for the same nodes.
#[derive(Clone, Copy)]
enum Draw {
    Latency = 1,
    Asymmetry,
    OneWay,
    Slow,
    Burst,
    Phase,
    Place,
    Side,
}

/// The wire of one world.
#[derive(Debug)]
pub(crate) struct Links {
    pub(crate) wire: Wire,
    /// What stays the same between two nodes follows from this and their numbers.
    salt: u64,
    random: Random,
    /// The share of nodes on one side of the partition, or of the last one.
    partition: Option<f64>,
    /// When it began and when it was healed.
    split: Option<Time>,
    healed: Option<Time>,
}

impl Links {
    pub(crate) fn new(mut wire: Wire, seed: u64) -> Self {
        let mut random = Random::new(seed, "wire");
        // A share beyond all or nothing, or a time beyond an hour, counts as that.
        wire.asymmetry = wire.asymmetry.clamp(0.0, 1.0);
        wire.jitter = wire.jitter.clamp(0.0, 1000.0);
        if let Latency::LogNormal { median, .. } = &mut wire.latency {
            *median = (*median).min(Duration::from_secs(3600));
        }
        Links { wire, salt: random.bits(), random, partition: None, split: None, healed: None }
    }

    /// Splits the network.
    pub(crate) fn split(&mut self, now: Time, share: f64) {
        (self.partition, self.split, self.healed) = (Some(share), Some(now), None);
    }

    /// Ends the partition.
    pub(crate) fn heal(&mut self, now: Time) {
        self.healed = Some(now);
    }

    /// Whether a partition was between two nodes at a moment.
    pub(crate) fn split_between(&self, at: Time, a: u32, b: u32) -> bool {
        let was_split = self.split.is_some_and(|split| split <= at) && self.healed.is_none_or(|healed| at <= healed);
        was_split && self.is_across(a, b)
    }

    /// When the last partition ended.
    pub(crate) fn healed(&self) -> Option<Time> {
        self.healed
    }

    /// Whether a node is on the first side of a partition into these shares.
    pub(crate) fn side(&self, node: u32, share: f64) -> bool {
        self.unit(Draw::Side, node, node) < share
    }

    /// Whether two nodes are on different sides of the partition, or of the last one.
    fn is_across(&self, a: u32, b: u32) -> bool {
        self.partition.is_some_and(|share| self.side(a, share) != self.side(b, share))
    }

    /// Whether what `from` sends can reach `to` at all.
    pub(crate) fn is_open(&self, from: u32, to: u32) -> bool {
        if self.healed.is_none() && self.is_across(from, to) {
            return false;
        }
        let (low, high) = (from.min(to), from.max(to));
        // Which of the two ways is closed follows from the same draw.
        let drawn = if self.wire.one_way > 0.0 { self.unit(Draw::OneWay, low, high) } else { 1.0 };
        drawn >= self.wire.one_way || (drawn < self.wire.one_way / 2.0) == (from < to)
    }

    /// How long a message takes, if it arrives.
    pub(crate) fn carry(&mut self, now: Time, from: u32, to: u32) -> Arrivals {
        if !self.is_open(from, to) || self.is_lost(now, from, to) {
            return [None; 2];
        }
        let time = self.one_way(from, to);
        let first = self.jittered(time);
        let second = self.random.chance(self.wire.duplicates).then(|| {
            let behind = self.random.weibull(BEHIND_SHAPE, BEHIND).min(LONGEST_BEHIND);
            self.jittered(time) + behind
        });
        [Some(first), second]
    }

    fn is_lost(&mut self, now: Time, from: u32, to: u32) -> bool {
        match self.wire.loss {
            Loss::Independent(share) => self.random.chance(share),
            Loss::Bursts { share, length } => [from, to].into_iter().any(|node| {
                let period = self.period(now, length, node);
                self.fails(share, node, period)
            }),
        }
    }

    /// Whether bursts of this share take a node's connection away in a period.
    fn fails(&self, share: f64, node: u32, period: u64) -> bool {
        // A message is lost if either end fails, so that each end has its part of the share.
        let each = 1.0 - libm::sqrt(1.0 - share.clamp(0.0, 1.0));
        unit(mix(self.bits(Draw::Burst, node, node) ^ period)) < each
    }

    /// Which of a node's periods of this length a moment is in. They begin at other moments at each node.
    fn period(&self, now: Time, length: Duration, node: u32) -> u64 {
        let length = u64::try_from(length.as_micros()).unwrap_or(u64::MAX).max(1);
        let phase = self.bits(Draw::Phase, node, node) % length;
        now.as_micros().saturating_add(phase) / length
    }

    /// Whether a burst took a node's connection away at some time between two.
    pub(crate) fn failed_between(&self, start: Time, end: Time, node: u32) -> bool {
        let Loss::Bursts { share, length } = self.wire.loss else { return false };
        let (first, last) = (self.period(start, length, node), self.period(end, length, node));
        (first..=last).any(|period| self.fails(share, node, period))
    }

    /// The usual time of a message.
    fn one_way(&self, from: u32, to: u32) -> Duration {
        let (low, high) = (from.min(to), from.max(to));
        let round_trip = match &self.wire.latency {
            Latency::Constant(time) => *time,
            Latency::LogNormal { median, sigma } => {
                let drawn = normal(self.bits(Draw::Latency, low, high));
                median.mul_f64(libm::exp(sigma * drawn).min(100.0))
            }
            Latency::Matrix(rows) => {
                let place = |node, count: usize| (self.bits(Draw::Place, node, node) % count.max(1) as u64) as usize;
                let row = rows.get(place(from, rows.len()));
                row.and_then(|row| row.get(place(to, row.len()))).copied().unwrap_or_default()
            }
        };
        let mut share = 0.5;
        if self.wire.asymmetry > 0.0 {
            let shift = (self.unit(Draw::Asymmetry, low, high) - 0.5) * self.wire.asymmetry;
            share += if from < to { shift } else { -shift };
        }
        let slow = self.wire.slow;
        let late = slow.share > 0.0 && self.unit(Draw::Slow, to, to) < slow.share;
        round_trip.mul_f64(share) + if late { slow.delay } else { Duration::ZERO }
    }

    fn jittered(&mut self, time: Duration) -> Duration {
        if self.wire.jitter > 0.0 { time.mul_f64(1.0 + self.wire.jitter * self.random.unit()) } else { time }
    }

    fn bits(&self, draw: Draw, a: u32, b: u32) -> u64 {
        mix(mix(self.salt ^ draw as u64) ^ (u64::from(a) << 32 | u64::from(b)))
    }

    fn unit(&self, draw: Draw, a: u32, b: u32) -> f64 {
        unit(self.bits(draw, a, b))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MESSAGES: u32 = 20_000;

    fn links(wire: Wire) -> Links {
        Links::new(wire, 7)
    }

    /// The times of messages between many pairs of nodes, and how many were lost.
    fn times(links: &mut Links) -> (Vec<Duration>, usize) {
        let mut times: Vec<Duration> =
            (0..MESSAGES).filter_map(|n| links.carry(Time::from_micros(u64::from(n) * 1000), n, n + 1)[0]).collect();
        times.sort_unstable();
        let lost = MESSAGES as usize - times.len();
        (times, lost)
    }

    fn percent(count: usize) -> f64 {
        count as f64 * 100.0 / f64::from(MESSAGES)
    }

    #[test]
    fn round_trips_are_lognormal_and_the_same_every_time() {
        let mut links = links(Wire::default());
        let (times, lost) = times(&mut links);
        assert_eq!(lost, 0);
        let at = |share: f64| (times[(times.len() as f64 * share) as usize] * 2).as_millis();
        assert!((78..=82).contains(&at(0.5)), "median {}", at(0.5));
        assert!((240..=275).contains(&at(0.99)), "99 % {}", at(0.99));
        assert_eq!(links.carry(Time::ZERO, 1, 2), links.carry(Time::ZERO, 2, 1));
    }

    #[test]
    fn loss_is_the_share_that_was_asked_for_in_either_model() {
        let bursts = Loss::Bursts { share: 0.3, length: Duration::from_secs(1) };
        for loss in [Loss::Independent(0.3), bursts] {
            let (_, lost) = times(&mut links(Wire { loss, ..Wire::default() }));
            assert!((28.0..32.0).contains(&percent(lost)), "{loss:?}: {lost}");
        }
        // In a burst, what is lost is lost again at once.
        let mut links = links(Wire { loss: bursts, ..Wire::default() });
        let again = |links: &mut Links, n| links.carry(Time::from_micros(0), n, n + 1)[0].is_none();
        assert!((0..1000).all(|n| again(&mut links, n) == again(&mut links, n)));
    }

    #[test]
    fn bursts_begin_at_other_moments_at_each_node() {
        let length = Duration::from_secs(10);
        let links = links(Wire { loss: Loss::Bursts { share: 0.5, length }, ..Wire::default() });
        let ms = |ms: u64| Time::from_micros(ms * 1000);
        // Within each tenth of a period the connections of about as many nodes begin or cease to fail.
        for tenth in 0..10_u64 {
            let (start, end) = (ms(100_000 + tenth * 1000), ms(100_999 + tenth * 1000));
            let change = |node: &u32| links.period(start, length, *node) != links.period(end, length, *node);
            let changed = (0..1000).filter(change).count();
            assert!((60..140).contains(&changed), "{tenth}: {changed}");
        }
    }

    #[test]
    fn duplicates_jitter_and_slow_nodes() {
        let slow = Slow { share: 0.25, delay: Duration::from_secs(1) };
        let constant = Latency::Constant(Duration::from_millis(100));
        let mut links = links(Wire { latency: constant, jitter: 1.0, duplicates: 0.05, slow, ..Wire::default() });
        let all: Vec<Arrivals> = (0..MESSAGES).map(|n| links.carry(Time::ZERO, n, n + 1)).collect();
        let twice = all.iter().filter(|arrivals| arrivals[1].is_some()).count();
        let late = all.iter().filter(|arrivals| arrivals[0] > Some(Duration::from_secs(1))).count();
        assert!((4.0..6.0).contains(&percent(twice)) && (24.0..26.0).contains(&percent(late)), "{twice} {late}");
        let between = Duration::from_millis(50)..Duration::from_millis(2100);
        assert!(all.iter().flat_map(|arrivals| arrivals[0]).all(|time| between.contains(&time)));
        let behind = |more: u64| {
            let late = |arrivals: &&Arrivals| {
                arrivals[1].is_some_and(|second| second > arrivals[0].unwrap() + Duration::from_millis(more))
            };
            all.iter().filter(late).count() as f64 / twice as f64
        };
        assert!((0.4..0.6).contains(&behind(500)) && (0.01..0.1).contains(&behind(10_000)), "{}", behind(500));
    }

    #[test]
    fn one_way_links_and_partitions() {
        let mut links = links(Wire { one_way: 0.2, ..Wire::default() });
        let open = |links: &Links, n: u32| (links.is_open(n, n + 1), links.is_open(n + 1, n));
        let broken = (0..MESSAGES).filter(|n| open(&links, *n) != (true, true)).count();
        assert!((18.0..22.0).contains(&percent(broken)), "{broken}");
        assert!((0..MESSAGES).all(|n| open(&links, n) != (false, false)));
        links.wire.one_way = 0.0;
        links.split(Time::ZERO, 0.5);
        let cut = (0..MESSAGES).filter(|n| open(&links, *n) == (false, false)).count();
        assert!((48.0..52.0).contains(&percent(cut)), "{cut}");
        assert!((0..MESSAGES).all(|n| links.is_open(n, n + 1) == (links.side(n, 0.5) == links.side(n + 1, 0.5))));
        links.heal(Time::ZERO);
        assert!(links.is_open(1, 2));
    }

    #[test]
    fn two_ways_can_differ_but_not_their_sum() {
        let constant = Latency::Constant(Duration::from_millis(100));
        let mut links = links(Wire { latency: constant, asymmetry: 1.0, ..Wire::default() });
        let mut differ = 0;
        for n in 0..1000 {
            let [there, back] = [(n, n + 1), (n + 1, n)].map(|(a, b)| links.carry(Time::ZERO, a, b)[0].unwrap());
            assert!((there + back).abs_diff(Duration::from_millis(100)) < Duration::from_micros(1));
            differ += usize::from(there.abs_diff(back) > Duration::from_millis(20));
        }
        assert!(differ > 700, "{differ}");
        let ms = Duration::from_millis;
        links.wire =
            Wire { latency: Latency::Matrix(vec![vec![ms(10), ms(200)], vec![ms(200), ms(10)]]), ..Wire::default() };
        let all: std::collections::BTreeSet<Duration> =
            (0..100).filter_map(|n| links.carry(Time::ZERO, 0, n)[0]).collect();
        assert_eq!(all.into_iter().collect::<Vec<_>>(), [ms(5), ms(100)]);
    }
}
