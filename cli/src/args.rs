//! What the user wants: raw arguments, parsed into checked ones.

mod bench;
mod client;
mod node;
mod settings_file;
mod simulate;
mod value;

use std::ffi::OsString;
use std::path::PathBuf;

use clap::error::ErrorKind;
use clap::{ArgMatches, Args, CommandFactory, FromArgMatches, Parser, Subcommand};
use kademlia_dht::ConfigError;
use kademlia_dht::testnet::Mix;

pub(crate) use bench::BenchPlan;
pub(crate) use client::{ClientPlan, Condition, DoorPlan, DumpFormat, Request, Value, ValueType};
pub(crate) use node::{Entrance, HttpPlan, Network, NodePlan, WayPlan};
pub(crate) use settings_file::Places;
use settings_file::Settings;
pub(crate) use simulate::{Options, SimulatePlan};

/// A Kademlia distributed hash table over any transport.
#[derive(Debug, Parser)]
#[command(name = "dht", version, about, arg_required_else_help = true, max_term_width = 100)]
#[command(after_help = "RUST_LOG (such as RUST_LOG=debug) sets what is logged to standard error.")]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Node(Box<node::NodeArgs>),
    Get(Box<client::GetArgs>),
    Put(Box<client::PutArgs>),
    Delete(Box<client::DeleteArgs>),
    Announce(Box<client::AnnounceArgs>),
    Peers(Box<client::PeersArgs>),
    Status(Box<client::StatusArgs>),
    Dump(Box<client::DumpArgs>),
    Trace(Box<client::TraceArgs>),
    Testnet(TestnetArgs),
    Simulate(Box<simulate::SimulateArgs>),
    Bench(bench::BenchArgs),
    Completions(CompletionsArgs),
    Man(ManArgs),
}

/// Print what a shell needs to complete the arguments of this program.
#[derive(Debug, Args)]
#[command(after_long_help = "Example: dht completions bash > ~/.local/share/bash-completion/completions/dht")]
struct CompletionsArgs {
    /// The shell.
    #[arg(value_name = "SHELL")]
    shell: clap_complete::Shell,
}

/// Write a manual page for each command into a folder.
#[derive(Debug, Args)]
#[command(after_long_help = "Example: dht man ~/.local/share/man/man1")]
struct ManArgs {
    /// The folder. It is made if it does not exist.
    #[arg(value_name = "DIR")]
    folder: PathBuf,
}

/// Run a whole network on this host, and see whether every node finds what any other saved.
///
/// Starts nodes on UDP, TCP and Unix sockets, some of which join two of these; saves records from random nodes; and
/// queries each of them from a random node of every kind. The result is a table: for each kind of node that saved and
/// each kind that asked, how much was found and what it took.
#[derive(Debug, Args)]
#[command(after_long_help = "\
Exit status: 0 if every value was found unchanged, 1 if not, 2 if the arguments or the file of records are wrong, 3 if \
there is no result or it cannot be printed, 130 if it was interrupted, 141 if nobody reads the output to its end.

Examples:
  dht testnet
  dht testnet --nodes 200 --kill 30
  dht testnet --mix udp=10,memory=10,udp6=5,udp+udp6+memory=2 --json")]
struct TestnetArgs {
    /// Nodes, in the proportions of the default mix (60 if there is no --mix).
    #[arg(long, value_name = "NUMBER")]
    nodes: Option<usize>,

    /// Nodes on each transport: udp, udp6, tcp, tcp6, unix, memory, and several joined by `+`.
    ///
    /// Every node must be able to reach every other, if need be through nodes on several transports.
    ///
    /// [default: udp=20,tcp=20,unix=14,udp+tcp=3,tcp+unix=3]
    #[arg(long, value_name = "MIX")]
    mix: Option<Mix>,

    /// Records to save: a file with `key<TAB>value` in each line.
    ///
    /// Without it, the packages of this program's own lock file: name@version and checksum of each.
    #[arg(long, value_name = "FILE")]
    load: Option<PathBuf>,

    /// Kill so many percent of the nodes after that, and query again.
    ///
    /// The last node that joins two transports is spared.
    #[arg(long, value_name = "PERCENT", value_parser = value::percent(0_u8..=99))]
    kill: Option<u8>,

