//! Every example runs, ends well, and prints what it is to show.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stderr, reason = "these are tests")]

use std::io::{BufRead, BufReader, Read, Write};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{self, Receiver};
use std::thread;
use std::time::{Duration, Instant};

const DEADLINE: Duration = Duration::from_secs(60);

/// An example that runs; killed when dropped.
struct Example {
    child: Child,
    input: Option<ChildStdin>,
    lines: Receiver<String>,
    seen: Vec<String>,
    deadline: Instant,
}

impl Example {
    fn start(program: &str) -> Self {
        let mut command = Command::new(program);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let (sender, lines) = mpsc::channel();
        let outputs: [Box<dyn Read + Send>; 2] =
            [Box::new(child.stdout.take().unwrap()), Box::new(child.stderr.take().unwrap())];
        for output in outputs {
            let sender = sender.clone();
            thread::spawn(move || {
                BufReader::new(output).lines().map_while(Result::ok).all(|line| sender.send(line).is_ok())
            });
        }
        let input = child.stdin.take();
        Example { child, input, lines, seen: Vec::new(), deadline: Instant::now() + DEADLINE }
    }

    fn type_in(&mut self, line: &str) {
        writeln!(self.input.as_mut().unwrap(), "{line}").unwrap();
    }

    /// The rest of the next line that has `start` in it.
    fn line_after(&mut self, start: &str) -> String {
        loop {
            let left = self.deadline.saturating_duration_since(Instant::now());
            let line = self.lines.recv_timeout(left);
            let line = line.unwrap_or_else(|error| panic!("no {start:?} came: {error}; before that: {:#?}", self.seen));
            self.seen.push(line.clone());
            if let Some((_, rest)) = line.split_once(start) {
                return rest.to_owned();
            }
        }
    }

    /// Ends the input, and reads the output to its end, where the example must end well.
    fn finish(mut self) {
        self.input = None;
        loop {
            let left = self.deadline.saturating_duration_since(Instant::now());
            match self.lines.recv_timeout(left) {
                Ok(line) => self.seen.push(line),
                Err(mpsc::RecvTimeoutError::Disconnected) => break,
                Err(mpsc::RecvTimeoutError::Timeout) => panic!("it does not end: {:#?}", self.seen),
            }
        }
        let status = self.child.wait().unwrap();
        assert!(status.success(), "{status}: {:#?}", self.seen);
    }
}

impl Drop for Example {
    fn drop(&mut self) {
        // It has ended already if this fails.
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

#[test]
fn quick_start_shows_the_api() {
    let mut example = Example::start(env!("CARGO_BIN_EXE_quick_start"));
    assert!(example.line_after("listens on ").starts_with("/ip4/127.0.0.1/udp/"));
    assert!(example.line_after("listens on ").starts_with("/ip4/127.0.0.1/tcp/"));
    assert_eq!(example.line_after("joined and knows "), "1 other(s)");
    assert_eq!(example.line_after("saved: "), "kept here: true, by 1 other(s)");
    assert!(example.line_after("found: ").starts_with("\"hello\""));
    example.line_after("not saved: ");
    assert_eq!(example.line_after("now it is "), "Some(\"good morning\")");
    assert_eq!(example.line_after("deleted: "), "found None");
    assert_eq!(example.line_after("pinged over TCP: "), "the first node");
    assert_eq!(example.line_after("still found: "), "true");
    assert_eq!(example.line_after("the second node met "), "the first");
    example.line_after("it knows 1 peer(s)");
    example.finish();
}

#[test]
fn two_shells_find_each_others_values() {
    let mut one = Example::start(env!("CARGO_BIN_EXE_shell"));
    let udp = one.line_after("listening on ");
    let tcp = one.line_after("listening on ");
    assert!(udp.starts_with("/ip4/127.0.0.1/udp/") && tcp.starts_with("/ip4/127.0.0.1/tcp/"), "{udp} {tcp}");

    let mut other = Example::start(env!("CARGO_BIN_EXE_shell"));
    other.type_in("help");
    other.line_after("connect MULTIADDR");
    other.type_in("connect nowhere");
    other.line_after("error: ");
    other.type_in(&format!("connect {tcp}"));
    assert_eq!(other.line_after("joined; "), "1 peer(s) known");
    other.type_in("save a-key a value of words");
    assert_eq!(other.line_after("saved at "), "1 other node(s)");
    one.type_in("query a-key");
    one.line_after("a value of words");
    one.type_in("query nothing");
    one.line_after("not found");
    one.type_in("status");
    assert_eq!(one.line_after("peer(s) known, "), "1 record(s) held");
    other.finish();
    one.finish();
}

#[test]
fn a_gateway_of_ones_own_is_part_of_the_network() {
    let mut example = Example::start(env!("CARGO_BIN_EXE_custom_gateway"));
    assert!(example.line_after("joined over ").starts_with("/ip4/127.0.0.1/udp/"));
    assert!(example.line_after("joined over ").starts_with("/unix/"));
    assert_eq!(example.line_after("found over local datagrams: "), "saved over UDP");
    assert_ne!(example.line_after("and "), "0 messages passed the bridge");
    example.finish();
}

#[test]
fn async_queries_are_in_flight_together() {
    let mut example = Example::start(env!("CARGO_BIN_EXE_async_queries"));
    example.line_after("saved 200 values, ");
    example.line_after("found 200 of 200 unchanged");
    assert_eq!(example.line_after("a key that nobody saved: "), "found false");
    example.finish();
}
