//! What `docs/writing-a-gateway.md` quotes stands in the example, and it tells of every check.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "it is a test")]

use kademlia_dht::gateway::conformance::Check;

const GUIDE: &str = include_str!("../../docs/writing-a-gateway.md");

/// Without what stands before the words of a line, as a quotation begins at the margin.
fn trimmed(text: &str) -> String {
    text.lines().map(str::trim).collect::<Vec<&str>>().join("\n")
}

#[test]
fn quotations_are_true() {
    let sources = trimmed(include_str!("../src/bin/custom_gateway.rs")) + &trimmed(include_str!("custom_gateway.rs"));
    let quoted: Vec<&str> =
        GUIDE.split("```rust,ignore\n").skip(1).map(|rest| rest.split_once("```").expect("its end").0).collect();
    assert_eq!(quoted.len(), 4);
    for quotation in quoted {
        assert!(sources.contains(trimmed(quotation).trim_end()), "not in the example:\n{quotation}");
    }
}

#[test]
fn every_check_is_told_of() {
    for check in Check::ALL {
        assert!(GUIDE.contains(&format!("| {check} |")), "{check}");
    }
    assert!(GUIDE.contains(&format!("has {} checks", Check::ALL.len())));
}
