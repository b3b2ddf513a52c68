//! The suite finds what is wrong: for each of its checks there are gateways that are broken in just that, and fail it.
#![cfg(feature = "memory")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic, reason = "it is a test")]

mod datagrams;
mod memory;
mod streams;

use std::collections::BTreeSet;
use std::time::Duration;

use kademlia_gateways::conformance::{self, Check, Failure, Outcome, Transport};

/// What does not come takes so long to be missed.
const DEADLINE: Duration = Duration::from_secs(2);

/// The check must fail on the transport, and for a reason that lies with the gateway.
fn assert_fails(transport: Transport, check: Check) {
    let named: Check = check.name().parse().unwrap();
    match named.run(&transport.with_deadline(DEADLINE)) {
        Outcome::Failed(failure) => {
            assert!(!matches!(failure, Failure::NotDescribed(_)), "{check}: {failure}");
        }
        outcome => panic!("{check}: {outcome}"),
    }
}

macro_rules! broken {
    ($($(#[$attribute:meta])* $test:ident: $transport:expr => $check:ident;)+) => {
        $(
            $(#[$attribute])*
            #[test]
            fn $test() {
                assert_fails($transport, Check::$check);
            }
        )+

        /// The checks that a broken gateway fails.
        const COVERED: &[Check] = &[$(Check::$check),+];
    };
}

use datagrams::{DatagramFlaw, datagrams};
use memory::{Flaw, lossy, reliable};
use streams::{StreamFlaw, streams};

broken! {
    a_gateway_that_swallows_messages: reliable(Flaw::Swallows) => DeliversBothWays;
    a_gateway_that_swallows_signed_records: reliable(Flaw::SwallowsSignatures) => CarriesAllMessages;
    a_gateway_that_names_another_sender: reliable(Flaw::NamesAnotherSender) => DeliversBothWays;
    a_gateway_that_delivers_twice: reliable(Flaw::DeliversTwice) => DeliversBothWays;
    a_gateway_that_does_not_reach_itself: reliable(Flaw::MissesItself) => ReachesItself;
    a_gateway_that_dials_everything: reliable(Flaw::DialsEverything) => DialsOnlyItsOwn;
    a_gateway_that_claims_more_than_passes: reliable(Flaw::ClaimsLargerMessages) => KeepsItsLimits;
    a_gateway_that_sends_more_than_it_claims: reliable(Flaw::ClaimsSmallerMessages) => KeepsItsLimits;
    a_gateway_that_sends_more_than_it_may: reliable(Flaw::IgnoresAtMost) => KeepsToAtMost;
    a_gateway_that_says_that_more_came_than_did: lossy(Flaw::OverstatesSizes) => TellsSizes;
    a_gateway_that_leaves_out_the_nearest_contacts: reliable(Flaw::LeavesOutTheNearest) => LeavesOutContacts;
    a_gateway_that_prefers_less_than_it_sends: reliable(Flaw::ClaimsSmallerMessages) => LeavesOutContacts;
    a_gateway_that_holds_its_outbox_while_it_delivers: reliable(Flaw::HoldsItsOutbox) => SendsWhileItDelivers;
    a_gateway_that_reorders: reliable(Flaw::Reorders) => KeepsOrder;
    a_gateway_that_loses_one_message_in_a_thousand: reliable(Flaw::LosesSome) => KeepsOrder;
    a_gateway_that_drops_what_the_node_cannot_take: reliable(Flaw::DropsWhatIsTooMuch) => WaitsOrCounts;
    a_gateway_that_drops_without_counting: lossy(Flaw::DropsWhatIsTooMuch) => WaitsOrCounts;
    a_gateway_whose_queue_has_no_end: reliable(Flaw::NeverFull) => HandsBackWhenFull;
    a_gateway_that_hands_back_another_message: reliable(Flaw::HandsBackAnother) => HandsBackWhenFull;
    a_lossy_gateway_that_hands_back_another_message: lossy(Flaw::HandsBackAnother) => HandsBackWhenFull;
    a_gateway_that_is_silent_about_nobody: reliable(Flaw::SilentAboutNobody) => TellsUnreachable;
    a_gateway_that_gives_another_reason: reliable(Flaw::GivesAnotherReason) => TellsUnreachable;
    a_gateway_that_forgets_a_message: reliable(Flaw::SilentAboutNobody) => AccountsForMessages;
    a_gateway_that_reports_another_tag: reliable(Flaw::ReportsAnotherTag) => AccountsForMessages;
    a_lossy_gateway_that_reports_another_tag: lossy(Flaw::ReportsAnotherTag) => AccountsForMessages;
    a_gateway_that_reports_what_arrives: reliable(Flaw::ReportsWhatArrives) => AccountsForMessages;
    a_gateway_that_reports_answers: reliable(Flaw::ReportsAnswers) => AccountsForMessages;
    a_gateway_that_does_not_count_answers: reliable(Flaw::CountsNoAnswers) => AccountsForMessages;
    a_gateway_that_binds_any_address: reliable(Flaw::BindsAnything) => RefusesForeignAddresses;
    a_gateway_that_takes_another_address: reliable(Flaw::TakesAnotherAddress) => NamesAddressInUse;
    a_gateway_that_does_not_say_what_is_in_use: reliable(Flaw::NamesNothing) => NamesAddressInUse;
    a_gateway_that_keeps_its_address: reliable(Flaw::KeepsItsAddress) => FreesItsAddress;
    a_gateway_that_reopens_elsewhere: reliable(Flaw::ReopensElsewhere) => Reopens;
    a_gateway_that_runs_without_reopening: reliable(Flaw::RunsAgain) => Reopens;
    a_gateway_that_reopens_after_all: reliable(Flaw::None).without_reopening() => Reopens;
    a_gateway_whose_outbox_takes_messages_for_ever: reliable(Flaw::NeverClosed) => ClosesItsOutbox;
    a_gateway_that_overlooks_an_early_stop: reliable(Flaw::OverlooksEarlyStop) => StopsBeforeItRuns;
    a_gateway_that_finishes_its_work_first: reliable(Flaw::FinishesItsWork) => StopsWhileBusy;
    a_gateway_that_fails_at_its_end: reliable(Flaw::FailsAtItsEnd) => StopsWhileBusy;
    a_gateway_that_waits_for_its_reader: reliable(Flaw::WaitsForItsReader) => StopsUnread;
    a_gateway_that_waits_for_its_outbox: reliable(Flaw::WaitsForItsOutbox) => StopsWhenRemoved;
    #[cfg(target_os = "linux")]
    a_gateway_that_looks_for_work: reliable(Flaw::LooksForWork(Duration::from_millis(5))) => SleepsWhenIdle;
    #[cfg(target_os = "linux")]
    a_gateway_that_looks_for_work_each_second: reliable(Flaw::LooksForWork(Duration::from_secs(1))) => SleepsWhenIdle;
    a_gateway_that_panics_on_garbage: streams(StreamFlaw::PanicsOnGarbage) => DropsGarbage;
    a_gateway_that_does_not_count_garbage: streams(StreamFlaw::CountsNoGarbage) => DropsGarbage;
    a_gateway_that_gives_up_a_connection: streams(StreamFlaw::GivesUpConnections) => DropsGarbage;
    a_receiver_that_panics_on_garbage: datagrams(DatagramFlaw::PanicsOnGarbage) => DropsGarbage;
    a_receiver_that_does_not_count_garbage: datagrams(DatagramFlaw::CountsNoGarbage) => DropsGarbage;
    a_receiver_that_believes_every_source: datagrams(DatagramFlaw::BelievesSources) => ProvesNoDatagram;
    a_gateway_that_waits_for_long_frames: streams(StreamFlaw::TakesAnyLength) => DropsOversized;
    a_gateway_that_ends_with_a_long_frame: streams(StreamFlaw::EndsWithLongFrames) => DropsOversized;
    a_receiver_that_cuts_datagrams_short: datagrams(DatagramFlaw::CutsShort) => DropsOversized;
    a_receiver_that_counts_parts_instead_of_knowing_them: datagrams(DatagramFlaw::CountsParts) => BearsLostParts;
    a_receiver_that_needs_parts_in_order: datagrams(DatagramFlaw::NeedsOrder) => BearsLostParts;
    a_receiver_that_waits_for_lost_parts_for_ever: datagrams(DatagramFlaw::WaitsForParts) => BearsLostParts;
    a_gateway_that_reads_one_connection_at_a_time: streams(StreamFlaw::OneAtATime) => BearsSlowPeers;
    a_gateway_that_takes_each_piece_for_a_frame: streams(StreamFlaw::TakesPieces) => BearsSlowPeers;
    a_gateway_that_does_not_count_pieces: streams(StreamFlaw::CountsNoPieces) => BearsLostPeers;
    a_gateway_that_ends_with_a_peer: streams(StreamFlaw::EndsWithPeers) => BearsLostPeers;
    a_gateway_that_waits_for_a_greeting_for_ever: streams(StreamFlaw::WaitsForGreetings) => ClosesSilentPeers;
    a_gateway_that_closes_without_counting: streams(StreamFlaw::ClosesUncounted) => ClosesSilentPeers;
}

#[test]
fn every_check_has_a_gateway_that_fails_it() {
    let covered: BTreeSet<Check> = COVERED.iter().copied().collect();
    let all: BTreeSet<Check> = Check::ALL.iter().copied().collect();
    assert_eq!(covered, all);
}

#[test]
fn the_same_gateways_without_a_flaw_pass() {
    for transport in [reliable(Flaw::None), lossy(Flaw::None)] {
        let report = conformance::run(&transport);
        assert!(report.has_passed(), "{report}");
    }
    let broken_in_streams = [
        Check::DropsGarbage,
        Check::DropsOversized,
        Check::BearsSlowPeers,
        Check::BearsLostPeers,
        Check::ClosesSilentPeers,
    ];
    for check in broken_in_streams {
        let outcome = check.run(&streams(StreamFlaw::None));
        assert!(matches!(outcome, Outcome::Passed), "{check}: {outcome}");
    }
    for check in [Check::DropsGarbage, Check::DropsOversized, Check::BearsLostParts] {
        let outcome = check.run(&datagrams(DatagramFlaw::None));
        assert!(matches!(outcome, Outcome::Passed), "{check}: {outcome}");
    }
}

#[test]
fn a_report_names_what_failed_and_why() {
    let transport = reliable(Flaw::DialsEverything).with_deadline(DEADLINE);
    let results = [Check::ReachesItself, Check::DialsOnlyItsOwn, Check::DropsGarbage];
    let results = results.into_iter().map(|check| (check, check.run(&transport))).collect();
    let report = conformance::Report { transport: transport.name().to_owned(), results };
    assert!(!report.has_passed());
    assert_eq!(report.failures().map(|(check, _)| check.name()).collect::<Vec<_>>(), ["dials only its own"]);
    assert_eq!(report.not_applicable().map(|(check, _)| check).collect::<Vec<_>>(), [Check::DropsGarbage]);
    assert_eq!(
        report.to_string(),
        "broken memory: 1 of 3 checks failed\n  \
         reaches itself: passed\n  \
         dials only its own: FAILED: expected a gateway that dials nothing but its own kind, but it dials \n  \
         drops garbage: not applicable: the transport was described without a raw wire"
    );
}

#[test]
fn a_check_that_panics_or_hangs_fails_alone() {
    let panics = Transport::reliable("panics", |_| -> Result<memory::Broken, _> { panic!("on purpose") });
    let outcome = Check::ReachesItself.run(&panics);
    assert!(matches!(outcome, Outcome::Failed(Failure::Panicked(ref words)) if words == "on purpose"), "{outcome}");

    let hangs = Transport::reliable("hangs", |_| -> Result<memory::Broken, _> {
        loop {
            std::thread::park();
        }
    });
    let outcome = Check::ReachesItself.run(&hangs.with_deadline(Duration::ZERO));
    assert!(matches!(outcome, Outcome::Failed(Failure::Late { .. })), "{outcome}");
}

#[test]
fn names_are_read_back() {
    for check in Check::ALL {
        assert_eq!(check.to_string().parse(), Ok(*check));
    }
    let unknown = "passes everything".parse::<Check>().unwrap_err();
    assert_eq!(unknown.to_string(), "no check is named \"passes everything\"");
}
