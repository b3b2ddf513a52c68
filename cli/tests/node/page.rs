//! The page, as it is served. What it does in a browser is in `cli/tests/page/`.

use std::fs;

use super::process::{Node, text};

#[test]
fn the_page_may_do_nothing_but_ask_its_node() {
    let node = Node::start("");
    let page = node.get("/");
    assert_eq!((page.status, page.headers["content-type"].as_str()), (200, "text/html; charset=utf-8"));
    assert!(text(&page.body).starts_with("<!doctype html>"));
    let policy = &page.headers["content-security-policy"];
    for rule in ["default-src 'none'", "connect-src 'self'", "frame-ancestors 'none'", "form-action 'none'"] {
        assert!(policy.split("; ").any(|given| given == rule), "{policy}");
    }
    assert!(!policy.contains("unsafe"), "{policy}");
    assert_eq!(
        (page.headers["x-content-type-options"].as_str(), page.headers["referrer-policy"].as_str()),
        ("nosniff", "no-referrer")
    );

    let head = node.ask("HEAD", "/", "", b"");
    assert_eq!((head.status, &head.headers["content-length"]), (200, &page.body.len().to_string()));
    let known = node.ask("GET", "/", &format!("If-None-Match: {}\r\n", page.etag()), b"");
    assert_eq!((known.status, known.body.len(), known.headers["cache-control"].as_str()), (304, 0, "no-cache"));
    assert_eq!(node.ask("POST", "/", "", b"").code(), "method_not_allowed");
}

#[test]
fn the_page_is_served_where_the_rest_is() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("token");
    fs::write(&file, "secret words").unwrap();
    let node = Node::start(&format!("--http-token-file {}", file.display()));
    assert_eq!(node.get("/").status, 200);
    // Not by a name of another site that leads here.
    assert_eq!(node.ask("GET", "/", "Host: example.org\r\n", b"").code(), "foreign_host");
}