    /// What random choices follow from: the same seed, the same choices.
    #[arg(long, value_name = "NUMBER", default_value_t = 1)]
    seed: u64,

    /// Print one JSON object instead of a table.
    #[arg(long)]
    json: bool,
}

/// What is to be done.
#[derive(Debug)]
pub(crate) enum Task {
    /// `dht node`
    Node(Box<NodePlan>),
    /// `dht get` and others that ask a node
    Client(Box<ClientPlan>),
    /// `dht completions`
    Completions(clap_complete::Shell),
    /// `dht man`
    Man(PathBuf),
    /// `dht testnet`
    Testnet(TestnetPlan),
    /// `dht simulate`
    Simulate(Box<SimulatePlan>),
    /// `dht bench`
    Bench(BenchPlan),
}

/// `dht testnet`, with all arguments sound.
#[derive(Debug)]
pub(crate) struct TestnetPlan {
    pub(crate) mix: Mix,
    pub(crate) load: Option<PathBuf>,
    /// The share of the nodes to kill, in percent.
    pub(crate) kill: Option<u8>,
    pub(crate) seed: u64,
    pub(crate) json: bool,
}

/// Takes the program's arguments. If they are wrong, says so and ends the program with status 2.
pub(crate) fn parse() -> Task {
    let arguments: Vec<OsString> = std::env::args_os().collect();
    let mut matches = command().get_matches_from(&arguments);
    let settings = settings(&matches).unwrap_or_else(|error| refuse("node", error));
    let places = settings.map(|settings| {
        matches = command().get_matches_from(arguments.iter().chain(&settings.arguments));
        settings.places
    });
    let clients = |name: &str, plan: Result<ClientPlan, ConfigError>| match plan {
        Ok(plan) => Task::Client(Box::new(plan)),
        Err(error) => refuse(name, named(&error)),
    };
    match Cli::from_arg_matches(&matches).unwrap_or_else(|error| error.exit()).command {
        Command::Node(args) => match args.plan() {
            Ok(plan) => Task::Node(Box::new(NodePlan { places, ..plan })),
            Err(error) => refuse("node", placed(places.as_ref(), &error)),
        },
        Command::Get(args) => clients("get", args.plan()),
        Command::Put(args) => clients("put", args.plan()),
        Command::Delete(args) => clients("delete", args.plan()),
        Command::Announce(args) => clients("announce", args.plan()),
        Command::Peers(args) => clients("peers", args.plan()),
        Command::Status(args) => clients("status", args.plan()),
        Command::Dump(args) => clients("dump", args.plan()),
        Command::Trace(args) => clients("trace", args.plan()),
        Command::Testnet(args) => match args.mix() {
            Ok(mix) => {
                let TestnetArgs { load, kill, seed, json, .. } = args;
                Task::Testnet(TestnetPlan { mix, load, kill, seed, json })
            }
            Err(error) => refuse("testnet", error),
        },
        Command::Bench(args) => args.plan().map_or_else(|error| refuse("bench", error), Task::Bench),
        Command::Simulate(args) => Task::Simulate(Box::new(args.plan(std::env::args_os().skip(1)))),
        Command::Completions(args) => Task::Completions(args.shell),
        Command::Man(args) => Task::Man(args.folder),
    }
}

/// The whole of the command line.
pub(crate) fn command() -> clap::Command {
    told_by_their_names(Cli::command())
}

/// The file of settings that `dht node` is to read, if there is one.
fn settings(matches: &ArgMatches) -> Result<Option<Settings>, String> {
    let Some(("node", given)) = matches.subcommand() else { return Ok(None) };
    let Some(path) = given.get_one::<PathBuf>("config") else { return Ok(None) };
    let command = told_by_their_names(node::NodeArgs::augment_args(clap::Command::new("node")));
    Settings::read(path, &command, given).map(Some)
}

/// What is wrong with a setting, by the name of its option.
fn named(error: &ConfigError) -> String {
    format!("--{} must be {}, but is {}", option_of(error), error.bounds, error.value)
}

