//! What it costs to serve BitTorrent's DHT, beside others who do: `cargo bench --bench mainline`.
//!
//! A node of this library, a session of libtorrent and a node of the crate `mainline`, each in a process of its own with a full
//! routing table, are asked `find_node` and `get` by the same client by turns, and so is a bare echo of datagrams of the same
//! sizes. libtorrent comes from a Python package index, by the environment of `tests/interop`. With `-- --quick`, or not under
//! `cargo bench`, it only shows that it works.

#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]
#![allow(clippy::print_stdout, reason = "the result goes there")]

mod client;
mod crowd;
mod krpc;
mod lane;
#[allow(dead_code, reason = "the tests use more of it")]
#[path = "../../tests/interop/python.rs"]
mod python;
mod serve;
mod server;

use std::time::{Duration, Instant};

use client::OUTSTANDING;
use crowd::Crowd;
use krpc::Random;
use lane::{Lane, Method};
use server::Server;

/// How much is measured.
struct Scale {
    /// Bursts of each kind that are measured.
    turns: usize,
    /// Requests in a burst.
    burst: usize,
}

const FULL: Scale = Scale { turns: 20, burst: 4096 };
const QUICK: Scale = Scale { turns: 2, burst: 128 };

/// So many bursts do not count.
const WARM_UP: usize = 2;

/// No turn begins later than that: on a machine that is very slow there are fewer of them.
const LONGEST: Duration = Duration::from_secs(80);

/// Sockets of all crowds, and more.
const FILES: u64 = 4096;

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    if let ["serve", what, argument] = arguments[..] {
        return serve::run(what, argument);
    }
    // `cargo test` runs this too, and does not say that it is a bench.
    let is_quick = arguments.contains(&"--quick") || !arguments.contains(&"--bench");
    measure(if is_quick { &QUICK } else { &FULL });
}

fn measure(scale: &Scale) {
    if cfg!(debug_assertions) {
        println!("this was built without optimization, so the figures mean nothing");
    }
    rlimit::increase_nofile_limit(FILES).unwrap();
    let mut random = Random(1);
    let crowds: Vec<Crowd> = (0..3).map(|number| Crowd::start(number, &mut random).unwrap()).collect();
    let nodes = [
        ("this library", Server::start("node", "", &crowds[0].addresses)),
        ("libtorrent", Server::libtorrent(&crowds[1].addresses)),
        ("mainline", Server::start("crate", "", &crowds[2].addresses)),
    ];
    let plain = Server::start("echo", 0, &[]);
    for method in [Method::FindNode, Method::Get] {
        let lanes = nodes.iter().map(|(name, server)| Lane::of_node(name, method, server, &mut random));
        let mut lanes: Vec<Lane> = lanes.collect();
        // As large as the answers of this library.
        let echo = Server::start("echo", lanes[0].reply_bytes(), &[]);
        lanes.insert(0, Lane::of_echo("echo, answers as large", method, &echo, &mut random));
        lanes.insert(0, Lane::of_echo("echo, as it came", method, &plain, &mut random));
        let turns = by_turns(&mut lanes, scale, &mut random);
        print(&lanes, method, turns, scale);
    }
}

/// Bursts of all by turns, so that what else the machine does strikes all alike. Gives how many turns there were.
fn by_turns(lanes: &mut [Lane], scale: &Scale, random: &mut Random) -> usize {
    for lane in &mut *lanes {
        for _ in 0..WARM_UP {
            lane.burst(scale.burst, random);
        }
        lane.forget();
    }
    let (start, mut turns) = (Instant::now(), 0);
    while turns < scale.turns && (turns == 0 || start.elapsed() < LONGEST / 2) {
        lanes.iter_mut().for_each(|lane| lane.burst(scale.burst, random));
        turns += 1;
    }
    turns
}

fn print(lanes: &[Lane], method: Method, turns: usize, scale: &Scale) {
    let (burst, name) = (scale.burst, method.name());
    println!("\n{name}: {OUTSTANDING} outstanding, medians of {turns} bursts of {burst}\n");
    let heads = ["known", "asked", "answer", "nodes", "us", "x echo", "a second"];
    println!("{:<24}{}", "", heads.map(|head| format!("{head:>9}")).concat());
    let echo = lanes[1].processor_time();
    for lane in lanes {
        let number = |number: Option<f64>, digits: usize| number.map_or("-".to_owned(), |it| format!("{it:.digits$}"));
        let count = |count: usize| if count == 0 { "-".to_owned() } else { count.to_string() };
        let time = lane.processor_time();
        let cells = [
            count(lane.known),
            count(lane.request_bytes),
            count(lane.reply_bytes()),
            count(lane.nodes),
            number(time, 2),
            number(time.zip(echo).map(|(time, echo)| time / echo), 2),
            number(lane.rate(), 0),
        ];
        println!("{:<24}{}", lane.name, cells.map(|cell| format!("{cell:>9}")).concat());
    }
}
