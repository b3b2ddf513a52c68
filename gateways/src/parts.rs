//! Messages in parts: how one that no datagram has room for is taken apart, and put together again.
//!
//! A part is a datagram of at most [`DATAGRAM_BYTES`]: a first byte that is no wire version, so that who does not know of
//! parts takes it for another version; the message's number, which nobody else can guess; the part's index; how many
//! there are; and its piece of the message. All parts but the last are full, so that an index says where a piece belongs.
//!
//! Nothing here has a socket or a clock.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::time::{Duration, Instant};

use crate::codec::{MAX_MESSAGE_BYTES, SizeLimits};
use crate::count::Count;

/// The first byte of every part.
pub const FIRST_BYTE: u8 = b'p';

/// What a part has before its piece of the message, in bytes.
pub const HEADER_BYTES: usize = 11;

/// The most bytes of a part, its header included.
pub const DATAGRAM_BYTES: usize = SizeLimits::PARTS.preferred;

/// The most bytes of a message that stays in one datagram, as it is.
pub const UNSPLIT_BYTES: usize = SizeLimits::DATAGRAM.largest;

/// A message that gets no part for so long is given up.
pub const PATIENCE: Duration = Duration::from_secs(2);

/// The most bytes that unfinished messages take, from all sources together.
pub const MAX_BYTES: usize = 4 * 1024 * 1024;

/// The most bytes that unfinished messages of one source take.
pub const MAX_SOURCE_BYTES: usize = 512 * 1024;

const PIECE_BYTES: usize = DATAGRAM_BYTES - HEADER_BYTES;
const MAX_PARTS: usize = MAX_MESSAGE_BYTES.div_ceil(PIECE_BYTES);

/// What it takes to keep a message and each of its parts, beside their bytes. It bounds how many there can be.
const MESSAGE_COST: usize = 1024;
const PART_COST: usize = 64;

/// The largest message whose datagrams have at most so many bytes together.
pub fn largest_within(bytes: usize) -> usize {
    let (full, rest) = (bytes / DATAGRAM_BYTES, bytes % DATAGRAM_BYTES);
    let split = full * PIECE_BYTES + rest.saturating_sub(HEADER_BYTES);
    split.max(bytes.min(UNSPLIT_BYTES)).min(MAX_MESSAGE_BYTES)
}

/// How many bytes the datagrams of a message of `message` bytes have together.
pub fn bytes_on_the_wire(message: usize) -> usize {
    let parts = if message > UNSPLIT_BYTES { message.div_ceil(PIECE_BYTES) } else { 0 };
    message + parts * HEADER_BYTES
}

/// Hands the datagrams of a message to `send`, one after the other. The buffer has the message behind [`HEADER_BYTES`] of
/// room, and is of no use afterwards.
///
/// # Errors
///
/// The first one of `send`, which is then not called again.
pub fn send<E>(number: u64, buffer: &mut [u8], mut send: impl FnMut(&[u8]) -> Result<(), E>) -> Result<(), E> {
    let message = buffer.get(HEADER_BYTES..).unwrap_or_default();
    if message.len() <= UNSPLIT_BYTES {
        return send(message);
    }
    let count = u8::try_from(message.len().div_ceil(PIECE_BYTES)).unwrap_or(u8::MAX);
    for index in 0..count {
        let start = usize::from(index) * PIECE_BYTES;
        let end = buffer.len().min(start + DATAGRAM_BYTES);
        let Some(datagram) = buffer.get_mut(start..end) else { break };
        // The header takes the place of the end of the last piece, which has gone out.
        if let Some(header) = datagram.first_chunk_mut() {
            *header = self::header(number, index, count);
        }
        send(datagram)?;
    }
    Ok(())
}

fn header(number: u64, index: u8, count: u8) -> [u8; HEADER_BYTES] {
    let [a, b, c, d, e, f, g, h] = number.to_be_bytes();
    [FIRST_BYTE, a, b, c, d, e, f, g, h, index, count]
}

/// Whether a datagram is a part, good or bad, rather than a message.
pub fn is_part(datagram: &[u8]) -> bool {
    datagram.first() == Some(&FIRST_BYTE)
}

