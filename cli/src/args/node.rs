//! `dht node`: what the node is, where it listens and whom it joins.

use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use clap::builder::NonEmptyStringValueParser;
use clap::{ArgAction, Args, ValueEnum};
use kademlia_dht::gateway::address::transport;
use kademlia_dht::gateway::mainline::{MainlineHandle, PUBLIC_ROUTERS};
use kademlia_dht::{
    Config, ConfigError, Id, KeyHasher, Multiaddr, RelayMode, RelayPolicy, Sha1Hasher, Sha256Hasher, network_named,
};

use super::settings_file::Places;
use super::value::{bytes, duration, duration_within, host_name, http_address, id, within};

/// Run a node, and reach it over HTTP if you like.
///
/// Prints `id HEX`, then `listening MULTIADDR` for each address, `http URL`, and `ready` when it has tried to join; then
/// it runs until it is told to stop. Every option can stand in a file as well: see --config.
#[derive(Debug, Clone, Args)]
#[command(after_long_help = "\
Exit status: 0 if it was told to stop (SIGINT, SIGTERM; a second one ends it at once, with status 130), 2 if the arguments \
or the file of settings are wrong, 3 if it cannot listen or print, 141 if nobody reads what it prints.

A file of settings has the same names, without the dashes in front:
  listen = [\"/ip4/0.0.0.0/udp/4222\", \"/ip4/0.0.0.0/tcp/4222\"]
  connect = [\"/ip4/192.0.2.1/udp/4222\"]
  http = \"127.0.0.1:8080\"
  data-dir = \"/var/lib/dht\"
  request-timeout = \"2s\"

Examples:
  dht node --http
  dht node --http 127.0.0.1:8081 --connect /ip4/127.0.0.1/udp/4222
  dht node --listen /ip4/0.0.0.0/udp/4222 --listen /unix/%2Frun%2Fdht.sock --config dht.toml")]
pub(crate) struct NodeArgs {
    #[command(flatten)]
    pub(super) way: WayArgs,

    /// Serve HTTP there; without a value, at 127.0.0.1:8080.
    ///
    /// At any other than a loopback address, and under the name of a proxy, it takes writes only with a token:
    /// --http-token-file.
    #[arg(
        long, value_name = "ADDR:PORT", num_args = 0..=1, default_missing_value = "127.0.0.1:8080",
        value_parser = http_address
    )]
    http: Option<SocketAddr>,

    /// Take writes over HTTP only from who shows the token in this file (`Authorization: Bearer TOKEN`).
    #[arg(long, value_name = "FILE")]
    http_token_file: Option<PathBuf>,

    /// A name by which HTTP is asked besides localhost and addresses, such as that of a proxy in front (repeatable).
    ///
    /// Who asks under it may be anybody, and writes only with a token. At a loopback address all other names are refused, as
    /// they lead here from pages of other sites.
    #[arg(long, value_name = "NAME", value_parser = host_name)]
    http_host: Vec<String>,

    /// The largest value that is taken over HTTP, such as 32MiB.
    #[arg(long, value_name = "BYTES", default_value = "32MiB", value_parser = bytes)]
    http_max_body: u64,

    /// Connections over HTTP at once; to others it says that it is busy.
    #[arg(long, value_name = "NUMBER", default_value_t = 256, value_parser = within(1_usize..=65_536))]
    http_max_connections: usize,

    /// The longest that the other end of HTTP may take for the head of a request, for 64 KiB of its body, or to read.
    #[arg(
        long, value_name = "TIME", default_value = "30s",
        value_parser = duration_within(Duration::from_millis(100)..=Duration::from_secs(3600))
    )]
    http_timeout: Duration,

    /// A folder of the node's own.
    ///
    /// In it is what it knows, with which it goes on after a restart, and the socket by which `dht get --data-dir DIR` and
    /// others reach it.
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,

    /// Ask all nodes in this file whether they are there: a multiaddr a line, as `/contacts` of another node gives it.
    #[arg(long, value_name = "FILE")]
    contacts: Option<PathBuf>,

    /// Ask and save, but serve nobody.
    ///
    /// `--client=false` is for where the file of settings says so.
    #[arg(
        long, action = ArgAction::Set, value_name = "BOOL", num_args = 0..=1, require_equals = true,
        default_value = "false", default_missing_value = "true", hide_possible_values = true, hide_default_value = true
    )]
    client: bool,

    /// The node's id, in hexadecimal; without it, a random one.
    #[arg(long, value_name = "HEX", value_parser = id)]
    id: Option<Id>,

    /// Whether to pass on messages between nodes that share no transport.
    #[arg(long, value_name = "WHEN", default_value = "auto")]
    relay: Relay,

    #[command(flatten)]
    times: TimeArgs,

    /// Read settings from a file of TOML. What is given here as well wins.
    #[arg(long, value_name = "FILE")]
    pub(super) config: Option<PathBuf>,

    /// Print one JSON object a line.
    #[arg(long)]
    json: bool,
}

