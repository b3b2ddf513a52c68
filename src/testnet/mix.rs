//! Which nodes a network is made of.

use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;

/// A way between nodes of a test network. Each is on the loopback of this host, or within this process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Transport {
    /// UDP over IPv4.
    Udp,
    /// UDP over IPv6.
    Udp6,
    /// TCP over IPv4.
    Tcp,
    /// TCP over IPv6.
    Tcp6,
    /// Unix sockets.
    Unix,
    /// Memory of this process.
    Memory,
}

impl Transport {
    /// All of them, in the order in which sets of them are written.
    pub const ALL: [Transport; 6] =
        [Transport::Udp, Transport::Udp6, Transport::Tcp, Transport::Tcp6, Transport::Unix, Transport::Memory];

    /// What it is called in a mix.
    pub fn name(self) -> &'static str {
        match self {
            Transport::Udp => "udp",
            Transport::Udp6 => "udp6",
            Transport::Tcp => "tcp",
            Transport::Tcp6 => "tcp6",
            Transport::Unix => "unix",
            Transport::Memory => "memory",
        }
    }

    /// Whether it goes over connections, each of which takes an open file at both ends.
    pub(super) fn has_connections(self) -> bool {
        matches!(self, Transport::Tcp | Transport::Tcp6 | Transport::Unix)
    }

    fn bit(self) -> u8 {
        1 << self as u8
    }
}

impl fmt::Display for Transport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl FromStr for Transport {
    type Err = MixError;

    fn from_str(name: &str) -> Result<Self, MixError> {
        let known = Transport::ALL.into_iter().find(|transport| transport.name() == name);
        known.ok_or_else(|| MixError::UnknownTransport(name.to_owned()))
    }
}

/// The transports of one node: `udp`, or `udp+tcp` for a node that joins the two.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Transports(u8);

impl Transports {
    /// Whether `transport` is one of them.
    pub fn contains(self, transport: Transport) -> bool {
        self.0 & transport.bit() != 0
    }

    /// Each of them.
    pub fn iter(self) -> impl Iterator<Item = Transport> {
        Transport::ALL.into_iter().filter(move |transport| self.contains(*transport))
    }

    /// How many they are.
    pub fn count(self) -> usize {
        self.0.count_ones() as usize
    }

    /// Those that are among `others` too; `None` if none is.
    pub fn shared_with(self, others: Transports) -> Option<Transports> {
        let shared = self.0 & others.0;
        (shared != 0).then_some(Transports(shared))
    }

    /// These and the others.
    pub fn and(self, others: impl Into<Transports>) -> Transports {
        Transports(self.0 | others.into().0)
    }

    fn without(self, others: Transports) -> Option<Transports> {
        let left = self.0 & !others.0;
        (left != 0).then_some(Transports(left))
    }
}

impl From<Transport> for Transports {
    fn from(transport: Transport) -> Self {
        Transports(transport.bit())
    }
}

impl fmt::Display for Transports {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<&str> = self.iter().map(Transport::name).collect();
        f.pad(&names.join("+"))
    }
}

impl FromStr for Transports {
    type Err = MixError;

    fn from_str(text: &str) -> Result<Self, MixError> {
        let mut all: Option<Transports> = None;
        for name in text.split('+') {
            let transport = name.trim().parse::<Transport>()?;
            if all.is_some_and(|all| all.contains(transport)) {
                return Err(MixError::RepeatedTransport { transport, part: text.to_owned() });
            }
            all = Some(all.map_or_else(|| transport.into(), |all| all.and(transport)));
        }
        all.ok_or(MixError::Empty)
    }
}

/// If nodes on these transports fall apart into groups that cannot reach each other: the transports of one such group
/// and all others.
pub(super) fn split(nodes: impl IntoIterator<Item = Transports>) -> Option<(Transports, Transports)> {
    let kinds: BTreeSet<Transports> = nodes.into_iter().collect();
    let all = kinds.iter().copied().reduce(Transports::and)?;
    let mut joined = *kinds.first()?;
    loop {
        let within = kinds.iter().filter(|kind| kind.shared_with(joined).is_some());
        let wider = within.fold(joined, |joined, kind| joined.and(*kind));
        if wider == joined {
            return all.without(joined).map(|others| (joined, others));
        }
        joined = wider;
    }
}

/// How many nodes there are on which transports, such as `udp=20,tcp=20,udp+tcp=3`.
///
/// Every node can reach every other, if need be through nodes on several transports: a mix of which that is not true
/// cannot be made.
///
/// ```
/// use kademlia_dht::testnet::Mix;
/// let mix: Mix = "udp=3,tcp=3,udp+tcp=1".parse()?;
/// assert_eq!(mix.nodes(), 7);
/// let split = "udp=3,tcp=3".parse::<Mix>().unwrap_err();
/// assert!(split.to_string().contains("no node joins"));
/// # Ok::<(), kademlia_dht::testnet::MixError>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mix {
    parts: Vec<(Transports, usize)>,
}