/// Settings whose bounds are made of another one.
const BOUNDED_BY: [(&str, &str); 6] = [
    ("lookup-timeout", "request-timeout"),
    ("read-quorum", "k"),
    ("republish-interval", "record-lifetime"),
    ("hash", "network"),
    ("network-name", "network"),
    ("public", "network"),
];

/// The same, with file and line where it, or what bounds it, is from a file.
fn placed(places: Option<&Places>, error: &ConfigError) -> String {
    let (words, option) = (named(error), option_of(error));
    let bounds = BOUNDED_BY.into_iter().filter(|(bounded, _)| *bounded == option).map(|(_, by)| by);
    let place = |option: &str| places.and_then(|places| places.of(option, None));
    let place = [option.as_str()].into_iter().chain(bounds).find_map(place);
    place.map_or(words.clone(), |place| format!("{place}: {words}"))
}

fn option_of(error: &ConfigError) -> String {
    error.field.replace(['_', '.'], "-")
}

/// A negative number is a value and no option, so that what is wrong with it is said of the option that it is for.
fn told_by_their_names(command: clap::Command) -> clap::Command {
    let takes_numbers =
        |arg: clap::Arg| if arg.get_action().takes_values() { arg.allow_negative_numbers(true) } else { arg };
    command.mut_args(takes_numbers).mut_subcommands(told_by_their_names)
}

/// Says what is wrong with the arguments of a command, and ends the program with status 2.
fn refuse(command: &str, error: String) -> ! {
    let mut all = Cli::command();
    all.build();
    match all.find_subcommand_mut(command) {
        Some(command) => command.error(ErrorKind::ValueValidation, error).exit(),
        None => all.error(ErrorKind::ValueValidation, error).exit(),
    }
}

impl TestnetArgs {
    fn mix(&self) -> Result<Mix, String> {
        match (&self.mix, self.nodes) {
            (None, None) => Ok(Mix::default()),
            (None, Some(nodes)) => Mix::default().scaled(nodes).map_err(|error| format!("--nodes {nodes}: {error}")),
            (Some(mix), Some(nodes)) if mix.nodes() != nodes => Err(format!(
                "--nodes {nodes} and --mix {mix} do not agree: the mix has {} nodes; leave out --nodes, or make them agree",
                mix.nodes()
            )),
            (Some(mix), _) => Ok(mix.clone()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_negative_number_is_wrong_as_the_value_of_its_option() {
        for arguments in [["simulate", "churn", "--loss", "-1"], ["simulate", "kill", "--nodes", "-5"]] {
            let error = told_by_their_names(Cli::command()).try_get_matches_from(["dht"].iter().chain(&arguments));
            let error = error.unwrap_err().to_string();
            assert!(error.contains(arguments[2]) && error.contains(arguments[3]), "{error}");
        }
    }

    fn mix(arguments: &[&str]) -> Result<String, String> {
        let cli = Cli::try_parse_from(["dht", "testnet"].iter().chain(arguments)).map_err(|error| error.to_string())?;
        let Command::Testnet(args) = cli.command else { return Err("another command".to_owned()) };
        args.mix().map(|mix| mix.to_string())
    }

    #[test]
    fn the_definition_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn nodes_and_mix() {
        assert_eq!(mix(&[]).unwrap(), "udp=20,tcp=20,unix=14,udp+tcp=3,tcp+unix=3");
        assert_eq!(mix(&["--nodes", "5"]).unwrap(), "udp=1,tcp=1,unix=1,udp+tcp=1,tcp+unix=1");
        assert_eq!(mix(&["--mix", "udp=3"]).unwrap(), "udp=3");
        assert_eq!(mix(&["--mix", "udp=3", "--nodes", "3"]).unwrap(), "udp=3");
        let error = mix(&["--mix", "udp=3", "--nodes", "4"]).unwrap_err();
        assert!(error.contains("--nodes 4 and --mix udp=3 do not agree: the mix has 3 nodes"), "{error}");
        assert!(mix(&["--nodes", "4"]).unwrap_err().contains("--nodes 4: 4 nodes are too few"));
        assert!(mix(&["--mix", "udp=3,tcp=3"]).unwrap_err().contains("no node joins udp with tcp"));
    }
}
