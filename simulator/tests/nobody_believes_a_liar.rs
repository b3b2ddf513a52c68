//! Half of all nodes lie about values, and nobody is made to believe what an author did not write.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]

use std::ops::ControlFlow;
use std::sync::Arc;

use kademlia_dht::gateway::{Id, KeySpace};
use kademlia_dht::{KeyHasher, Rules, Sha1Hasher};
use kademlia_simulator::experiment::{Plan, liars};
use kademlia_simulator::{Progress, Report, Setup};

fn plan(share: f64) -> Plan {
    let setup = Setup { liars: share, ..Setup::default() };
    Plan { setup, nodes: 200, records: 120, queries: 3000, ..Plan::default() }
}

fn run(plan: &Plan) -> Report {
    liars(plan, &mut |_: Progress| ControlFlow::Continue(())).unwrap().report
}

#[test]
fn half_of_all_nodes_lie_and_no_query_gives_what_its_author_did_not_write() {
    let report = run(&plan(0.5));
    assert!(report.is_sound() && report.wrong == 0, "{report:?}");
    assert_eq!((report.gets, report.unpinned, report.unsaved, report.saves_failed), (3000, 300, 0, 0), "{report:?}");
    assert!(report.lies > 20_000 && report.refused_records > 5_000, "they did lie, and were met: {report:?}");
    assert!(report.get_success > Some(0.99), "{report:?}");
}

#[test]
fn where_nobody_lies_all_is_right() {
    let report = run(&plan(0.0));
    assert!(report.is_sound(), "{report:?}");
    assert_eq!(
        (report.lies, report.refused_records, report.get_success, report.deceived),
        (0, 0, Some(1.0), Some(0.0))
    );
}

/// Looks at the first bytes only.
struct Careless;

impl KeyHasher for Careless {
    fn hash(&self, key: &[u8]) -> Id {
        Sha1Hasher.hash(&key[..key.len().min(8)])
    }

    fn key_space(&self) -> KeySpace {
        Sha1Hasher.key_space()
    }
}

#[test]
fn a_core_that_does_not_check_what_it_is_given_fails_the_run() {
    let mut plan = Plan { queries: 600, ..plan(0.5) };
    plan.setup.params.rules = Arc::new(Rules::new(Arc::new(Careless)));
    let report = run(&plan);
    assert!(report.wrong > 0 && !report.is_sound(), "{report:?}");
    assert!(report.told.iter().any(|told| told.contains("what its author did not write")), "{:?}", report.told);
}
