//! One server asked for one thing, and what that took.

use std::thread;
use std::time::Duration;

use crate::client::{Client, Replies};
use crate::krpc::{self, Id, NODE_BYTES, Random};
use crate::server::Server;

/// Before and after a burst, so that the threads are asleep and their processor time has been counted.
const REST: Duration = Duration::from_millis(5);

/// Nodes that every answer must have.
const K: usize = 8;

/// Requests by which it is seen at the start whether answers are whole.
const TRIAL: usize = 64;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Method {
    FindNode,
    Get,
}

impl Method {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Method::FindNode => "find_node",
            Method::Get => "get",
        }
    }
}

/// What every server is given to keep, bencoded: a hundred bytes.
fn item() -> Vec<u8> {
    krpc::string(&[b'.'; 96])
}

pub(crate) struct Lane<'a> {
    pub(crate) name: &'static str,
    pub(crate) known: usize,
    pub(crate) request_bytes: usize,
    /// In the answer that had the fewest.
    pub(crate) nodes: usize,
    method: Method,
    server: &'a Server,
    client: Client,
    own: Id,
    replies: Replies,
    /// Microseconds for each answer.
    times: Vec<f64>,
    rates: Vec<f64>,
}

impl<'a> Lane<'a> {
    pub(crate) fn of_echo(name: &'static str, method: Method, server: &'a Server, random: &mut Random) -> Self {
        let own = random.id();
        Lane::new(name, method, server, own, Client::connect(server.address, None).unwrap(), random)
    }

    /// The client belongs into the first bucket of the server, as half of all do who ask, and there is no place left for it.
    pub(crate) fn of_node(name: &'static str, method: Method, server: &'a Server, random: &mut Random) -> Self {
        let mut client = Client::connect(server.address, Some(random.id())).unwrap();
        let made_up = random.id();
        let pong = client.ask("ping", &made_up, b"").unwrap_or_else(|error| panic!("{name}: {error}"));
        let own = krpc::id_in_bucket(&krpc::sender(&pong).unwrap(), 0, &made_up);
        client.id = Some(own);
        if method == Method::Get {
            put(name, &mut client, &own);
        }
        Lane::new(name, method, server, own, client, random)
    }

    fn new(
        name: &'static str,
        method: Method,
        server: &'a Server,
        own: Id,
        client: Client,
        random: &mut Random,
    ) -> Self {
        let (known, request_bytes) = (server.known, request(method, &own, 0, random).len());
        let (replies, times, rates) = Default::default();
        let nodes = usize::MAX;
        let mut lane = Lane { name, known, request_bytes, nodes, method, server, client, own, replies, times, rates };
        lane.burst(TRIAL, random);
        lane
    }

    /// What was measured so far does not count.
    pub(crate) fn forget(&mut self) {
        (self.times, self.rates) = Default::default();
    }

    /// One burst of requests, and what it took.
    pub(crate) fn burst(&mut self, amount: usize, random: &mut Random) {
        thread::sleep(REST);
        let before = self.server.time();
        let write = |number| request(self.method, &self.own, number, random);
        let elapsed = self.client.burst(amount, write, &mut self.replies);
        let elapsed = elapsed.unwrap_or_else(|error| panic!("{}, {}: {error}", self.name, self.method.name()));
        thread::sleep(REST);
        let after = self.server.time();
        let replies = self.replies.iter().count() as f64;
        let taken = before.zip(after).map(|(before, after)| after.saturating_sub(before).as_secs_f64() * 1e6);
        self.times.extend(taken.map(|taken| taken / replies));
        self.rates.push(replies / elapsed.as_secs_f64().max(1e-9));
        self.check();
    }

    /// Whether every answer has all that it must have.
    fn check(&mut self) {
        if self.client.id.is_none() {
            self.nodes = 0;
            return;
        }
        let (name, method, value) = (self.name, self.method.name(), [&b"1:v"[..], &item()].concat());
        for reply in self.replies.iter() {
            let shown = || String::from_utf8_lossy(reply);
            assert!(krpc::is_response(reply), "{name}, {method}: {}", shown());
            let nodes = krpc::string_behind(reply, b"5:nodes").unwrap_or_default().len() / NODE_BYTES;
            self.nodes = self.nodes.min(nodes);
            assert!(nodes >= K, "{name}, {method}: an answer names {nodes} nodes instead of {K}: {}", shown());
            let is_there = self.method == Method::FindNode || krpc::find(reply, &value).is_some();
            assert!(is_there, "{name}, {method}: an answer has no item: {}", shown());
        }
    }

    pub(crate) fn reply_bytes(&self) -> usize {
        self.replies.iter().map(<[u8]>::len).max().unwrap_or_default()
    }

    /// The median of all bursts, in microseconds for each answer.
    pub(crate) fn processor_time(&self) -> Option<f64> {
        median(&self.times)
    }

    /// The median of all bursts, in answers a second.
    pub(crate) fn rate(&self) -> Option<f64> {
        median(&self.rates)
    }
}

fn request(method: Method, own: &Id, number: u32, random: &mut Random) -> Vec<u8> {
    let target = match method {
        Method::FindNode => random.id(),
        Method::Get => krpc::key_of(&item()),
    };
    krpc::query(method.name(), own, &krpc::target(&target), number)
}

/// Has the server keep the item, with the token that it gives for that.
fn put(name: &str, client: &mut Client, own: &Id) {
    let failed = |error| panic!("{name} does not keep the item: {error}");
    let answer = client.ask("get", own, &krpc::target(&krpc::key_of(&item()))).unwrap_or_else(failed);
    let token = krpc::string_behind(&answer, b"5:token").unwrap_or_else(|| panic!("{name} gives no token"));
    let arguments = [&krpc::target(&krpc::key_of(&item())), &b"5:token"[..], &krpc::string(token), b"1:v", &item()];
    client.ask("put", own, &arguments.concat()).unwrap_or_else(failed);
}

/// The one in the middle, or between the two in the middle.
fn median(values: &[f64]) -> Option<f64> {
    let mut values = values.to_vec();
    values.sort_unstable_by(f64::total_cmp);
    let (lower, upper) = (values.len().checked_sub(1)? / 2, values.len() / 2);
    Some((values[lower] + values[upper]) / 2.0)
}
