//! HTTP by hand, so that it can be wrong.

use std::collections::BTreeMap;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::TcpStream;

use serde_json::Value;

use super::process::DEADLINE;

/// What was answered.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    /// With names in small letters.
    pub(crate) headers: BTreeMap<String, String>,
    pub(crate) body: Vec<u8>,
    /// Whether the body is as long as its head says.
    pub(crate) is_whole: bool,
}

impl Answer {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    /// The word for what went wrong.
    pub(crate) fn code(&self) -> String {
        let json = self.json();
        assert!(json["error"]["message"].as_str().is_some_and(|message| !message.is_empty()), "{json}");
        json["error"]["code"].as_str().unwrap().to_owned()
    }

    /// The version, as a condition has it.
    pub(crate) fn etag(&self) -> &str {
        &self.headers["etag"]
    }
}

pub(crate) fn connection(address: &str) -> TcpStream {
    let stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(DEADLINE)).unwrap();
    stream.set_write_timeout(Some(DEADLINE)).unwrap();
    stream
}

/// Sends one request on a connection of its own. `headers` are lines with CRLF at the end of each.
pub(crate) fn request(address: &str, method: &str, path: &str, headers: &str, body: &[u8]) -> Answer {
    let mut stream = connection(address);
    let length = if headers.to_lowercase().contains("transfer-encoding") || (body.is_empty() && method == "GET") {
        String::new()
    } else {
        format!("Content-Length: {}\r\n", body.len())
    };
    let host = if headers.to_lowercase().contains("host:") { String::new() } else { format!("Host: {address}\r\n") };
    let head = format!("{method} {path} HTTP/1.1\r\n{host}Connection: close\r\n{length}{headers}\r\n");
    // Whoever is refused early can send all the same.
    stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(body)).unwrap();
    answer(stream).unwrap()
}

/// A body in chunks, of which nobody knows the length before it ends.
pub(crate) fn chunked(body: &[u8]) -> Vec<u8> {
    let chunks = body.chunks(50_000);
    let framed = chunks.flat_map(|chunk| [format!("{:x}\r\n", chunk.len()).as_bytes(), chunk, b"\r\n"].concat());
    framed.chain(*b"0\r\n\r\n").collect()
}

/// Reads an answer to its end.
pub(crate) fn answer(stream: TcpStream) -> io::Result<Answer> {
    let mut reader = BufReader::new(stream);
    let mut lines = Vec::new();
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line)? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        match line.trim_end() {
            "" => break,
            line => lines.push(line.to_owned()),
        }
    }
    let status = lines[0].split(' ').nth(1).unwrap().parse().unwrap();
    let headers: BTreeMap<String, String> = lines[1..]
        .iter()
        .map(|line| line.split_once(':').unwrap())
        .map(|(name, value)| (name.to_lowercase(), value.trim().to_owned()))
        .collect();
    let mut body = Vec::new();
    // A connection that is reset has given what it could.
    let ended = match headers.get("content-length").map(|length| length.parse::<u64>().unwrap()) {
        Some(length) => reader.take(length).read_to_end(&mut body).map(|read| read as u64 == length),
        None => reader.read_to_end(&mut body).map(|_| true),
    };
    Ok(Answer { status, headers, body, is_whole: ended.unwrap_or(false) })
}
