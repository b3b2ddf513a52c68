//! `dht get`, `put`, `delete`, `announce`, `peers`, `status`, `dump` and `trace`: what is asked of which node.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, ValueEnum};
use kademlia_dht::ConfigError;
use utoipa::ToSchema;

use super::node::{WayArgs, WayPlan};
use super::value::{duration_within, info_hash, within};

/// Where nodes serve HTTP unless they are told otherwise.
const USUAL_NODE: &str = "http://127.0.0.1:8080";

/// What a node may take for its answer beyond the time of an operation: its disk may be slow.
const SLACK: Duration = Duration::from_secs(10);

/// The last words of every command of this kind.
const STATUSES: &str = "\
Exit status: 0 if it was found or done, 1 if it was not found or was refused, 2 if the arguments are wrong, 3 if no node \
can be reached, it is silent for too long, or the result cannot be printed, 130 if it was interrupted, 141 if nobody reads the output to its end.";

/// Which node is asked.
#[derive(Debug, Clone, Args)]
#[command(after_long_help = STATUSES)]
struct NodeChoice {
    /// Ask the node that serves HTTP there. [default: http://127.0.0.1:8080]
    #[arg(long, value_name = "URL", group = "node-choice", conflicts_with_all = ["connect", "public"])]
    node: Option<String>,

    /// Ask the node of this folder, through the socket in it.
    #[arg(long, value_name = "DIR", group = "node-choice", conflicts_with_all = ["connect", "public"])]
    data_dir: Option<PathBuf>,

    /// The token for writes, where the node wants one: a file that has it.
    #[arg(long, value_name = "FILE")]
    token_file: Option<PathBuf>,

    /// Give a node up that has said nothing for so long. [default: --lookup-timeout and 10s]
    #[arg(
        long, value_name = "TIME",
        value_parser = duration_within(Duration::from_millis(1)..=Duration::from_secs(86_400))
    )]
    timeout: Option<Duration>,

    /// Print JSON.
    #[arg(long)]
    json: bool,

    #[command(
        flatten,
        next_help_heading = "Without a node of one's own: join a network for the moment, with --connect"
    )]
    way: WayArgs,
}

/// Print the value of a key.
#[derive(Debug, Args)]
pub(super) struct GetArgs {
    /// The key.
    #[arg(value_name = "KEY")]
    key: String,

    /// Write the value to this file, when it has come whole.
    #[arg(long, short, value_name = "FILE", conflicts_with = "json")]
    output: Option<PathBuf>,

    #[command(flatten)]
    node: NodeChoice,
}

/// Save a value under a key.
#[derive(Debug, Args)]
pub(super) struct PutArgs {
    /// The key.
    #[arg(value_name = "KEY")]
    key: String,

    /// The value; `-` for standard input.
    #[arg(value_name = "VALUE", required_unless_present = "file", conflicts_with = "file", allow_hyphen_values = true)]
    value: Option<String>,

    /// Take the value from this file.
    #[arg(long, value_name = "FILE")]
    file: Option<PathBuf>,

    /// The type of the value, in a network whose values have types (rpcudp). [default: bytes]
    #[arg(long = "type", value_name = "TYPE")]
    kind: Option<ValueType>,

    /// Save only if this is the newest version.
    #[arg(long, value_name = "VERSION")]
    if_version: Option<u64>,

    /// Save only if the key has no value.
    #[arg(long, conflicts_with = "if_version")]
    if_absent: bool,

    #[command(flatten)]
    node: NodeChoice,
}

/// Delete the value of a key.
#[derive(Debug, Args)]
pub(super) struct DeleteArgs {
    /// The key.
    #[arg(value_name = "KEY")]
    key: String,

    #[command(flatten)]
    node: NodeChoice,
}

/// Tell BitTorrent's DHT that this host has what an info hash stands for (--network mainline).
///
/// A node that runs tells it again and again. One for the moment tells it once: it is forgotten after half an hour.
#[derive(Debug, Args)]
pub(super) struct AnnounceArgs {
    /// 40 hexadecimal digits.
    #[arg(value_name = "INFO_HASH", value_parser = info_hash)]
    info_hash: String,

    /// The port at which it can be had; without it, that of the node itself.
    #[arg(long, value_name = "PORT", value_parser = within(1_u16..=65_535), required_if_eq("network", "mainline"))]
    port: Option<u16>,

    #[command(flatten)]
    node: NodeChoice,
}

/// Print who has what an info hash stands for, in BitTorrent's DHT (--network mainline).
#[derive(Debug, Args)]
pub(super) struct PeersArgs {
    /// 40 hexadecimal digits.
    #[arg(value_name = "INFO_HASH", value_parser = info_hash)]
    info_hash: String,

    #[command(flatten)]
    node: NodeChoice,
}

/// Tell what a node is and does.
#[derive(Debug, Args)]
pub(super) struct StatusArgs {
    /// Tell only whether it is well, as `/healthz` does: the exit status is 0 if it is, and 1 if it is not.
    #[arg(long)]
    healthy: bool,

    #[command(flatten)]
    node: NodeChoice,
}