/// What a node must know to reach a network: of `dht node`, and of commands that join one for a moment.
#[derive(Debug, Clone, Args)]
pub(crate) struct WayArgs {
    /// Listen there: /ip4/…/udp/…, /ip4/…/tcp/…, the same with /ip6, or /unix/PATH with `%2F` for each slash (repeatable).
    ///
    /// Port 0 is any free one. [default: a free port for each kind of address in --connect, or /ip4/127.0.0.1/udp/0]
    #[arg(long, value_name = "MULTIADDR")]
    pub(super) listen: Vec<Multiaddr>,

    /// Join the network of the node there, by address or by name: /dns/HOST/udp/… (repeatable). It is tried again until it
    /// works.
    #[arg(long, value_name = "MULTIADDR")]
    pub(super) connect: Vec<Multiaddr>,

    /// Join BitTorrent's public DHT, through the routers that its clients know by name (--network mainline).
    #[arg(long)]
    pub(super) public: bool,

    /// The protocol of the network.
    #[arg(long, value_name = "NAME", default_value = "native")]
    network: Network,

    /// The name of the network, to tell networks of one protocol apart: nodes of other names are ignored.
    #[arg(long, value_name = "NAME", value_parser = NonEmptyStringValueParser::new())]
    network_name: Option<String>,

    /// How keys are hashed; the same in all of the network.
    #[arg(long, value_name = "HASH", default_value = "sha1")]
    hash: Hash,

    /// Contacts in a bucket, and holders of a record. [default: 20; 8 in BitTorrent's DHT]
    #[arg(long, value_name = "NUMBER", value_parser = within(1_usize..=100))]
    k: Option<usize>,

    /// Requests that a lookup keeps in flight.
    #[arg(long, value_name = "NUMBER", default_value_t = 3, value_parser = within(1_usize..=64))]
    alpha: usize,

    /// Holders that must agree before a query ends early. [default: 3, or k where that is less]
    #[arg(long, value_name = "NUMBER", value_parser = within(1_usize..=100))]
    read_quorum: Option<usize>,

    /// The longest wait for one answer.
    #[arg(long, value_name = "TIME", default_value = "2s", value_parser = duration)]
    request_timeout: Duration,

    /// The longest that an operation takes.
    #[arg(long, value_name = "TIME", default_value = "30s", value_parser = duration)]
    pub(super) lookup_timeout: Duration,
}

/// What a node does from time to time.
#[derive(Debug, Clone, Args)]
struct TimeArgs {
    /// A contact not heard of for so long is pinged.
    #[arg(long, value_name = "TIME", default_value = "15m", value_parser = duration)]
    peer_timeout: Duration,

    /// How long a record lives after it was last published. [default: 24h; 2h in BitTorrent's DHT]
    #[arg(long, value_name = "TIME", value_parser = duration)]
    record_lifetime: Option<Duration>,

    /// After so long unused buckets are refreshed. [default: 1h; 15m in BitTorrent's DHT]
    #[arg(long, value_name = "TIME", value_parser = duration)]
    refresh_interval: Option<Duration>,

    /// After so long holders pass records to the nodes now closest. [default: 1h; never in BitTorrent's DHT]
    #[arg(long, value_name = "TIME", value_parser = duration)]
    replicate_interval: Option<Duration>,

    /// After so long the node publishes its own records again. [default: 22h; 30m in BitTorrent's DHT]
    #[arg(long, value_name = "TIME", value_parser = duration)]
    republish_interval: Option<Duration>,
}

/// The protocol of a network.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Network {
    /// This project's own.
    Native,
    /// Of the Python package `kademlia`: over UDP alone.
    Rpcudp,
    /// BitTorrent's DHT: over UDP alone, at one address.
    Mainline,
}

impl Network {
    /// As it is written.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Network::Native => "native",
            Network::Rpcudp => "rpcudp",
            Network::Mainline => "mainline",
        }
    }
}

/// How keys are hashed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Hash {
    /// Ids of 20 bytes.
    Sha1,
    /// Ids of 32 bytes.
    Sha256,
}

/// Whether a node relays.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Relay {
    /// Never.
    Off,
    /// Always.
    On,
    /// With two transports or more, and as no client.
    Auto,
}

/// By what a network is entered.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Entrance {
    /// An address, or a name in its place.
    Address(Multiaddr),
    /// The routers of BitTorrent's public DHT, of which one suffices.
    PublicRouters,
}

impl Entrance {
    /// Where it leads, by IP or by name.
    pub(crate) fn addresses(&self) -> Vec<Multiaddr> {
        match self {
            Entrance::Address(address) => vec![address.clone()],
            Entrance::PublicRouters => PUBLIC_ROUTERS.iter().filter_map(|address| address.parse().ok()).collect(),
        }
    }

    /// Whether it can lead elsewhere at another time.
    pub(crate) fn has_names(&self) -> bool {
        self.addresses().iter().any(|address| transport(address).first().is_some_and(|name| name.starts_with("dns")))
    }
}

impl fmt::Display for Entrance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Entrance::Address(address) => address.fmt(f),
            Entrance::PublicRouters => f.write_str("the public routers"),
        }
    }
}

