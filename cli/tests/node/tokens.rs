//! Who may write: nobody without the token where there is one, nobody from elsewhere without one, and no page of another site.

use std::fs;

use super::process::{Node, run, text};

fn bearer(token: &str) -> String {
    format!("Authorization: Bearer {token}\r\n")
}

#[test]
fn with_a_token_only_who_shows_it_writes() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("token");
    fs::write(&file, "secret words\n").unwrap();
    let node = Node::start(&format!("--http-token-file {}", file.display()));
    let put = |headers: &str| node.ask("PUT", "/dht/key", headers, b"value");
    for (headers, code) in [
        (String::new(), "no_token"),
        ("Authorization: Basic c2VjcmV0\r\n".to_owned(), "no_token"),
        (bearer("secret word"), "bad_token"),
        (bearer("secret words "), ""),
        (bearer("Secret words"), "bad_token"),
        (bearer(""), "no_token"),
    ] {
        let answer = put(&headers);
        if code.is_empty() {
            assert_eq!(answer.status, 200);
        } else {
            assert_eq!((answer.status, answer.code().as_str()), (401, code), "{headers}");
            assert_eq!(answer.headers["www-authenticate"], "Bearer");
        }
    }
    assert_eq!(node.ask("DELETE", "/dht/key", "", b"").status, 401);
    assert_eq!(node.ask("POST", "/dht/key", "", b"other").status, 401);
    assert_eq!(node.get("/dht/key").body, b"value");
    // The commands show it, too.
    let url = format!("--node http://{}", node.http);
    assert_eq!(run(&format!("put key other {url}")).status.code(), Some(1));
    let shown = run(&format!("put key other {url} --token-file {}", file.display()));
    assert!(shown.status.success(), "{}", text(&shown.stderr));
}

#[test]
fn elsewhere_nobody_writes_without_a_token() {
    let node = Node::start_without_http("--http 0.0.0.0:0");
    let port = node.http.rsplit_once(':').unwrap().1;
    let local = format!("127.0.0.1:{port}");
    let refused = super::http::request(&local, "PUT", "/dht/key", "", b"value");
    assert_eq!((refused.status, refused.code().as_str()), (403, "read_only"));
    assert_eq!(super::http::request(&local, "GET", "/status", "", b"").status, 200);
}

#[test]
fn pages_of_other_sites_neither_write_nor_read() {
    let node = Node::start("");
    let put = |headers: &str| node.ask("PUT", "/dht/key", headers, b"value").status;
    assert_eq!(put("Origin: http://example.org\r\n"), 403);
    assert_eq!(put("Origin: null\r\n"), 403);
    assert_eq!(put("Sec-Fetch-Site: cross-site\r\n"), 403);
    assert_eq!(put(&format!("Origin: http://{}\r\nSec-Fetch-Site: same-origin\r\n", node.http)), 200);
    // A name of another site that leads here.
    let led = node.ask("GET", "/dht/key", "Host: example.org:8080\r\n", b"");
    assert_eq!((led.status, led.code().as_str()), (403, "foreign_host"));
    assert_eq!(node.ask("GET", "/dht/key", "Host: localhost:8080\r\n", b"").status, 200);
}

/// Through a proxy comes anybody, though it is on this host itself.
#[test]
fn behind_a_proxy_only_who_shows_the_token_writes() {
    let folder = tempfile::tempdir().unwrap();
    let (settings, token) = (folder.path().join("dht.toml"), folder.path().join("token"));
    fs::write(&settings, "http = ':0'\nhttp-host = ['dht.example.org', 'other.example.org']\n").unwrap();
    fs::write(&token, "secret").unwrap();
    let by_file = format!("--config {}", settings.display());
    let guarded = format!("{by_file} --http-token-file {}", token.display());
    let by_line = "--http 127.0.0.1:0 --http-host other.example.org --http-host dht.example.org";
    for (arguments, refused) in
        [(by_line, (403, "read_only")), (&by_file, (403, "read_only")), (&guarded, (401, "no_token"))]
    {
        let node = Node::start_without_http(arguments);
        let host = "Host: dht.example.org\r\n";
        assert_eq!(node.ask("GET", "/status", host, b"").status, 200);
        let own = "Origin: https://dht.example.org\r\n";
        for headers in [host, &format!("{host}{own}"), own] {
            let answer = node.ask("PUT", "/dht/key", headers, b"value");
            assert_eq!((answer.status, answer.code().as_str()), refused, "{headers}");
        }
        assert_eq!(node.ask("GET", "/status", "Host: example.org\r\n", b"").code(), "foreign_host");
        let shown = node.ask("PUT", "/dht/key", &format!("{host}{own}{}", bearer("secret")), b"value");
        assert_eq!(shown.status, if refused.0 == 401 { 200 } else { 403 });
        // Who is on this host needs no token where there is none.
        let here = node.ask("PUT", "/dht/key", "", b"value");
        assert_eq!(here.status, if refused.0 == 401 { 401 } else { 200 });
    }
}

#[test]
fn a_token_that_is_none_is_said() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("token");
    for words in ["cannot read the token in ", "there is no token in "] {
        let output = run(&format!("node --http :0 --http-token-file {}", file.display()));
        assert_eq!(output.status.code(), Some(2));
        assert!(text(&output.stderr).contains(words), "{}", text(&output.stderr));
        fs::write(&file, "\n").unwrap();
    }
}