/// Why there is no such mix.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum MixError {
    /// There is nothing in it.
    #[error("a mix names at least one kind of node, such as `udp=20`")]
    Empty,
    /// A part is not of the right form.
    #[error("`{0}` is not like `udp=20` or `udp+tcp=3`")]
    Part(String),
    /// A transport that does not exist.
    #[error("there is no transport `{0}`; there are udp, udp6, tcp, tcp6, unix and memory")]
    UnknownTransport(String),
    /// A transport stands twice in one part.
    #[error("`{part}` names {transport} twice")]
    RepeatedTransport {
        /// The transport.
        transport: Transport,
        /// The part.
        part: String,
    },
    /// Two parts are on the same transports.
    #[error("the mix says twice how many nodes are on {0}")]
    Duplicate(Transports),
    /// A part without nodes.
    #[error("the mix has 0 nodes on {0}; leave that part out")]
    NoNodes(Transports),
    /// More nodes than one process can run.
    #[error("the mix has more than {} nodes", Mix::MOST_NODES)]
    TooMany,
    /// Fewer nodes than kinds of nodes.
    #[error("{nodes} nodes are too few for a mix of {kinds} kinds; give a mix that has fewer")]
    TooFew {
        /// The nodes.
        nodes: usize,
        /// The kinds.
        kinds: usize,
    },
    /// The network would fall apart.
    #[error("no node joins {one} with {other}: the network would be two; add one to the mix that is on both")]
    Split {
        /// The transports of one part of the network.
        one: Transports,
        /// All others.
        other: Transports,
    },
}

impl Mix {
    /// The most nodes.
    pub const MOST_NODES: usize = 10_000;

    /// A mix with so many nodes on these transports each.
    ///
    /// # Errors
    ///
    /// If there is no node, a kind of node stands twice or has none, or not all can reach each other.
    pub fn new(parts: impl IntoIterator<Item = (Transports, usize)>) -> Result<Self, MixError> {
        let parts: Vec<_> = parts.into_iter().collect();
        let mut seen = BTreeSet::new();
        let mut nodes = 0_usize;
        for (transports, count) in &parts {
            if !seen.insert(*transports) {
                return Err(MixError::Duplicate(*transports));
            }
            if *count == 0 {
                return Err(MixError::NoNodes(*transports));
            }
            nodes = nodes.saturating_add(*count);
        }
        if parts.is_empty() {
            return Err(MixError::Empty);
        }
        if nodes > Mix::MOST_NODES {
            return Err(MixError::TooMany);
        }
        match split(seen) {
            Some((one, other)) => Err(MixError::Split { one, other }),
            None => Ok(Mix { parts }),
        }
    }

    /// How many nodes there are.
    pub fn nodes(&self) -> usize {
        self.parts.iter().map(|(_, count)| count).sum()
    }

    /// The kinds of nodes, and how many there are of each.
    pub fn parts(&self) -> &[(Transports, usize)] {
        &self.parts
    }

    /// A mix of as many nodes as `nodes`, in the proportions of this one, with at least one of each kind.
    ///
    /// # Errors
    ///
    /// If that is not possible.
    pub fn scaled(&self, nodes: usize) -> Result<Mix, MixError> {
        let (all, kinds) = (self.nodes(), self.parts.len());
        if nodes < kinds {
            return Err(MixError::TooFew { nodes, kinds });
        }
        if nodes > Mix::MOST_NODES {
            return Err(MixError::TooMany);
        }
        // Each kind's share of the nodes beyond the one that it has in any case; the largest remainders are rounded up.
        let spare = nodes - kinds;
        let weights: Vec<usize> = self.parts.iter().map(|(_, count)| (count * nodes).saturating_sub(all)).collect();
        let sum = weights.iter().sum::<usize>().max(1);
        let mut counts: Vec<usize> = weights.iter().map(|weight| 1 + weight * spare / sum).collect();
        let missing = nodes - counts.iter().sum::<usize>();
        let mut rounded: Vec<_> = counts.iter_mut().zip(weights.iter().map(|weight| weight * spare % sum)).collect();
        rounded.sort_by_key(|(_, remainder)| std::cmp::Reverse(*remainder));
        rounded.into_iter().take(missing).for_each(|(count, _)| *count += 1);
        Mix::new(self.parts.iter().map(|(transports, _)| *transports).zip(counts))
    }
}

