//! The checks by name, and what each of them needs.

use std::fmt;
use std::str::FromStr;

use super::checks::{addresses, exchange, idle, queues, raw, stopping, unsent};
use super::report::Failure;
use super::transport::{StreamWire, Transport};

/// What a check takes for granted.
#[derive(Clone, Copy)]
enum Needs {
    Nothing,
    Reliable,
    Raw,
    Datagrams,
    Parts,
    Streams,
    GreetingTimeout,
    LentThread,
    Linux,
}

macro_rules! checks {
    ($($(#[doc = $doc:literal])+ $check:ident $name:literal $function:path, $needs:ident;)+) => {
        /// One check of the suite.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[non_exhaustive]
        pub enum Check {
            $($(#[doc = $doc])+ $check,)+
        }

        impl Check {
            /// All of them, in the order in which they are made.
            pub const ALL: &'static [Check] = &[$(Check::$check),+];

            /// Its name: what the gateway does that passes.
            pub fn name(self) -> &'static str {
                match self {
                    $(Check::$check => $name,)+
                }
            }

            fn needs(self) -> Needs {
                match self {
                    $(Check::$check => Needs::$needs,)+
                }
            }

            pub(super) fn perform(self, transport: &Transport) -> Result<(), Failure> {
                match self {
                    $(Check::$check => $function(transport),)+
                }
            }
        }
    };
}

checks! {
    /// Messages go there and answers come back, unchanged, from an address that reaches the sender, and are counted.
    DeliversBothWays "delivers both ways" exchange::delivers_both_ways, Nothing;
    /// Every kind of message, with every kind of record, arrives as it was.
    CarriesAllMessages "carries all messages" exchange::carries_all_messages, Nothing;
    /// A gateway can send to its own address.
    ReachesItself "reaches itself" exchange::reaches_itself, Nothing;
    /// It dials others of its kind, and neither foreign addresses nor circuits, which it hands back as
    /// [`NotDialable`](crate::UnsentReason::NotDialable).
    DialsOnlyItsOwn "dials only its own" exchange::dials_only_its_own, Nothing;
    /// A message as large as [`Outbox::limits`](crate::Outbox::limits) says arrives; a byte more is
    /// [`TooLarge`](crate::UnsentReason::TooLarge), with the limit.
    KeepsItsLimits "keeps its limits" exchange::keeps_its_limits, Nothing;
    /// What may have only so many bytes, as an answer to an address that is not proved, has no more; what cannot is
    /// [`TooLarge`](crate::UnsentReason::TooLarge).
    KeepsToAtMost "keeps to at most" exchange::keeps_to_at_most, Nothing;
    /// It says how many bytes a message had that came in: an answer may have some times as many.
    TellsSizes "tells sizes" exchange::tells_sizes, Nothing;
    /// Where not all contacts of a reply fit, the nearest ones arrive.
    LeavesOutContacts "leaves out contacts" exchange::leaves_out_contacts, Nothing;
    /// A gateway that [lends its thread](crate::Gateway::lends_thread) lets the node answer, and ask, while it delivers.
    SendsWhileItDelivers "sends while it delivers" exchange::sends_while_it_delivers, LentThread;
    /// 10,000 messages arrive, in order.
    KeepsOrder "keeps order" queues::keeps_order, Reliable;
    /// Where the node does not keep up, messages wait, and none is lost; those that may be lost are counted.
    WaitsOrCounts "waits or counts" queues::waits_or_counts, Nothing;
    /// Its outbound queue is bounded, and a full one hands the message back as it was; what it took arrives.
    HandsBackWhenFull "hands back when full" queues::hands_back_when_full, Nothing;
    /// That nobody is there is told at once, for each message.
    TellsUnreachable "tells unreachable" unsent::tells_unreachable, Reliable;
    /// Each request arrives or is reported, by its own tag, and not both. An answer that cannot be sent is only counted.
    AccountsForMessages "accounts for messages" unsent::accounts_for_messages, Nothing;
    /// It does not bind an address of another kind, and names it.
    RefusesForeignAddresses "refuses foreign addresses" addresses::refuses_foreign_addresses, Nothing;
    /// It does not bind an address that another one has, and names it with the cause.
    NamesAddressInUse "names the address in use" addresses::names_address_in_use, Nothing;
    /// After its run, and when it is dropped before one, its address can be bound again.
    FreesItsAddress "frees its address" addresses::frees_its_address, Nothing;
    /// It runs again on the same address after a reopening, and not without.
    Reopens "reopens" addresses::reopens, Nothing;
    /// An outbox that outlives its gateway says [`Closed`](crate::UnsentReason::Closed).
    ClosesItsOutbox "closes its outbox" addresses::closes_its_outbox, Nothing;
    /// It returns at once when the link stopped before the run.
    StopsBeforeItRuns "stops before it runs" stopping::stops_before_it_runs, Nothing;
    /// It stops at once while messages pour in, and while they pour out.
    StopsWhileBusy "stops while busy" stopping::stops_while_busy, Nothing;
    /// It stops at once though nobody reads what it delivers.
    StopsUnread "stops unread" stopping::stops_unread, Nothing;
    /// It stops at once when it is removed while busy: when its outbox and the reader of its messages are gone too.
    StopsWhenRemoved "stops when removed" stopping::stops_when_removed, Nothing;
    /// It does not wake up without a cause: before the first message, after it, and after a peer has gone.
    SleepsWhenIdle "sleeps when idle" idle::sleeps_when_idle, Linux;
    /// What is no message, cut short, or two messages in one is counted, and the next message arrives.
    DropsGarbage "drops garbage" raw::drops_garbage, Raw;
    /// The source address of a datagram proves nothing, as anyone can write it there.
    ProvesNoDatagram "proves no datagram" raw::proves_no_datagram, Datagrams;
    /// What is larger than any message is counted, and does not keep others from being heard.
    DropsOversized "drops oversized" raw::drops_oversized, Raw;
    /// Messages that come in several datagrams arrive in whatever order these come, once though one is repeated; where one
    /// is lost, nothing arrives, and others do.
    BearsLostParts "bears lost parts" raw::bears_lost_parts, Parts;
    /// It reads messages however the stream is cut, and a slow peer holds up nobody.
    BearsSlowPeers "bears slow peers" raw::bears_slow_peers, Streams;
    /// A peer that goes within a frame is counted as malformed, and disturbs nobody.
    BearsLostPeers "bears lost peers" raw::bears_lost_peers, Streams;
    /// One whose greeting does not come, or not all of it, is closed and counted.
    ClosesSilentPeers "closes silent peers" raw::closes_silent_peers, GreetingTimeout;
}

impl Check {
    /// Whether the check can be made on the transport, or why it cannot.
    pub(super) fn applies_to(self, transport: &Transport) -> Result<(), &'static str> {
        let streams = transport.streams();
        let (fulfilled, reason) = match self.needs() {
            Needs::Nothing => (true, ""),
            Needs::Reliable => (transport.is_reliable(), "messages may be lost on this transport"),
            Needs::Raw => {
                (streams.is_some() || transport.has_datagrams(), "the transport was described without a raw wire")
            }
            Needs::Datagrams => (transport.has_datagrams(), "the transport was described without raw datagrams"),
            Needs::Parts => (transport.has_parts(), "the transport was described without messages in parts"),
            Needs::Streams => (streams.is_some(), "the transport was described without raw streams"),
            Needs::GreetingTimeout => {
                let timeout = streams.and_then(StreamWire::greeting_timeout);
                (timeout.is_some(), "the transport was described without a timeout for greetings")
            }
            // One that cannot be made fails the check.
            Needs::LentThread => (
                transport.make().map_or(true, |gateway| gateway.lends_thread()),
                "the gateway does not lend its thread",
            ),
            Needs::Linux => (cfg!(target_os = "linux"), "this system does not tell what a thread does"),
        };
        if fulfilled { Ok(()) } else { Err(reason) }
    }
}

impl fmt::Display for Check {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// No check has this name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("no check is named {0:?}")]
pub struct UnknownCheck(pub String);

impl FromStr for Check {
    type Err = UnknownCheck;

    fn from_str(name: &str) -> Result<Self, UnknownCheck> {
        let found = Check::ALL.iter().find(|check| check.name() == name);
        found.copied().ok_or_else(|| UnknownCheck(name.to_owned()))
    }
}
