//! Clients that are too large, too slow, too many, or gone: each is told so where it can be, and none harms the others.

use std::io::{Read, Write};
use std::net::Shutdown;
use std::time::Instant;

use super::http::{Answer, answer, chunked, connection, request};
use super::process::{DEADLINE, Node, two};

/// What the node says to exactly these bytes.
fn told(node: &Node, bytes: &[u8]) -> Answer {
    let mut stream = connection(&node.http);
    stream.write_all(bytes).unwrap();
    answer(stream).unwrap()
}

/// It need not be there any more for more requests, only for the answer.
#[test]
fn who_says_nothing_more_is_answered() {
    let node = Node::start("");
    let value = vec![7; 1_000_000];
    assert_eq!(node.ask("PUT", "/dht/large", "", &value).status, 200);
    for turn in 0..20 {
        for (request, expected) in [
            (&b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n"[..], 200),
            (&b"GET /healthz HTTP/1.0\r\nHost: localhost\r\n\r\n"[..], 200),
            (&b"PUT /dht/small HTTP/1.1\r\nHost: localhost\r\nContent-Length: 3\r\n\r\nabc"[..], 200),
            (&b"PUT /dht/small HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9\r\n\r\nabc"[..], 400),
            (&b"GET /dht/large HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"[..], 200),
        ] {
            let mut stream = connection(&node.http);
            stream.write_all(request).unwrap();
            stream.shutdown(Shutdown::Write).unwrap();
            let answer = answer(stream).unwrap();
            assert_eq!(answer.status, expected, "turn {turn}: {}", String::from_utf8_lossy(request));
        }
    }
}

#[test]
fn too_large() {
    let node = Node::start("--http-max-body 100KiB");
    let value = vec![7; 200_000];
    let known = node.ask("PUT", "/dht/large", "", &value);
    assert_eq!(
        (known.status, known.code().as_str(), &known.json()["error"]["limit"]),
        (413, "too_large", &102_400.into())
    );
    let unknown = node.ask("PUT", "/dht/large", "Transfer-Encoding: chunked\r\n", &chunked(&value));
    assert_eq!((unknown.status, unknown.code().as_str()), (413, "too_large"));
    assert_eq!(node.get("/dht/large").status, 404);
    assert_eq!(node.ask("PUT", "/dht/large", "", &value[..102_400]).status, 200);

    let long = format!("X-Long: {}\r\n", "x".repeat(20_000));
    assert_eq!(node.ask("GET", "/status", &long, b"").status, 431);
    let many: String = (0..150).map(|n| format!("X-{n}: x\r\n")).collect();
    assert_eq!(node.ask("GET", "/status", &many, b"").status, 431);
    let path = format!("/dht/{}", "k".repeat(100_000));
    assert!([414, 431].contains(&node.get(&path).status));
    assert_eq!(node.get("/status").status, 200);
}

/// Who is refused before all has been sent can send the rest, and reads why: more than fits the buffers on the way.
#[test]
fn refused_while_sending() {
    let folder = tempfile::tempdir().unwrap();
    let token = folder.path().join("token");
    std::fs::write(&token, "secret").unwrap();
    let value = vec![7; 4_000_000];
    let node = Node::start("--http-max-body 100KiB --http-timeout 300ms");
    let guarded = Node::start(&format!("--http-token-file {}", token.display()));
    for (node, headers, body, expected) in [
        (&node, "", value.clone(), (413, "too_large")),
        (&node, "Transfer-Encoding: chunked\r\n", chunked(&value), (413, "too_large")),
        (&node, "Origin: http://example.org\r\n", value.clone(), (403, "foreign_origin")),
        (&guarded, "", value.clone(), (401, "no_token")),
    ] {
        // All is written before anything is read, or this panics.
        let refused = node.ask("PUT", "/dht/large", headers, &body);
        assert_eq!((refused.status, refused.code().as_str()), expected, "{headers}");
    }
    // Who goes on after having been too slow.
    let mut stream = connection(&node.http);
    let head = "PUT /dht/large HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100000\r\n\r\n";
    stream.write_all(head.as_bytes()).unwrap();
    stream.peek(&mut [0]).unwrap();
    stream.write_all(&value[..50_000]).and_then(|()| stream.write_all(&value[..50_000])).unwrap();
    assert_eq!(answer(stream).unwrap().status, 408);
}

#[test]
fn too_slow() {
    let node = Node::start("--http-timeout 300ms");
    let start = Instant::now();
    let head = told(&node, b"GET /status HTTP/1.1\r\nHost: localhost\r\n");
    assert_eq!((head.status, head.code().as_str()), (408, "too_slow"));
    let body = told(&node, b"PUT /dht/slow HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100\r\n\r\nthe beginning");
    assert_eq!((body.status, body.code().as_str()), (408, "too_slow"));
    // Who says nothing is told nothing.
    let mut silent = connection(&node.http);
    assert_eq!(silent.read(&mut [0; 10]).unwrap(), 0);
    assert!(start.elapsed() < DEADLINE / 2);
    assert_eq!(node.get("/dht/slow").status, 404);
}

/// A client that asks for much and reads nothing is cut off, and its place is free again.
#[test]
fn too_slow_to_read() {
    let node = Node::start("--http-timeout 300ms --http-max-connections 1");
    let value = vec![7; 16_000_000];
    assert_eq!(node.ask("PUT", "/dht/much", "", &value).status, 200);
    let mut stream = connection(&node.http);
    stream.write_all(b"GET /dht/much HTTP/1.1\r\nHost: localhost\r\n\r\n").unwrap();
    let start = Instant::now();
    loop {
        match node.get("/status").status {
            200 => break,
            503 => assert!(start.elapsed() < DEADLINE),
            other => panic!("{other}"),
        }
    }
    let cut = answer(stream).unwrap();
    assert!(!cut.is_whole && cut.body.len() < value.len(), "{}", cut.body.len());
}

#[test]
fn gone_too_early() {
    let (node, _second) = two();
    // A body that ends before it is whole, small or large.
    for (length, sent) in [(100, 13), (1_000_000, 200_000)] {
        let mut stream = connection(&node.http);
        let head = format!("PUT /dht/part HTTP/1.1\r\nHost: localhost\r\nContent-Length: {length}\r\n\r\n");
        stream.write_all(head.as_bytes()).unwrap();
        stream.write_all(&vec![b'x'; sent]).unwrap();
        stream.shutdown(Shutdown::Write).unwrap();
        let told = answer(stream).unwrap();
        assert_eq!((told.status, told.code().as_str()), (400, "truncated"));
        assert_eq!(node.get("/dht/part").status, 404);
    }
    // Who does not wait for the answer.
    for _ in 0..50 {
        let mut stream = connection(&node.http);
        stream.write_all(b"GET /dht/nothing HTTP/1.1\r\nHost: localhost\r\n\r\n").unwrap();
    }
    assert_eq!(node.get("/status").status, 200);
}

#[test]
fn what_is_no_http() {
    let node = Node::start("");
    for wrong in [
        &b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03 and more\r\n\r\n"[..],
        b"GET\r\n\r\n",
        b"GET / HTTP/9.9\r\n\r\n",
    ] {
        let mut stream = connection(&node.http);
        stream.write_all(wrong).unwrap();
        let told = answer(stream).unwrap();
        assert_eq!(told.status, 400, "{told:?}");
    }
    assert_eq!(node.get("/status").status, 200);
}

/// Beyond the places that there are, everybody is told to come again; a place that is left is free.
#[test]
fn too_many() {
    let node = Node::start("--http-max-connections 2");
    let mut kept: Vec<_> = (0..2).map(|_| connection(&node.http)).collect();
    for stream in &mut kept {
        stream.write_all(b"GET /status HTTP/1.1\r\nHost: localhost\r\n\r\n").unwrap();
        assert!(stream.read(&mut [0; 12]).unwrap() > 0);
    }
    let refused = node.get("/status");
    assert_eq!((refused.status, refused.code().as_str()), (503, "busy"));
    assert_eq!(refused.headers["retry-after"], "1");
    kept.clear();
    let start = Instant::now();
    while request(&node.http, "GET", "/status", "", b"").status != 200 {
        assert!(start.elapsed() < DEADLINE);
    }
}

/// Who has its answer and does not close takes no place from others.
#[test]
fn closed_by_the_node_alone() {
    let node = Node::start("--http-max-connections 2");
    let mut kept = Vec::new();
    for _ in 0..10 {
        let mut stream = connection(&node.http);
        stream.write_all(b"GET /status HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").unwrap();
        let told = answer(stream.try_clone().unwrap()).unwrap();
        assert_eq!((told.status, stream.read(&mut [0]).unwrap()), (200, 0));
        kept.push(stream);
    }
}
