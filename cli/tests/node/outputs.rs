//! A file that a value is written to is there when the value is whole, and is as it was otherwise.

use std::fs;
use std::io::{Read, Write};
use std::net::TcpListener;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt, chown, symlink};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::mpsc::{self, Receiver};
use std::thread;
use std::time::Instant;

use super::process::{DEADLINE, Node, dht, run, text};

/// A user who owns nothing.
const NOBODY: u32 = 65_534;

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
    // What has come of it is in a file of another name. It is listened for signals before that is made.
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
    // More than the mask lets a new file have, and to links that lead to nothing as yet.
    fs::set_permissions(&target, fs::Permissions::from_mode(0o666)).unwrap();
    assert_eq!(get(&target), Some(0));
    assert_eq!(fs::metadata(&target).unwrap().permissions().mode() & 0o777, 0o666);
    let (dangling, further) = (folder.path().join("dangling"), folder.path().join("further"));
    symlink("further", &dangling).unwrap();
    symlink(folder.path().join("new"), &further).unwrap();
    assert_eq!(get(&dangling), Some(0));
    assert!([&dangling, &further].iter().all(|link| fs::symlink_metadata(link).unwrap().is_symlink()));
    assert_eq!(fs::read(folder.path().join("new")).unwrap(), b"value");
    let ring = folder.path().join("ring");
    symlink("ring", &ring).unwrap();
    assert_eq!(get(&ring), Some(3));
}

/// To where any user may come. By another process: nothing runs a program that is open to be written, and what this one
/// has open is so for a moment in each process that other tests start.
fn copy_program(path: &Path) {
    assert!(Command::new("cp").arg(env!("CARGO_BIN_EXE_dht")).arg(path).status().unwrap().success());
}

/// As a user who is not allowed everything.
#[test]
fn what_may_be_written_is_and_nothing_else() {
    let node = Node::start("");
    assert_eq!(node.ask("PUT", "/dht/key", "", b"value").status, 200);
    let folder = tempfile::tempdir().unwrap();
    let (program, path) = (folder.path().join("dht"), folder.path().join("file"));
    copy_program(&program);
    fs::write(&path, "what was there").unwrap();
    let is_root = fs::metadata(&path).unwrap().uid() == 0;
    if is_root {
        [folder.path(), &path].iter().for_each(|path| chown(path, Some(NOBODY), Some(NOBODY)).unwrap());
    }
    let get = |of_folder, of_file| {
        fs::set_permissions(&path, fs::Permissions::from_mode(of_file)).unwrap();
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(of_folder)).unwrap();
        let mut command = Command::new(&program);
        command.args(["get", "key", "--node", &node.http, "--output"]).arg(&path).stderr(Stdio::null());
        if is_root {
            command.uid(NOBODY).gid(NOBODY);
        }
        let status = command.status().unwrap().code();
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
        (status, fs::read_to_string(&path).unwrap(), fs::metadata(&path).unwrap().permissions().mode() & 0o777)
    };
    assert_eq!(get(0o755, 0o444), (Some(3), "what was there".to_owned(), 0o444));
    assert_eq!(get(0o555, 0o644), (Some(0), "value".to_owned(), 0o644));
    assert_eq!(names(folder.path()).len(), 2);
}

/// Another's file in a folder for all: it may be written, but nothing can take its place.
#[test]
fn what_cannot_be_replaced_is_written() {
    let folder = tempfile::tempdir().unwrap();
    let (program, path) = (folder.path().join("dht"), folder.path().join("file"));
    copy_program(&program);
    fs::write(&path, "what was there").unwrap();
    if fs::metadata(&path).unwrap().uid() != 0 {
        // To make files of others takes root.
        return;
    }
    let node = Node::start("");
    assert_eq!(node.ask("PUT", "/dht/key", "", b"value").status, 200);
    fs::set_permissions(&path, fs::Permissions::from_mode(0o666)).unwrap();
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o1777)).unwrap();
    let mut command = Command::new(&program);
    command.args(["get", "key", "--node", &node.http, "--output"]).arg(&path).uid(NOBODY).gid(NOBODY);
    assert!(command.status().unwrap().success());
    assert_eq!((fs::read(&path).unwrap(), names(folder.path()).len()), (b"value".to_vec(), 2));
    assert_eq!(fs::metadata(&path).unwrap().uid(), 0);
}