/// Why a datagram is no part of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PartError {
    /// Its header is not whole.
    #[error("the part has no header")]
    Header,
    /// There is no such part.
    #[error("part {index} of {count}")]
    Place {
        /// Its index, from 0.
        index: u8,
        /// How many parts there are.
        count: u8,
    },
    /// Another part of the message named another number of parts.
    #[error("{count} parts, and before there were {before}")]
    Count {
        /// How many there are said to be.
        count: u8,
        /// How many there were said to be.
        before: u8,
    },
    /// Its piece is not as long as it should be at its place.
    #[error("a piece of {0} bytes")]
    Size(usize),
    /// The message has more bytes than any.
    #[error("the message is larger than {MAX_MESSAGE_BYTES} bytes")]
    TooLarge,
    /// It came before.
    #[error("part {0} came before")]
    Repeated(u8),
}

/// One part, as it was read.
struct Part<'a> {
    number: u64,
    index: u8,
    count: u8,
    piece: &'a [u8],
}

impl From<&PartError> for Count {
    fn from(error: &PartError) -> Self {
        match error {
            PartError::Header | PartError::Place { .. } | PartError::Count { .. } | PartError::Size(_) => {
                Count::Malformed
            }
            PartError::TooLarge => Count::Oversized,
            PartError::Repeated(_) => Count::Repeated,
        }
    }
}

impl<'a> Part<'a> {
    fn read(datagram: &'a [u8]) -> Result<Self, PartError> {
        let Some((&[FIRST_BYTE, ref number @ .., index, count], piece)) = datagram.split_first_chunk::<HEADER_BYTES>()
        else {
            return Err(PartError::Header);
        };
        if usize::from(count) > MAX_PARTS {
            return Err(PartError::TooLarge);
        }
        if index >= count || count < 2 {
            return Err(PartError::Place { index, count });
        }
        let is_last = index + 1 == count;
        let sizes = if is_last { 1..=PIECE_BYTES } else { PIECE_BYTES..=PIECE_BYTES };
        if !sizes.contains(&piece.len()) {
            return Err(PartError::Size(piece.len()));
        }
        if is_last && usize::from(index) * PIECE_BYTES + piece.len() > MAX_MESSAGE_BYTES {
            return Err(PartError::TooLarge);
        }
        Ok(Part { number: u64::from_be_bytes(*number), index, count, piece })
    }
}

/// A message that was put together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Whole {
    /// Its bytes.
    pub message: Vec<u8>,
    /// How many bytes its datagrams had together.
    pub bytes: usize,
}

/// Whose parts share a bound: those of one host, as changing the port should buy nothing. On this host, where all have one
/// IP, they are those of one port.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Source(IpAddr, u16);

impl Source {
    fn of(from: SocketAddr) -> Self {
        match from.ip() {
            ip if ip.is_loopback() => Source(ip, from.port()),
            // One host has a whole /64 to choose from.
            IpAddr::V6(ip) => Source(Ipv6Addr::from_bits(ip.to_bits() & (!0 << 64)).into(), 0),
            ip => Source(ip, 0),
        }
    }
}

/// A message of which parts are missing.
#[derive(Debug)]
struct Unfinished {
    from: SocketAddr,
    number: u64,
    count: u8,
    /// The parts that came, in the order in which they did.
    pieces: Vec<(u8, Box<[u8]>)>,
    bytes: usize,
    /// When the last of them came: as a number that no other message has, and by the clock.
    turn: u64,
    at: Instant,
}

impl Unfinished {
    /// The message of which this part came first, still without it.
    fn new(now: Instant, from: SocketAddr, part: &Part<'_>) -> Self {
        let Part { number, count, .. } = *part;
        Unfinished { from, number, count, pieces: Vec::new(), bytes: 0, turn: 0, at: now }
    }

    fn add(&mut self, part: &Part<'_>) -> Result<(), PartError> {
        if part.count != self.count {
            return Err(PartError::Count { count: part.count, before: self.count });
        }
        if self.pieces.iter().any(|(index, _)| *index == part.index) {
            return Err(PartError::Repeated(part.index));
        }
        self.pieces.push((part.index, part.piece.into()));
        self.bytes += part.piece.len();
        Ok(())
    }

    fn is_whole(&self) -> bool {
        self.pieces.len() == usize::from(self.count)
    }

