//! A node in a process of its own.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::mpsc::{self, Receiver};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;

use super::http::{Answer, request};

/// Far more than anything takes.
pub(crate) const DEADLINE: Duration = Duration::from_secs(60);

/// The program with these arguments, which are separated by spaces.
pub(crate) fn dht(arguments: &str) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_dht"));
    command.env_remove("RUST_LOG").args(arguments.split(' ').filter(|argument| !argument.is_empty()));
    command
}

/// Runs a command to its end.
pub(crate) fn run(arguments: &str) -> Output {
    dht(arguments).stdin(Stdio::null()).output().unwrap()
}

pub(crate) fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

/// A node that runs. It is killed when this is dropped.
pub(crate) struct Node {
    child: Child,
    lines: Receiver<String>,
    /// What it says to standard error, as far as it came, and who listens until its end.
    words: Arc<Mutex<String>>,
    listener: Option<thread::JoinHandle<()>>,
    pub(crate) id: String,
    pub(crate) listening: Vec<String>,
    /// `ADDR:PORT`, if it serves HTTP.
    pub(crate) http: String,
}

impl Node {
    /// Starts one with HTTP at any port, and waits until it is ready.
    pub(crate) fn start(arguments: &str) -> Node {
        Node::start_without_http(&format!("--http 127.0.0.1:0 {arguments}"))
    }

    pub(crate) fn start_without_http(arguments: &str) -> Node {
        Node::spawn(arguments).made_ready()
    }

    /// Waits until it is ready.
    pub(crate) fn made_ready(mut self) -> Node {
        loop {
            let line = self.line();
            match line.split_once(' ') {
                Some(("id", id)) => self.id = id.to_owned(),
                Some(("listening", address)) => self.listening.push(address.to_owned()),
                Some(("http", url)) => self.http = url.strip_prefix("http://").unwrap().to_owned(),
                None if line == "ready" => return self,
                _ => panic!("{line}"),
            }
        }
    }

    /// The number of its process.
    pub(crate) fn process(&self) -> u32 {
        self.child.id()
    }

    /// Starts one, and waits for nothing.
    pub(crate) fn spawn(arguments: &str) -> Node {
        Node::spawned_by(dht(&format!("node {arguments}")))
    }

    /// Starts one by this command, and waits for nothing.
    pub(crate) fn spawned_by(mut command: Command) -> Node {
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let (sender, lines) = mpsc::channel();
        let out = BufReader::new(child.stdout.take().unwrap());
        thread::spawn(move || out.lines().map_while(Result::ok).try_for_each(|line| sender.send(line)));
        let mut error = BufReader::new(child.stderr.take().unwrap());
        let words = Arc::new(Mutex::new(String::new()));
        let heard = Arc::clone(&words);
        let listener = thread::spawn(move || {
            let mut line = String::new();
            while error.read_line(&mut line).unwrap() > 0 {
                heard.lock().unwrap().push_str(&std::mem::take(&mut line));
            }
        });
        let (id, listening, http) = Default::default();
        Node { child, lines, words, listener: Some(listener), id, listening, http }
    }

    /// The next line that it prints.
    pub(crate) fn line(&mut self) -> String {
        match self.lines.recv_timeout(DEADLINE) {
            Ok(line) => line,
            Err(error) => {
                self.child.kill().ok();
                panic!("{error}: {}", self.all_words());
            }
        }
    }

    /// How another joins it.
    pub(crate) fn connect(&self) -> String {
        format!("--connect {}", self.listening[0])
    }

    pub(crate) fn signal(&self, name: &str) {
        let status = Command::new("kill").args([&format!("-{name}"), &self.child.id().to_string()]).status().unwrap();
        assert!(status.success());
    }

    /// Waits for its end; gives how it ended, how long that took, and what it said.
    pub(crate) fn end(mut self) -> (ExitStatus, Duration, String) {
        let start = Instant::now();
        let status = self.child.wait().unwrap();
        (status, start.elapsed(), self.all_words())
    }

    fn all_words(&mut self) -> String {
        self.listener.take().unwrap().join().unwrap();
        std::mem::take(&mut self.words.lock().unwrap())
    }

    /// Waits until it has said something so often.
    pub(crate) fn wait_for_words(&self, what: &str, times: usize) {
        let start = Instant::now();
        while self.words.lock().unwrap().matches(what).count() < times {
            assert!(start.elapsed() < DEADLINE, "{}", self.words.lock().unwrap());
            thread::yield_now();
        }
    }

    /// One request, and its answer.
    pub(crate) fn ask(&self, method: &str, path: &str, headers: &str, body: &[u8]) -> Answer {
        request(&self.http, method, path, headers, body)
    }

    pub(crate) fn get(&self, path: &str) -> Answer {
        self.ask("GET", path, "", b"")
    }

    pub(crate) fn json(&self, path: &str) -> Value {
        let answer = self.get(path);
        assert_eq!(answer.status, 200, "{path}: {answer:?}");
        answer.json()
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        // It may have ended.
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

/// Two nodes that know each other.
pub(crate) fn two() -> (Node, Node) {
    let first = Node::start("");
    let second = Node::start(&first.connect());
    (first, second)
}