/// A node and its way into a network, with all arguments sound.
#[derive(Debug, Clone)]
pub(crate) struct WayPlan {
    pub(crate) config: Config,
    pub(crate) network: Network,
    pub(crate) listen: Vec<Multiaddr>,
    pub(crate) entrances: Vec<Entrance>,
}

/// `dht node`, with all arguments sound.
#[derive(Debug, Clone)]
pub(crate) struct NodePlan {
    pub(crate) way: WayPlan,
    pub(crate) http: HttpPlan,
    pub(crate) data_dir: Option<PathBuf>,
    /// A file with nodes to be asked.
    pub(crate) contacts: Option<PathBuf>,
    pub(crate) json: bool,
    /// Where the settings stand that are from a file.
    pub(crate) places: Option<Places>,
}

/// How HTTP is served.
#[derive(Debug, Clone)]
pub(crate) struct HttpPlan {
    /// Where, if anywhere besides the control socket.
    pub(crate) address: Option<SocketAddr>,
    pub(crate) token_file: Option<PathBuf>,
    /// Names by which it is asked, besides those that every host has.
    pub(crate) hosts: Vec<String>,
    /// The most bytes of a body.
    pub(crate) max_body: u64,
    pub(crate) max_connections: usize,
    /// The longest that the other end may take for a step.
    pub(crate) timeout: Duration,
}

impl Default for HttpPlan {
    /// For who is served within this process alone.
    fn default() -> Self {
        let timeout = Duration::from_secs(30);
        let hosts = Vec::new();
        HttpPlan { address: None, token_file: None, hosts, max_body: u64::MAX, max_connections: 1, timeout }
    }
}

impl WayArgs {
    /// Whether it says whom to join.
    pub(super) fn joins(&self) -> bool {
        self.public || !self.connect.is_empty()
    }

    pub(super) fn plan(self) -> Result<WayPlan, ConfigError> {
        let hasher: Arc<dyn KeyHasher> = match self.hash {
            Hash::Sha1 => Arc::new(Sha1Hasher),
            Hash::Sha256 => Arc::new(Sha256Hasher),
        };
        let defaults = match self.network {
            // The gateway's own handle takes the place of this one when there is a gateway.
            Network::Mainline => Config::mainline(MainlineHandle::default()),
            Network::Native | Network::Rpcudp => Config::default(),
        };
        let config = Config {
            hasher,
            network: self.network_name.as_deref().map_or(defaults.network, network_named),
            k: self.k.unwrap_or(defaults.k),
            alpha: self.alpha,
            read_quorum: self.read_quorum.unwrap_or(defaults.read_quorum),
            request_timeout: self.request_timeout,
            lookup_timeout: self.lookup_timeout,
            ..defaults
        };
        if let (Some(name), true) = (&self.network_name, self.network != Network::Native) {
            let bounds = format!("left out: a network of {} has no name", self.network.name());
            return Err(ConfigError { field: "network-name", bounds, value: name.clone() });
        }
        if self.network != Network::Native && self.hash != Hash::Sha1 {
            let bounds = format!("sha1 in a network of {}", self.network.name());
            return Err(ConfigError { field: "hash", bounds, value: "another".to_owned() });
        }
        config.check()?;
        let mut entrances: Vec<_> = self.connect.into_iter().map(Entrance::Address).collect();
        if self.public {
            if self.network != Network::Mainline {
                let bounds = "set only with the network mainline".to_owned();
                return Err(ConfigError {
                    field: "public",
                    bounds,
                    value: format!("set with {}", self.network.name()),
                });
            }
            entrances.push(Entrance::PublicRouters);
        }
        Ok(WayPlan { config, network: self.network, listen: self.listen, entrances })
    }
}

impl NodeArgs {
    pub(super) fn plan(self) -> Result<NodePlan, ConfigError> {
        let mut way = self.way.plan()?;
        let mode = match self.relay {
            Relay::Off => RelayMode::Off,
            Relay::On => RelayMode::On,
            Relay::Auto => RelayMode::Auto,
        };
        way.config = Config {
            id: self.id,
            client: self.client,
            relay: RelayPolicy { mode, ..way.config.relay },
            peer_timeout: self.times.peer_timeout,
            record_lifetime: self.times.record_lifetime.unwrap_or(way.config.record_lifetime),
            refresh_interval: self.times.refresh_interval.unwrap_or(way.config.refresh_interval),
            replicate_interval: self.times.replicate_interval.unwrap_or(way.config.replicate_interval),
            republish_interval: self.times.republish_interval.unwrap_or(way.config.republish_interval),
            ..way.config
        };
        way.config.check()?;
        let http = HttpPlan {
            address: self.http,
            token_file: self.http_token_file,
            hosts: self.http_host,
            max_body: self.http_max_body,
            max_connections: self.http_max_connections,
            timeout: self.http_timeout,
        };
        Ok(NodePlan { way, http, data_dir: self.data_dir, contacts: self.contacts, json: self.json, places: None })
    }
}