    fn finish(mut self) -> Whole {
        self.pieces.sort_unstable_by_key(|(index, _)| *index);
        let mut message = Vec::with_capacity(self.bytes);
        for (_, piece) in &self.pieces {
            message.extend_from_slice(piece);
        }
        Whole { message, bytes: self.bytes + self.pieces.len() * HEADER_BYTES }
    }

    fn cost(&self) -> usize {
        MESSAGE_COST + self.pieces.len() * PART_COST + self.bytes
    }
}

/// Puts messages together from their parts, whoever sends them, in whatever order they come.
///
/// Memory is taken for bytes that came, never for what was only announced. Where there is none left, the message goes that
/// got no part for the longest time: so whoever wants to drive out one that gets on must fill all of the memory between
/// two of its parts.
#[derive(Debug, Default)]
pub struct Assembler {
    sources: BTreeMap<Source, Vec<Unfinished>>,
    /// Whose each message is and when its last part came, those first that got none for the longest time.
    waiting: BTreeMap<u64, (Source, Instant)>,
    turns: u64,
    bytes: usize,
    unfinished: usize,
}

impl Assembler {
    /// Takes a part that came from this address. Gives its message if that is whole.
    ///
    /// # Errors
    ///
    /// When it is no part, or came before. What came of its message stays.
    pub fn accept(&mut self, now: Instant, from: SocketAddr, datagram: &[u8]) -> Result<Option<Whole>, PartError> {
        self.expire(now);
        let part = Part::read(datagram)?;
        let source = Source::of(from);
        let found = self.take(source, |message| message.from == from && message.number == part.number);
        let mut message = found.unwrap_or_else(|| Unfinished::new(now, from, &part));
        let added = message.add(&part);
        if added.is_ok() {
            if message.is_whole() {
                return Ok(Some(message.finish()));
            }
            self.turns += 1;
            (message.turn, message.at) = (self.turns, now);
            self.make_room(source, message.cost());
        }
        self.keep(source, message);
        added.map(|()| None)
    }

    /// Gives up messages whose parts have not gone on coming.
    pub fn expire(&mut self, now: Instant) {
        while let Some((turn, (source, at))) = self.waiting.first_key_value().map(|(turn, waiting)| (*turn, *waiting))
            && now.saturating_duration_since(at) > PATIENCE
        {
            self.give_up(source, turn);
        }
    }

    /// Whether no message is unfinished.
    pub fn is_empty(&self) -> bool {
        self.sources.is_empty()
    }

    /// How much memory the unfinished messages take, in bytes.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// How many messages were given up since this was last asked.
    pub fn take_unfinished(&mut self) -> usize {
        std::mem::take(&mut self.unfinished)
    }

    /// Gives up messages until one of this source can take so much.
    fn make_room(&mut self, source: Source, cost: usize) {
        loop {
            let messages = self.sources.get(&source).map(Vec::as_slice).unwrap_or_default();
            let taken: usize = messages.iter().map(Unfinished::cost).sum();
            let oldest = messages.iter().map(|message| message.turn).min();
            match oldest {
                Some(turn) if taken + cost > MAX_SOURCE_BYTES => self.give_up(source, turn),
                _ => break,
            }
        }
        while self.bytes + cost > MAX_BYTES
            && let Some((turn, (source, _))) = self.waiting.pop_first()
        {
            self.give_up(source, turn);
        }
    }

    fn give_up(&mut self, source: Source, turn: u64) {
        self.take(source, |message| message.turn == turn);
        self.unfinished += 1;
    }

    fn keep(&mut self, source: Source, message: Unfinished) {
        self.bytes += message.cost();
        self.waiting.insert(message.turn, (source, message.at));
        self.sources.entry(source).or_default().push(message);
    }

