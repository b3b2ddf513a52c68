//! What happens to the file of a Unix socket.
#![cfg(all(unix, feature = "unix"))]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic, reason = "it is a test")]

mod common;

use std::fs;
use std::io::ErrorKind;
use std::os::unix::fs::{FileTypeExt, PermissionsExt, symlink};
use std::os::unix::net::{UnixDatagram, UnixListener, UnixStream};
use std::path::Path;

use common::*;
use kademlia_gateways::address::unix_address;
use kademlia_gateways::*;

fn names(folder: &Path) -> Vec<String> {
    fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
}

fn bind_error(path: &Path) -> (ErrorKind, String) {
    match UnixGateway::bind_path(path).unwrap_err() {
        GatewayError::Bind { address, source } => {
            assert_eq!(address, unix_address(path).unwrap());
            (source.kind(), source.to_string())
        }
        error => panic!("{error}"),
    }
}

#[test]
fn only_the_owner_can_use_the_socket_and_nothing_else_is_left_in_the_folder() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("node.sock");
    let gateway = UnixGateway::bind_path(&path).unwrap();
    let metadata = fs::symlink_metadata(&path).unwrap();
    assert!(metadata.file_type().is_socket());
    assert_eq!(metadata.permissions().mode() & 0o7777, 0o600);
    assert_eq!(names(folder.path()), ["node.sock"]);
    assert_eq!(gateway.address(), &unix_address(&path).unwrap());
}

#[test]
fn the_file_is_gone_after_the_end() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("node.sock");
    drop(UnixGateway::bind_path(&path).unwrap());
    assert_eq!(names(folder.path()), [""; 0], "dropped before it ran");

    let node = Node::start(UnixGateway::bind_path(&path).unwrap());
    assert!(path.exists());
    let gateway = node.stop();
    assert_eq!(names(folder.path()), [""; 0], "stopped, though it is still there");
    drop(gateway);
}

#[test]
fn a_stale_socket_is_replaced() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("node.sock");
    drop(UnixListener::bind(&path).unwrap());
    assert!(path.exists(), "as a process that crashed leaves it");
    let mut one = Node::start(UnixGateway::bind_path(&path).unwrap());
    assert_eq!(names(folder.path()), ["node.sock"]);
    one.send(&one.address(), request(1)).unwrap();
    assert_eq!(one.next().envelope, request(1));
}

#[test]
fn a_socket_in_use_is_refused_and_goes_on() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("node.sock");
    let listener = UnixListener::bind(&path).unwrap();
    assert_eq!(bind_error(&path), (ErrorKind::AddrInUse, "another process listens there".to_owned()));
    listener.accept().unwrap();
    let _client = UnixStream::connect(&path).unwrap();
    listener.accept().unwrap();
    assert_eq!(names(folder.path()), ["node.sock"]);
}

#[test]
fn what_is_no_listening_socket_is_never_deleted() {
    let folder = tempfile::tempdir().unwrap();
    let (file, inner, link) = (folder.path().join("file"), folder.path().join("folder"), folder.path().join("link"));
    fs::write(&file, "precious").unwrap();
    fs::create_dir(&inner).unwrap();
    drop(UnixListener::bind(folder.path().join("stale")).unwrap());
    symlink("stale", &link).unwrap();
    for path in [&file, &inner, &link] {
        let (kind, message) = bind_error(path);
        assert_eq!((kind, &message[..]), (ErrorKind::AlreadyExists, "something that is not a socket is there"));
    }
    assert_eq!(fs::read(&file).unwrap(), b"precious");
    let datagrams = folder.path().join("datagrams");
    let _socket = UnixDatagram::bind(&datagrams).unwrap();
    bind_error(&datagrams);
    assert!(datagrams.exists());
    assert_eq!(names(folder.path()).len(), 5);
}

#[test]
fn a_file_that_took_its_place_is_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("node.sock");
    let node = Node::start(UnixGateway::bind_path(&path).unwrap());
    fs::remove_file(&path).unwrap();
    let _other = UnixListener::bind(&path).unwrap();
    node.stop();
    UnixStream::connect(&path).unwrap();
}

#[test]
fn a_path_that_cannot_be_is_named_with_the_cause() {
    let folder = tempfile::tempdir().unwrap();
    assert_eq!(bind_error(&folder.path().join("missing/node.sock")).0, ErrorKind::NotFound);
    assert_eq!(bind_error(&folder.path().join("n".repeat(200))).0, ErrorKind::InvalidInput);
    assert_eq!(bind_error(Path::new("/")).0, ErrorKind::InvalidInput);
    let deep = folder.path().join("d".repeat(104 - folder.path().as_os_str().len()));
    fs::create_dir(&deep).unwrap();
    let (kind, message) = bind_error(&deep.join("s"));
    assert_eq!(kind, ErrorKind::InvalidInput);
    assert!(message.contains("too long"), "{message}");
    assert_eq!(names(&deep), [""; 0]);
    let error = UnixGateway::bind_path("relative.sock").unwrap_err();
    assert!(error.to_string().contains("not absolute"), "{error}");
}

#[test]
fn of_many_that_want_one_path_one_gets_it() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("node.sock");
    for _ in 0..20 {
        drop(UnixListener::bind(&path).unwrap());
        let threads: Vec<_> = (0..8)
            .map(|_| {
                let path = path.clone();
                std::thread::spawn(move || UnixGateway::bind_path(path))
            })
            .collect();
        let bound: Vec<_> = threads.into_iter().map(|thread| thread.join().unwrap()).collect();
        assert_eq!(bound.iter().filter(|bound| bound.is_ok()).count(), 1, "{bound:?}");
        UnixStream::connect(&path).unwrap();
        drop(bound);
        assert_eq!(names(folder.path()), [""; 0]);
    }
}
