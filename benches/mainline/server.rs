//! Servers, each a process of its own, and the processor time that they take.

use std::fmt::Display;
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::SocketAddr;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use serde_json::json;

use crate::python::{LIBTORRENT, Python};

/// A server is there after that time, and gone.
const STARTS_WITHIN: Duration = Duration::from_secs(40);
const ENDS_WITHIN: Duration = Duration::from_secs(3);

/// How long libtorrent's table must stay as it is until it counts as full.
const SETTLED: Duration = Duration::from_millis(400);

/// A server that ends when this is dropped.
pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    /// How many nodes it knows.
    pub(crate) known: usize,
    id: u32,
    _process: Process,
}

#[expect(dead_code, reason = "they are kept for what happens when they are dropped")]
enum Process {
    Own(Own),
    Python(Box<Python>),
}

/// This program, started again.
struct Own {
    child: Child,
    input: Option<ChildStdin>,
}

impl Server {
    /// This program as one of its servers.
    pub(crate) fn start(what: &str, argument: impl Display, crowd: &[SocketAddr]) -> Self {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args(["serve", what, &argument.to_string()]).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let (mut input, output) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
        let id = child.id();
        for address in crowd {
            writeln!(input, "{address}").unwrap();
        }
        writeln!(input).unwrap();
        let process = Own { child, input: Some(input) };
        let (tell, told) = mpsc::channel();
        // Ends with the server.
        thread::spawn(move || {
            BufReader::new(output).lines().map_while(Result::ok).try_for_each(|line| tell.send(line))
        });
        let line = told.recv_timeout(STARTS_WITHIN).unwrap_or_else(|_| panic!("{what} does not start"));
        let (port, known) = line.split_once(' ').unwrap();
        let address = SocketAddr::from(([127, 0, 0, 1], port.parse().unwrap()));
        Server { address, known: known.parse().unwrap(), id, _process: Process::Own(process) }
    }

    /// A session of libtorrent.
    pub(crate) fn libtorrent(crowd: &[SocketAddr]) -> Self {
        let mut python = Python::start("torrents.py", &[LIBTORRENT]);
        let port = python.call("start", 0, json!({}))["port"].as_u64().unwrap().try_into().unwrap();
        let addresses: Vec<_> = crowd.iter().map(|address| json!([address.ip().to_string(), address.port()])).collect();
        python.call("meet", 0, json!({ "addresses": addresses }));
        let (start, mut known) = (Instant::now(), 0);
        loop {
            thread::sleep(SETTLED);
            let now = python.call("table", 0, json!({})).as_array().unwrap().len();
            if now > 0 && now == known {
                break;
            }
            known = now;
            assert!(start.elapsed() < STARTS_WITHIN, "libtorrent's table does not settle");
        }
        let id = python.call("process", 0, json!({})).as_u64().unwrap() as u32;
        let address = SocketAddr::from(([127, 0, 0, 1], port));
        Server { address, known, id, _process: Process::Python(Box::new(python)) }
    }

    /// The processor time of the whole process, in user and kernel mode; `None` where the system does not tell. Exact while
    /// its threads sleep: that of one which runs is counted when the scheduler looks at it.
    pub(crate) fn time(&self) -> Option<Duration> {
        let tasks = fs::read_dir(format!("/proc/{}/task", self.id)).ok()?;
        let times = tasks.filter_map(Result::ok).map(|task| {
            let text = fs::read_to_string(task.path().join("schedstat")).ok()?;
            text.split_whitespace().next()?.parse().ok().map(Duration::from_nanos)
        });
        times.sum()
    }
}

impl Drop for Own {
    fn drop(&mut self) {
        self.input = None;
        let start = Instant::now();
        while start.elapsed() < ENDS_WITHIN && matches!(self.child.try_wait(), Ok(None)) {
            thread::sleep(Duration::from_millis(5));
        }
        self.child.kill().ok();
        self.child.wait().ok();
    }
}