impl Default for Mix {
    /// 60 nodes on UDP, TCP and Unix sockets, of which six join two of these. None is on UDP and Unix sockets: what
    /// passes between those goes through two relays.
    fn default() -> Self {
        let [udp, tcp, unix] = [Transport::Udp, Transport::Tcp, Transport::Unix].map(Transports::from);
        Mix { parts: vec![(udp, 20), (tcp, 20), (unix, 14), (udp.and(tcp), 3), (tcp.and(unix), 3)] }
    }
}

impl fmt::Display for Mix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, (transports, count)) in self.parts.iter().enumerate() {
            let comma = if index == 0 { "" } else { "," };
            write!(f, "{comma}{transports}={count}")?;
        }
        Ok(())
    }
}

impl FromStr for Mix {
    type Err = MixError;

    fn from_str(text: &str) -> Result<Self, MixError> {
        if text.trim().is_empty() {
            return Err(MixError::Empty);
        }
        let part = |part: &str| {
            let wrong = || MixError::Part(part.trim().to_owned());
            let (transports, count) = part.split_once('=').ok_or_else(wrong)?;
            let transports = transports.trim().parse::<Transports>()?;
            Ok((transports, count.trim().parse().map_err(|_| wrong())?))
        };
        Mix::new(text.split(',').map(part).collect::<Result<Vec<_>, MixError>>()?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn error(text: &str) -> String {
        text.parse::<Mix>().unwrap_err().to_string()
    }

    #[test]
    fn text_both_ways() {
        let text = "udp=20,tcp=20,unix=14,udp+tcp=3,tcp+unix=3";
        let mix: Mix = text.parse().unwrap();
        assert_eq!((mix.to_string().as_str(), mix.nodes()), (text, 60));
        assert_eq!(mix, Mix::default());
        let spaced: Mix = " tcp+udp = 2 , memory+udp6+tcp6+udp=1".parse().unwrap();
        assert_eq!(spaced.to_string(), "udp+tcp=2,udp+udp6+tcp6+memory=1");
    }

    #[test]
    fn errors_say_what_is_wrong() {
        assert!(error("").contains("at least one kind"));
        assert!(error("udp").contains("`udp` is not like"));
        assert!(error("udp=").contains("`udp=` is not like"));
        assert!(error("udp=-1").contains("`udp=-1` is not like"));
        assert!(error("udp=1,").contains("`` is not like"));
        assert!(error("quic=1").contains("no transport `quic`; there are udp"));
        assert!(error("udp+udp=1").contains("names udp twice"));
        assert!(error("udp+tcp=1,tcp+udp=2").contains("twice how many nodes are on udp+tcp"));
        assert!(error("udp=0").contains("0 nodes on udp"));
        assert!(error("udp=99999999").contains("more than 10000"));
        assert!(error("udp=18446744073709551615,tcp+udp=1").contains("more than"));
    }

    #[test]
    fn a_mix_that_would_split_is_refused() {
        assert!(error("udp=1,tcp=1").contains("no node joins udp with tcp"));
        let error = error("udp=5,udp+tcp=1,tcp+unix=1,memory=1,udp6+memory=1");
        assert!(error.contains("udp+tcp+unix with udp6+memory"), "{error}");
        // Through two others in a row.
        assert!("udp=1,unix=1,udp+tcp=1,tcp+memory=1,memory+unix=1".parse::<Mix>().is_ok());
    }

    #[test]
    fn scaled_keeps_the_proportions() {
        let scaled = |nodes| Mix::default().scaled(nodes).unwrap().to_string();
        assert_eq!(scaled(60), Mix::default().to_string());
        assert_eq!(scaled(120), "udp=40,tcp=40,unix=28,udp+tcp=6,tcp+unix=6");
        assert_eq!(scaled(5), "udp=1,tcp=1,unix=1,udp+tcp=1,tcp+unix=1");
        assert!(matches!(Mix::default().scaled(4), Err(MixError::TooFew { nodes: 4, kinds: 5 })));
        assert_eq!(Mix::default().scaled(usize::MAX), Err(MixError::TooMany));
    }

    proptest! {
        #[test]
        fn scaled_gives_the_number_asked_for(nodes in 5usize..2000) {
            prop_assert_eq!(Mix::default().scaled(nodes).unwrap().nodes(), nodes);
        }

        #[test]
        fn no_text_panics(text in "[a-z6+=,0-9 ]{0,40}") {
            if let Ok(mix) = text.parse::<Mix>() {
                prop_assert_eq!(mix.to_string().parse::<Mix>(), Ok(mix));
            }
        }
    }
}
