//! A file of settings: the same names as on the command line, which wins, and what is wrong is named with file and line.

use std::fs;

use super::process::{Node, run, text};

#[test]
fn a_file_says_what_the_command_line_does_not() {
    let folder = tempfile::tempdir().unwrap();
    let (file, data) = (folder.path().join("dht.toml"), folder.path().join("data"));
    let id = "ab".repeat(20);
    let settings = format!(
        "# a node\nid = '{id}'\nhttp = ':0'\nlisten = ['/ip4/127.0.0.1/udp/0', '/ip4/127.0.0.1/tcp/0']\n\
         data-dir = '{}'\nk = 8\nclient = false\nrequest-timeout = '1s'\n",
        data.display()
    );
    fs::write(&file, settings).unwrap();
    let node = Node::start_without_http(&format!("--config {}", file.display()));
    assert_eq!((node.id.as_str(), node.listening.len(), node.http.is_empty()), (id.as_str(), 2, false));
    assert!(data.join("control.sock").exists());
    drop(node);
    let node = Node::start_without_http(&format!("--listen /ip6/::1/udp/0 --config {}", file.display()));
    assert_eq!(node.listening.len(), 1);
    assert!(node.listening[0].starts_with("/ip6/::1/udp/"));
}

#[test]
fn what_is_wrong_is_named_with_file_and_line() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("dht.toml");
    let cases = [
        ("k = 8\nlisen = 'x'\n", "dht.toml, line 2: there is no setting `lisen`"),
        ("\nk = 800\n", "dht.toml, line 2: invalid value '800' for '--k <NUMBER>': not a number from 1 to 100"),
        ("listen = ['/ip4/127.0.0.1']\n\nlisten = []\n", "dht.toml, line 3: "),
        ("listen = ['nowhere']\n", "dht.toml, line 1: invalid value 'nowhere' for '--listen <MULTIADDR>'"),
        ("k = 8\nlookup-timeout = '1s'\n", "dht.toml, line 2: --lookup-timeout must be 2s to 1h, but is 1s"),
        ("k = \n", "dht.toml, line 1: "),
        // What shows only when the node starts, or with another setting.
        ("listen = [\n'/ip4/127.0.0.1/udp/0',\n'/memory/7',\n]\n", "dht.toml, line 3: /memory/7 is no address that"),
        (
            "network = 'rpcudp'\nlisten = ['/ip4/127.0.0.1/tcp/0']\n",
            "dht.toml, line 2: /ip4/127.0.0.1/tcp/0: a network",
        ),
        (
            "network = 'rpcudp'\nlisten = [\n'/ip4/127.0.0.1/udp/0',\n'/ip6/0:0:0:0:0:0:0:1/tcp/0',\n]\n",
            "dht.toml, line 4: /ip6/::1/tcp/0: a network",
        ),
        ("\nhttp-token-file = '/does/not/exist'\n", "dht.toml, line 2: cannot read the token in /does/not/exist"),
        ("contacts = '/does/not/exist'\n", "dht.toml, line 1: cannot read /does/not/exist"),
        ("k = 8\nrequest-timeout = '50s'\n", "dht.toml, line 2: --lookup-timeout must be 50s to 1h, but is 30s"),
        ("data-dir = '/dev/null/x'\n", "dht.toml, line 1: the data directory /dev/null/x cannot be used"),
    ];
    for (settings, expected) in cases {
        fs::write(&file, settings).unwrap();
        let output = run(&format!("node --config {}", file.display()));
        let status = if settings.starts_with("data-dir") { 3 } else { 2 };
        assert_eq!(output.status.code(), Some(status), "{settings}");
        assert!(!text(&output.stdout).contains("ready"), "{settings}");
        assert!(text(&output.stderr).contains(expected), "{settings}: {}", text(&output.stderr));
    }
    // What the command line says is not in the file.
    fs::write(&file, "k = 8\nlookup-timeout = '40s'\n").unwrap();
    let output = run(&format!("node --config {} --lookup-timeout 1s", file.display()));
    assert!(text(&output.stderr).starts_with("error: --lookup-timeout must be 2s"), "{}", text(&output.stderr));
    fs::remove_file(&file).unwrap();
    let output = run(&format!("node --config {}", file.display()));
    assert_eq!(output.status.code(), Some(2));
    assert!(text(&output.stderr).contains("error: cannot read "), "{}", text(&output.stderr));
}

#[test]
fn wrong_arguments_end_with_status_2_and_say_why() {
    for (arguments, expected) in [
        ("node --k 0", "not a number from 1 to 100"),
        ("node --listen /memory/7", "/memory/7 is no address that a node listens on"),
        ("node --listen /ip4/127.0.0.1/tcp/0 --network rpcudp", "a network of rpcudp is over UDP alone"),
        ("node --network rpcudp --hash sha256", "--hash must be sha1"),
        ("node --http-timeout 200000000000000d", "--http-timeout"),
        ("node --http-timeout 0s", "100ms"),
        ("node --http 8080", "not an address and port"),
        ("node --http --http-host http://dht.example.org", "not the name of a host alone"),
        ("node --lookup-timeout 1s", "--lookup-timeout must be 2s to 1h, but is 1s"),
        ("node --request-timeout 2", "not a time with its unit"),
        ("node --id abc", "an id is 1 to 32 bytes"),
        ("node --id 000000000000000000000000000000000000000001", "--id must be zero beyond the 20 bytes"),
        ("get", "required"),
        ("put key", "required"),
        ("put key value --file x", "cannot be used with"),
        ("get key --node ftp://x", "is no address of a node"),
        ("get key --node :1 --data-dir x", "cannot be used with"),
        ("get key --node :1 --connect /ip4/127.0.0.1/udp/9", "cannot be used with"),
        ("get key --data-dir x --connect /ip4/127.0.0.1/udp/9", "cannot be used with"),
        ("status --token-file /does/not/exist", "cannot read /does/not/exist"),
        ("put key --file /does/not/exist --node 127.0.0.1:9", "/does/not/exist"),
    ] {
        let output = run(arguments);
        let words = text(&output.stderr);
        assert_eq!((output.status.code(), output.stdout.len()), (Some(2), 0), "{arguments}: {words}");
        assert!(words.contains(expected), "{arguments}: {words}");
    }
}
