//! Nodes that accept a connection and then say nothing, or nothing more: no command waits for them for ever.

use std::fs;
use std::io::{Read, Write};
use std::net::TcpListener;
use std::os::unix::net::UnixListener;
use std::process::{Output, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use super::process::{DEADLINE, dht, text};

/// What a command says that gives up.
fn ended(arguments: &str) -> Output {
    let mut command = dht(&format!("{arguments} --timeout 200ms"));
    let child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let (sender, ended) = mpsc::channel();
    thread::spawn(move || sender.send(child.wait_with_output().unwrap()));
    ended.recv_timeout(DEADLINE).unwrap_or_else(|_| panic!("{arguments}: it waits still"))
}

fn gives_up(arguments: &str, place: &str) {
    let output = ended(arguments);
    let words = text(&output.stderr);
    assert_eq!((output.status.code(), text(&output.stdout).as_str()), (Some(3), ""), "{arguments}: {words}");
    let expected = format!("error: the node at {place} has said nothing for 200ms; ");
    assert!(words.starts_with(&expected), "{arguments}: {words}");
}

#[test]
fn who_never_answers_is_given_up() {
    let folder = tempfile::tempdir().unwrap();
    let value = folder.path().join("value");
    fs::write(&value, vec![7; 20_000_000]).unwrap();
    // The system takes connections for them, and some of what is sent.
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let socket = folder.path().join("control.sock");
    let _control = UnixListener::bind(&socket).unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let ways = [
        (format!("--node {address}"), address),
        (format!("--data-dir {}", folder.path().display()), socket.display().to_string()),
    ];
    let put = format!("put key --file {}", value.display());
    for (way, place) in &ways {
        for command in ["get key", "put key value", &put, "delete key", "status", "dump", "trace key"] {
            gives_up(&format!("{command} {way}"), place);
        }
    }
}

#[test]
fn who_stops_in_the_midst_of_an_answer_is_given_up() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    thread::spawn(move || {
        let mut kept = Vec::new();
        while let Ok((mut stream, _)) = listener.accept() {
            assert!(stream.read(&mut [0; 1000]).unwrap() > 0);
            stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n").unwrap();
            kept.push(stream);
        }
    });
    for command in ["get key", "get key --json", "status", "dump"] {
        gives_up(&format!("{command} --node {address}"), &address);
    }
}

/// It works: it answers others, each on a connection of its own.
#[test]
fn who_is_slow_but_answers_others_is_waited_for() {
    let next = |listener: &TcpListener| {
        let mut stream = listener.accept().unwrap().0;
        let mut request = [0; 1000];
        let length = stream.read(&mut request).unwrap();
        (stream, text(&request[..length]))
    };
    for (command, answer) in [("get key", "{}"), ("put key value", "{\"version\":\"1\"}")] {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let mut command = dht(&format!("{command} --json --node {address} --timeout 1s"));
        let mut child = command.stdout(Stdio::null()).spawn().unwrap();
        let (sender, done) = mpsc::channel();
        thread::spawn(move || {
            let mut slow = next(&listener).0;
            for status in ["200 OK", "503 Service Unavailable"] {
                let (mut stream, request) = next(&listener);
                assert!(request.starts_with("GET /healthz "), "{request}");
                write!(stream, "HTTP/1.1 {status}\r\nContent-Length: 0\r\n\r\n").unwrap();
            }
            write!(slow, "HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{answer}", answer.len()).unwrap();
            sender.send(child.wait().unwrap()).unwrap();
        });
        assert_eq!(done.recv_timeout(DEADLINE).unwrap().code(), Some(0));
    }
}

/// It is not the node that is slow.
#[test]
fn who_waits_for_its_own_input_gives_nobody_up() {
    let node = super::process::Node::start("");
    let patience = Duration::from_secs(2);
    let mut command = dht(&format!("put key - --node {} --timeout 2s", node.http));
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let mut input = child.stdin.take().unwrap();
    input.write_all(b"one").unwrap();
    // Longer than a node may be silent: other commands give one up meanwhile.
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let start = Instant::now();
    while start.elapsed() < patience {
        gives_up(&format!("status --node {address}"), &address);
    }
    input.write_all(b" and two").unwrap();
    drop(input);
    assert!(child.wait().unwrap().success());
    assert_eq!(node.get("/dht/key").body, b"one and two");
}
