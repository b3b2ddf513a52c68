//! A file that a value is written to is there when the value is whole, and is as it was otherwise.

use std::fs;
use std::io::{Read, Write};
use std::net::TcpListener;
use std::os::unix::fs::{FileTypeExt, PermissionsExt, symlink};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::mpsc::{self, Receiver};
use std::thread;
use std::time::Instant;

use super::process::{DEADLINE, Node, dht, run, text};

fn names(folder: &Path) -> Vec<String> {
    fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
}

/// Begins to answer whoever asks; goes on, to an early end, when it is told to.
fn breaks_off(go: Receiver<()>) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        assert!(stream.read(&mut [0; 1000]).unwrap() > 0);
        stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nthe beginning").unwrap();
        go.recv().ok();
    });
    address
}

#[test]
fn a_value_that_breaks_off_leaves_the_file_as_it_was() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("value");
    fs::write(&path, "old").unwrap();
    let (go, told) = mpsc::channel();
    drop(go);
    let output = run(&format!("get key --output {} --node {}", path.display(), breaks_off(told)));
    assert_eq!(output.status.code(), Some(3), "{}", text(&output.stderr));
    assert!(text(&output.stderr).contains("it ended early"), "{}", text(&output.stderr));
    assert_eq!((fs::read(&path).unwrap(), names(folder.path())), (b"old".to_vec(), vec!["value".to_owned()]));
}

#[test]
fn nothing_is_left_of_one_that_is_interrupted() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("value");
    let (_go, told) = mpsc::channel();
    let mut command = dht(&format!("get key --output {} --node {}", path.display(), breaks_off(told)));
    let mut child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let start = Instant::now();
    // What has come of it is in a file of another name, which is made after it is listened for signals.
    while !names(folder.path()).iter().any(|name| fs::metadata(folder.path().join(name)).unwrap().len() > 0) {
        assert!(start.elapsed() < DEADLINE);
        thread::yield_now();
    }
    assert!(Command::new("kill").args(["-TERM", &child.id().to_string()]).status().unwrap().success());
    assert_eq!(child.wait().unwrap().code(), Some(130));
    assert!(names(folder.path()).is_empty());
}

#[test]
fn what_is_there_stays_what_it_is() {
    let folder = tempfile::tempdir().unwrap();
    let node = Node::start("");
    assert_eq!(node.ask("PUT", "/dht/key", "", b"value").status, 200);
    let get = |path: &Path| run(&format!("get key --output {} --node {}", path.display(), node.http)).status.code();
    let (target, link, pipe) = (folder.path().join("target"), folder.path().join("link"), folder.path().join("pipe"));
    fs::write(&target, "old").unwrap();
    fs::set_permissions(&target, fs::Permissions::from_mode(0o600)).unwrap();
    symlink("target", &link).unwrap();
    assert_eq!(get(&link), Some(0));
    assert_eq!(fs::read(&target).unwrap(), b"value");
    assert_eq!(fs::metadata(&target).unwrap().permissions().mode() & 0o777, 0o600);
    assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
    assert!(Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    let reader = thread::spawn({
        let pipe = pipe.clone();
        move || fs::read(pipe).unwrap()
    });
    assert_eq!((get(&pipe), reader.join().unwrap()), (Some(0), b"value".to_vec()));
    assert!(fs::symlink_metadata(&pipe).unwrap().file_type().is_fifo());
    assert_eq!(get(folder.path()), Some(3));
}