    fn take(&mut self, source: Source, which: impl Fn(&Unfinished) -> bool) -> Option<Unfinished> {
        let messages = self.sources.get_mut(&source)?;
        let place = messages.iter().position(which)?;
        let message = messages.swap_remove(place);
        if messages.is_empty() {
            self.sources.remove(&source);
        }
        self.waiting.remove(&message.turn);
        self.bytes = self.bytes.saturating_sub(message.cost());
        Some(message)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn address(text: &str) -> SocketAddr {
        text.parse().unwrap()
    }

    fn here() -> SocketAddr {
        address("192.0.2.1:4000")
    }

    /// So many bytes, of which no two pieces are alike.
    fn message(size: usize) -> Vec<u8> {
        (0..size).map(|n| (n % 251) as u8 ^ (n / PIECE_BYTES) as u8).collect()
    }

    /// The datagrams of a message.
    fn split(number: u64, message: &[u8]) -> Vec<Vec<u8>> {
        let mut buffer = [&[0; HEADER_BYTES], message].concat();
        let mut datagrams = Vec::new();
        let sent: Result<(), ()> = send(number, &mut buffer, |datagram| {
            datagrams.push(datagram.to_vec());
            Ok(())
        });
        sent.unwrap();
        datagrams
    }

    fn part(number: u64, index: u8, count: u8, piece: usize) -> Vec<u8> {
        [&header(number, index, count)[..], &vec![index; piece]].concat()
    }

    /// The messages that come out of datagrams.
    fn assemble(assembler: &mut Assembler, now: Instant, datagrams: &[Vec<u8>]) -> Vec<Vec<u8>> {
        let whole = |datagram| assembler.accept(now, here(), datagram).unwrap().map(|whole| whole.message);
        datagrams.iter().map(Vec::as_slice).filter_map(whole).collect()
    }

    #[test]
    fn what_fits_a_datagram_is_not_split() {
        for size in [0, 1, DATAGRAM_BYTES, UNSPLIT_BYTES] {
            assert_eq!(split(1, &message(size)), [message(size)]);
            assert_eq!(bytes_on_the_wire(size), size);
        }
        assert_eq!(split(1, &message(UNSPLIT_BYTES + 1)).len(), 2);
    }

    #[test]
    fn the_largest_message_comes_back_from_its_parts() {
        let whole = message(MAX_MESSAGE_BYTES);
        let parts = split(7, &whole);
        assert_eq!(parts.len(), MAX_PARTS);
        assert!(parts.iter().all(|part| part.len() <= DATAGRAM_BYTES && is_part(part)));
        let mut assembler = Assembler::default();
        assert!(assemble(&mut assembler, Instant::now(), &parts) == [whole]);
        assert!(assembler.is_empty());
        assert_eq!((assembler.bytes(), assembler.take_unfinished()), (0, 0));
    }

    #[test]
    fn the_first_failure_to_send_is_the_last_try() {
        let mut tries = 0;
        let sent = send(1, &mut vec![0; 10_000], |_| {
            tries += 1;
            if tries == 3 { Err("full") } else { Ok(()) }
        });
        assert_eq!((sent, tries), (Err("full"), 3));
    }

    #[test]
    fn what_is_no_part_is_told_by_its_cause() {
        let mut assembler = Assembler::default();
        let mut why = |datagram: &[u8]| assembler.accept(Instant::now(), here(), datagram).unwrap_err();
        assert_eq!(why(&part(1, 0, 2, 0)[..HEADER_BYTES - 1]), PartError::Header);
        assert_eq!(why(&[1; 100]), PartError::Header);
        for (index, count) in [(0, 0), (0, 1), (1, 1), (2, 2), (255, 2)] {
            assert_eq!(why(&part(1, index, count, PIECE_BYTES)), PartError::Place { index, count });
        }
        for (index, piece) in [(0, 0), (0, PIECE_BYTES - 1), (0, PIECE_BYTES + 1), (1, 0), (1, PIECE_BYTES + 1)] {
            assert_eq!(why(&part(1, index, 2, piece)), PartError::Size(piece));
        }
        let most = MAX_PARTS as u8;
        let last = MAX_MESSAGE_BYTES - (MAX_PARTS - 1) * PIECE_BYTES;
        assert_eq!(why(&part(1, most - 1, most, last + 1)), PartError::TooLarge);
        assert_eq!(why(&part(1, 0, most + 1, PIECE_BYTES)), PartError::TooLarge);
        assert_eq!(why(&part(1, 0, 255, PIECE_BYTES)), PartError::TooLarge);
        assert!(assembler.is_empty());
        assert_eq!(assembler.accept(Instant::now(), here(), &part(1, most - 1, most, last)), Ok(None));
    }

    #[test]
    fn parts_that_do_not_belong_leave_a_message_as_it_was() {
        let (mut assembler, now) = (Assembler::default(), Instant::now());
        let whole = message(3000);
        let parts = split(1, &whole);
        assert_eq!(assemble(&mut assembler, now, &parts[..1]), [[0; 0]; 0]);
        let before = assembler.bytes();
        let mut other = parts[0].clone();
        other[HEADER_BYTES..].fill(9);
        assert_eq!(assembler.accept(now, here(), &other), Err(PartError::Repeated(0)), "the first one counts");
        let count = PartError::Count { count: 4, before: 3 };
        assert_eq!(assembler.accept(now, here(), &part(1, 1, 4, PIECE_BYTES)), Err(count));
        assert_eq!(assembler.bytes(), before);
        // Neither another number nor another port completes it.
        assert_eq!(assembler.accept(now, here(), &part(2, 1, 3, PIECE_BYTES)), Ok(None));
        assert_eq!(assembler.accept(now, address("192.0.2.1:4001"), &part(1, 1, 3, PIECE_BYTES)), Ok(None));
        assert!(assemble(&mut assembler, now, &parts[1..]) == [whole]);
    }

    #[test]
    fn its_bytes_are_those_of_its_datagrams() {
        for size in [UNSPLIT_BYTES + 1, 2 * PIECE_BYTES, 2 * PIECE_BYTES + 1, 65_536, MAX_MESSAGE_BYTES] {
            let parts = split(1, &message(size));
            let mut assembler = Assembler::default();
            let mut whole = None;
            for part in &parts {
                whole = assembler.accept(Instant::now(), here(), part).unwrap();
            }
            let sum: usize = parts.iter().map(Vec::len).sum();
            assert_eq!((whole.unwrap().bytes, bytes_on_the_wire(size)), (sum, sum));
        }
    }

    #[test]
    fn as_much_as_fits_is_allowed_and_no_more() {
        for bytes in (0..5000).chain([65_536, 74_000, 74_421, 74_422, 80_000, usize::MAX]) {
            let largest = largest_within(bytes);
            assert!(bytes_on_the_wire(largest) <= bytes, "{bytes}: {largest}");
            let one_more = bytes_on_the_wire(largest + 1);
            assert!(one_more > bytes || largest == MAX_MESSAGE_BYTES, "{bytes}: {largest}");
        }
    }

    #[test]
    fn a_message_is_given_up_when_no_part_comes_for_too_long() {
        let (mut assembler, begun) = (Assembler::default(), Instant::now());
        let parts = split(1, &message(5000));
        for (n, part) in (0..).zip(&parts[..4]) {
            assert_eq!(assembler.accept(begun + PATIENCE * n, here(), part), Ok(None), "it gets on");
        }
        let late = begun + PATIENCE * 4 + Duration::from_millis(1);
        assert_eq!(assembler.accept(late, here(), &parts[4]), Ok(None), "a new beginning");
        assert_eq!(assembler.take_unfinished(), 1);
        assembler.expire(late + PATIENCE);
        assert!(!assembler.is_empty());
        assembler.expire(late + PATIENCE + Duration::from_millis(1));
        assert_eq!((assembler.is_empty(), assembler.bytes(), assembler.take_unfinished()), (true, 0, 1));
    }

    #[test]
    fn one_source_takes_its_share_at_most_and_its_last_messages_stay() {
        let (mut assembler, now) = (Assembler::default(), Instant::now());
        let whole = message(65_000);
        let parts = split(0, &whole);
        for number in 1..1000 {
            // From any port.
            let from = SocketAddr::new(here().ip(), number);
            assert_eq!(assembler.accept(now, from, &part(number.into(), 0, 50, PIECE_BYTES)), Ok(None));
            assert!(assembler.bytes() <= MAX_SOURCE_BYTES);
            // One that gets on is not driven out by those that do not.
            let next = parts.get(usize::from(number / 10)).filter(|_| number % 10 == 0);
            if let Some(part) = next {
                assembler.accept(now, here(), part).unwrap();
            }
        }
        assert!(assembler.take_unfinished() > 500);
        assert_eq!(assembler.accept(now, SocketAddr::new(here().ip(), 999), &part(999, 0, 50, PIECE_BYTES)), {
            Err(PartError::Repeated(0))
        });
    }

    #[test]
    fn a_source_is_a_host_or_on_this_host_a_port() {
        let same = |one, other| Source::of(address(one)) == Source::of(address(other));
        assert!(same("192.0.2.1:1", "192.0.2.1:2"));
        assert!(!same("192.0.2.1:1", "192.0.2.2:1"));
        assert!(same("[2001:db8::1]:1", "[2001:db8::ffff:1]:2"));
        assert!(!same("[2001:db8::1]:1", "[2001:db8:0:1::1]:1"));
        assert!(!same("127.0.0.1:1", "127.0.0.1:2"));
        assert!(!same("[::1]:1", "[::1]:2"));
    }

    #[test]
    fn endless_strangers_take_bounded_memory_and_starve_nobody() {
        for piece in [1, PIECE_BYTES] {
            let (mut assembler, now) = (Assembler::default(), Instant::now());
            let whole = message(65_536);
            let mut strangers = 0_u32;
            let mut finished = Vec::new();
            for datagram in split(0, &whole) {
                // Thousands come between any two parts.
                for _ in 0..1500 {
                    strangers += 1;
                    let from = SocketAddr::new(IpAddr::V4((0x0b00_0000 + strangers).into()), 1);
                    let forged = if piece == 1 { part(1, 1, 2, 1) } else { part(1, 0, 2, PIECE_BYTES) };
                    assert_eq!(assembler.accept(now, from, &forged), Ok(None));
                    assert!(assembler.bytes() <= MAX_BYTES);
                }
                finished.extend(assembler.accept(now, here(), &datagram).unwrap());
            }
            assert!(finished.len() == 1 && finished[0].message == whole);
            assert!(assembler.sources.len() <= MAX_BYTES / MESSAGE_COST);
            assert!(assembler.take_unfinished() > 50_000);
        }
    }

    proptest! {
        #[test]
        fn any_order_with_any_repetition_gives_the_same_message(
            sizes in prop::collection::vec(UNSPLIT_BYTES + 1..20_000, 1..5),
            order in prop::collection::vec(any::<prop::sample::Index>(), 0..200),
        ) {
            let messages: Vec<Vec<u8>> = sizes.iter().map(|size| message(*size)).collect();
            let mut left: Vec<Vec<u8>> =
                (0..).zip(&messages).flat_map(|(number, message)| split(number, message)).collect();
            let (mut assembler, now) = (Assembler::default(), Instant::now());
            let mut out = Vec::new();
            for place in order.iter().map(Some).chain(std::iter::repeat_n(None, 200)) {
                if left.is_empty() {
                    break;
                }
                let datagram = left.swap_remove(place.map_or(0, |place| place.index(left.len())));
                let came = assembler.accept(now, here(), &datagram).unwrap();
                let is_done = came.is_some();
                out.extend(came.map(|whole| whole.message));
                if !is_done {
                    prop_assert!(matches!(assembler.accept(now, here(), &datagram), Err(PartError::Repeated(_))));
                }
            }
            let mut expected = messages.clone();
            expected.sort();
            out.sort();
            prop_assert!(out == expected);
            prop_assert!(assembler.is_empty());
        }

        #[test]
        fn no_datagram_panics_or_takes_more_than_its_bytes_warrant(
            datagrams in prop::collection::vec((0..4_u16, 0..3_u64, 0..5_u8, 0..5_u8, 0..PIECE_BYTES + 2, 0..900_u64), 0..60),
        ) {
            let (mut assembler, mut now) = (Assembler::default(), Instant::now());
            let mut came = 0;
            for (port, number, index, count, piece, milliseconds) in datagrams {
                now += Duration::from_millis(milliseconds);
                let piece = if piece > PIECE_BYTES / 2 { PIECE_BYTES } else { piece };
                let datagram = part(number, index, count, piece);
                came += datagram.len() + MESSAGE_COST + PART_COST;
                let from = SocketAddr::new(here().ip(), port);
                if let Ok(Some(whole)) = assembler.accept(now, from, &datagram) {
                    prop_assert!(whole.message.len() <= MAX_MESSAGE_BYTES && whole.bytes <= came);
                }
                let kept: usize = assembler.sources.values().flatten().map(Unfinished::cost).sum();
                prop_assert_eq!(kept, assembler.bytes());
                prop_assert_eq!(assembler.sources.values().flatten().count(), assembler.waiting.len());
                prop_assert!(kept <= came.min(MAX_SOURCE_BYTES));
            }
        }
    }
}