/// Tell all that a node knows: its routing table, what it holds and publishes, what it waits for.
#[derive(Debug, Args)]
pub(super) struct DumpArgs {
    /// In which form.
    #[arg(long, value_name = "FORM", default_value = "json")]
    format: DumpFormat,

    #[command(flatten)]
    node: NodeChoice,
}

/// Look up a key, and tell of each request that this took.
#[derive(Debug, Args)]
pub(super) struct TraceArgs {
    /// The key.
    #[arg(value_name = "KEY")]
    key: String,

    #[command(flatten)]
    node: NodeChoice,
}

/// The form of a dump.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum DumpFormat {
    /// All of it.
    Json,
    /// A picture of the routing table, for PlantUML.
    Plantuml,
    /// A picture of the routing table, for Graphviz.
    Dot,
}

/// One of these commands, with all arguments sound.
#[derive(Debug)]
pub(crate) struct ClientPlan {
    pub(crate) door: DoorPlan,
    /// The longest that the node may be silent.
    pub(crate) timeout: Duration,
    pub(crate) token_file: Option<PathBuf>,
    pub(crate) json: bool,
    pub(crate) request: Request,
}

/// How a node is reached.
#[derive(Debug)]
pub(crate) enum DoorPlan {
    /// Over HTTP.
    Url(String),
    /// Through the socket in its folder.
    DataDir(PathBuf),
    /// By one in this process, for this operation.
    Own(Box<WayPlan>),
}

/// What is asked of it.
#[derive(Debug)]
pub(crate) enum Request {
    Get { key: String, output: Option<PathBuf> },
    Put { key: String, value: Value, kind: Option<ValueType>, condition: Condition },
    Delete { key: String },
    Announce { info_hash: String, port: Option<u16> },
    Peers { info_hash: String },
    Health,
    Status,
    Dump { format: DumpFormat },
    Trace { key: String },
}

/// Where a value comes from.
#[derive(Debug)]
pub(crate) enum Value {
    Text(String),
    Input,
    File(PathBuf),
}

/// The type of a value, by its name in Python.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, ToSchema)]
#[schema(rename_all = "lowercase")]
pub(crate) enum ValueType {
    Bytes,
    Str,
    Int,
    Float,
    Bool,
}

impl ValueType {
    /// As it is written.
    pub(crate) fn name(self) -> &'static str {
        match self {
            ValueType::Bytes => "bytes",
            ValueType::Str => "str",
            ValueType::Int => "int",
            ValueType::Float => "float",
            ValueType::Bool => "bool",
        }
    }
}

/// What must be so for a value to be saved.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Condition {
    None,
    Version(u64),
    Absent,
}

impl NodeChoice {
    fn plan(self, request: Request) -> Result<ClientPlan, ConfigError> {
        let timeout = self.timeout.unwrap_or(self.way.lookup_timeout.saturating_add(SLACK));
        let door = match (self.node, self.data_dir) {
            (Some(url), _) => DoorPlan::Url(url),
            (None, Some(folder)) => DoorPlan::DataDir(folder),
            (None, None) if !self.way.joins() => DoorPlan::Url(USUAL_NODE.to_owned()),
            (None, None) => {
                let mut way = self.way.plan()?;
                way.config.client = true;
                DoorPlan::Own(Box::new(way))
            }
        };
        Ok(ClientPlan { door, timeout, token_file: self.token_file, json: self.json, request })
    }
}

impl GetArgs {
    pub(super) fn plan(self) -> Result<ClientPlan, ConfigError> {
        self.node.plan(Request::Get { key: self.key, output: self.output })
    }
}

impl PutArgs {
    pub(super) fn plan(self) -> Result<ClientPlan, ConfigError> {
        let value = match (self.file, self.value) {
            (Some(file), _) => Value::File(file),
            (None, Some(text)) if text == "-" => Value::Input,
            (None, text) => Value::Text(text.unwrap_or_default()),
        };
        let condition = match self.if_version {
            Some(version) => Condition::Version(version),
            None if self.if_absent => Condition::Absent,
            None => Condition::None,
        };
        self.node.plan(Request::Put { key: self.key, value, kind: self.kind, condition })
    }
}

impl DeleteArgs {
    pub(super) fn plan(self) -> Result<ClientPlan, ConfigError> {
        self.node.plan(Request::Delete { key: self.key })
    }
}

impl AnnounceArgs {
    pub(super) fn plan(self) -> Result<ClientPlan, ConfigError> {
        self.node.plan(Request::Announce { info_hash: self.info_hash, port: self.port })
    }
}

impl PeersArgs {
    pub(super) fn plan(self) -> Result<ClientPlan, ConfigError> {
        self.node.plan(Request::Peers { info_hash: self.info_hash })
    }
}

impl StatusArgs {
    pub(super) fn plan(self) -> Result<ClientPlan, ConfigError> {
        self.node.plan(if self.healthy { Request::Health } else { Request::Status })
    }
}

impl DumpArgs {
    pub(super) fn plan(self) -> Result<ClientPlan, ConfigError> {
        self.node.plan(Request::Dump { format: self.format })
    }
}

impl TraceArgs {
    pub(super) fn plan(self) -> Result<ClientPlan, ConfigError> {
        self.node.plan(Request::Trace { key: self.key })
    }
}
