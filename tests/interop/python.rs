//! A Python that has the packages, and nodes of them in a process that is driven line by line.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};
use std::{fs, iter, thread};

use kademlia_dht::Multiaddr;
use kademlia_dht::gateway::rpcudp::{Integer, Value};
use serde_json::{Value as Json, json};

/// The package that `torrents.py` drives.
pub(crate) const LIBTORRENT: &str = "libtorrent==2.1.1";

/// The longest that any call takes: the package waits five seconds for each node that is dead.
const DEADLINE: Duration = Duration::from_secs(90);

fn run(command: &mut Command) {
    let shown = format!("{command:?}");
    let needs = "these tests need Python 3.9 or later with venv, and pip with access to a package index";
    match command.output() {
        Ok(output) if output.status.success() => {}
        Ok(output) => panic!("{shown} failed ({needs}):\n{}", String::from_utf8_lossy(&output.stderr)),
        Err(error) => panic!("{shown} could not be run ({needs}): {error}"),
    }
}

/// The Python of a virtual environment with the packages, which is made once and stays in the target folder.
fn python(packages: &[&str]) -> PathBuf {
    static MAKING: Mutex<()> = Mutex::new(());
    // Tests that need the same one at the same time make it once.
    let _making = MAKING.lock().unwrap_or_else(PoisonError::into_inner);
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("venv-{}", packages.join("-")));
    let python = Path::new("bin").join("python3");
    if !folder.exists() {
        // Elsewhere first: where two are at it, one of them comes first, and no half of one is ever used.
        let unfinished = folder.with_extension(format!("unfinished-{}", std::process::id()));
        run(Command::new("python3").args(["-m", "venv"]).arg(&unfinished));
        let pip = ["-m", "pip", "install", "--quiet", "--disable-pip-version-check"];
        run(Command::new(unfinished.join(&python)).args(pip).args(packages));
        if fs::rename(&unfinished, &folder).is_err() {
            assert!(folder.exists(), "{} cannot be renamed", unfinished.display());
            fs::remove_dir_all(&unfinished).unwrap();
        }
    }
    folder.join(python)
}

/// Nodes, by number, in one process.
pub(crate) struct Python {
    process: Child,
    input: Option<ChildStdin>,
    replies: Receiver<Json>,
    early: HashMap<u64, Json>,
    calls: u64,
}

/// An answer that is still to come.
#[must_use]
pub(crate) struct Call(u64);

impl Python {
    /// Runs a script of this folder, with these packages.
    pub(crate) fn start(script: &str, packages: &[&str]) -> Self {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/interop").join(script);
        let mut command = Command::new(python(packages));
        command.arg(script).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut process = command.spawn().unwrap();
        let (tell, replies) = mpsc::channel();
        let output = BufReader::new(process.stdout.take().unwrap());
        // Ends with the process.
        thread::spawn(move || {
            for line in output.lines().map_while(Result::ok) {
                if tell.send(serde_json::from_str(&line).unwrap()).is_err() {
                    break;
                }
            }
        });
        let input = process.stdin.take();
        Python { process, input, replies, early: HashMap::new(), calls: 0 }
    }

    /// Has a node do something.
    pub(crate) fn begin(&mut self, what: &str, node: usize, mut arguments: Json) -> Call {
        self.calls += 1;
        arguments["call"] = json!(self.calls);
        arguments["do"] = json!(what);
        arguments["node"] = json!(node);
        let input = self.input.as_mut().unwrap();
        writeln!(input, "{arguments}").unwrap();
        input.flush().unwrap();
        Call(self.calls)
    }

    pub(crate) fn end(&mut self, Call(call): Call) -> Json {
        let until = Instant::now() + DEADLINE;
        loop {
            if let Some(mut reply) = self.early.remove(&call) {
                assert!(reply.get("error").is_none(), "{reply}");
                return reply["result"].take();
            }
            let left = until.saturating_duration_since(Instant::now());
            let reply = self.replies.recv_timeout(left).expect("Python answers in time, and does not end");
            self.early.insert(reply["call"].as_u64().unwrap(), reply);
        }
    }

    pub(crate) fn call(&mut self, what: &str, node: usize, arguments: Json) -> Json {
        let call = self.begin(what, node, arguments);
        self.end(call)
    }

    /// Starts a node, with this id if it must have one. Gives its port and its id.
    pub(crate) fn node(&mut self, node: usize, k: usize, id: Option<&str>) -> (u16, String) {
        let started = self.call("start", node, json!({ "ksize": k, "id": id }));
        (started["port"].as_u64().unwrap().try_into().unwrap(), started["id"].as_str().unwrap().to_owned())
    }
}

impl Drop for Python {
    fn drop(&mut self) {
        // It ends when nothing more can come, and with it its output.
        self.input = None;
        let until = Instant::now() + DEADLINE;
        let next = || self.replies.recv_timeout(until.saturating_duration_since(Instant::now()));
        if iter::repeat_with(next).find_map(Result::err) == Some(RecvTimeoutError::Timeout) {
            self.process.kill().ok();
        }
        self.process.wait().ok();
    }
}

pub(crate) fn address(port: u16) -> Multiaddr {
    format!("/ip4/127.0.0.1/udp/{port}").parse().unwrap()
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        write!(text, "{byte:02x}").unwrap();
        text
    })
}

fn unhex(text: &str) -> Vec<u8> {
    (0..text.len()).step_by(2).map(|at| u8::from_str_radix(&text[at..at + 2], 16).unwrap()).collect()
}

pub(crate) fn to_json(value: &Value) -> Json {
    match value {
        Value::Int(number) => json!(["int", i128::from(*number).to_string()]),
        Value::Float(number) => json!(["float", format!("{number:?}")]),
        Value::Bool(truth) => json!(["bool", if *truth { "True" } else { "False" }]),
        Value::Text(text) => json!(["str", hex(text.as_bytes())]),
        Value::Bytes(bytes) => json!(["bytes", hex(bytes)]),
    }
}

pub(crate) fn from_json(json: &Json) -> Option<Value> {
    let [kind, text] = json.as_array()?.as_slice() else { panic!("{json} is no value") };
    let text = text.as_str().unwrap();
    Some(match kind.as_str().unwrap() {
        "int" => Value::Int(Integer::try_from(text.parse::<i128>().unwrap()).unwrap()),
        "float" => Value::Float(text.parse().unwrap()),
        "bool" => Value::Bool(text == "True"),
        "str" => Value::Text(String::from_utf8(unhex(text)).unwrap()),
        "bytes" => Value::Bytes(unhex(text).into()),
        other => panic!("{other} is no type"),
    })
}
