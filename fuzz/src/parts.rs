//! What comes by datagrams from several sources, over time: what is put together was taken apart, and bounds hold.

use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use arbitrary::{Result, Unstructured};
use kademlia_dht::gateway::codec::MAX_MESSAGE_BYTES;
use kademlia_dht::gateway::parts::{self, Assembler, DATAGRAM_BYTES, HEADER_BYTES, UNSPLIT_BYTES};

/// The most messages of one run, and the most datagrams.
const ENOUGH_MESSAGES: usize = 8;
const ENOUGH_DATAGRAMS: usize = 2000;

/// What happens.
enum Step {
    /// A message is taken apart, of so many bytes beyond what stays whole.
    Split { size: u16, from: u8 },
    /// One of its parts comes, perhaps from elsewhere.
    Part { message: u8, index: u8, elsewhere: Option<u8> },
    /// All of its parts come, from this one on and then around.
    All { message: u8, first: u8 },
    /// A part comes whose header is made up.
    Forged { from: u8, number: u8, index: u8, count: u8, bytes: u16 },
    /// Anything comes.
    Noise { from: u8, bytes: Vec<u8> },
    /// Many first parts come, each from another host.
    Flood { amount: u8, small: bool },
    /// Time goes by.
    Wait { milliseconds: u16 },
}

impl Step {
    fn read(input: &mut Unstructured<'_>) -> Result<Self> {
        Ok(match input.arbitrary::<u8>()? % 7 {
            0 => Step::Split { size: input.arbitrary()?, from: input.arbitrary()? },
            1 => {
                let (message, index) = (input.arbitrary()?, input.arbitrary()?);
                Step::Part { message, index, elsewhere: input.arbitrary()? }
            }
            2 => Step::All { message: input.arbitrary()?, first: input.arbitrary()? },
            3 => {
                let (from, number) = (input.arbitrary()?, input.arbitrary()?);
                let (index, count) = (input.arbitrary()?, input.arbitrary()?);
                Step::Forged { from, number, index, count, bytes: input.arbitrary()? }
            }
            4 => {
                let (from, size) = (input.arbitrary()?, usize::from(input.arbitrary::<u8>()?));
                Step::Noise { from, bytes: input.bytes(size.min(input.len()))?.to_vec() }
            }
            5 => Step::Flood { amount: input.arbitrary()?, small: input.arbitrary()? },
            _ => Step::Wait { milliseconds: input.arbitrary()? },
        })
    }
}

/// A message on its way.
struct Sent {
    from: SocketAddr,
    message: Vec<u8>,
    datagrams: Vec<Vec<u8>>,
}

/// Puts together what the input has taken apart.
pub fn run(input: &[u8]) {
    let mut input = Unstructured::new(input);
    let mut run =
        Run { assembler: Assembler::default(), now: Instant::now(), sent: Vec::new(), strangers: 0, datagrams: 0 };
    while !input.is_empty() && run.datagrams < ENOUGH_DATAGRAMS {
        let Ok(step) = Step::read(&mut input) else { break };
        run.step(step);
    }
    run.now += parts::PATIENCE + Duration::from_millis(1);
    run.assembler.expire(run.now);
    assert_eq!((run.assembler.is_empty(), run.assembler.bytes()), (true, 0), "nothing stays for ever");
}

struct Run {
    assembler: Assembler,
    now: Instant,
    sent: Vec<Sent>,
    strangers: u32,
    datagrams: usize,
}

impl Run {
    fn step(&mut self, step: Step) {
        match step {
            Step::Split { size, from } if self.sent.len() < ENOUGH_MESSAGES => self.split(size, source(from)),
            Step::Split { .. } => {}
            Step::Part { message, index, elsewhere } => {
                if let Some((from, part)) = self.part(message, usize::from(index)) {
                    self.receive(elsewhere.map_or(from, source), &part);
                }
            }
            Step::All { message, first } => {
                let count = self.pick(message).map_or(0, |sent| sent.datagrams.len());
                for index in (0..count).map(|index| index + usize::from(first)) {
                    if let Some((from, part)) = self.part(message, index) {
                        self.receive(from, &part);
                    }
                }
            }
            Step::Forged { from, number, index, count, bytes } => {
                // Far from the numbers of what was taken apart.
                let number = u64::MAX - u64::from(number);
                let bytes = usize::from(bytes) % (DATAGRAM_BYTES + 2);
                self.receive(source(from), &forged(number, index, count, bytes));
            }
            Step::Noise { from, mut bytes } => {
                if let Some(first) = bytes.first_mut() {
                    *first = parts::FIRST_BYTE;
                }
                // A header whose number none of the messages has.
                bytes.iter_mut().skip(1).take(1).for_each(|byte| *byte |= 0x80);
                self.receive(source(from), &bytes);
            }
            Step::Flood { amount, small } => {
                for _ in 0..amount {
                    self.strangers += 1;
                    let from = SocketAddr::new(IpAddr::from((0x0b00_0000 + self.strangers).to_be_bytes()), 1);
                    let (index, bytes) = if small { (1, HEADER_BYTES + 1) } else { (0, DATAGRAM_BYTES) };
                    self.receive(from, &forged(u64::MAX, index, 2, bytes));
                }
            }
            Step::Wait { milliseconds } => self.now += Duration::from_millis(milliseconds.into()),
        }
    }

    fn split(&mut self, size: u16, from: SocketAddr) {
        let size = (UNSPLIT_BYTES + 1 + usize::from(size)).min(MAX_MESSAGE_BYTES);
        let number = self.sent.len() as u64;
        let message: Vec<u8> = (0..size).map(|at| (at % 251) as u8 ^ number as u8).collect();
        let mut buffer = [&[0; HEADER_BYTES], message.as_slice()].concat();
        let mut datagrams = Vec::new();
        let split = parts::send(number, &mut buffer, |datagram| {
            assert!((HEADER_BYTES + 1..=DATAGRAM_BYTES).contains(&datagram.len()));
            datagrams.push(datagram.to_vec());
            Ok::<(), ()>(())
        });
        assert_eq!(split, Ok(()));
        let bytes: usize = datagrams.iter().map(Vec::len).sum();
        assert_eq!(bytes, parts::bytes_on_the_wire(size));
        assert!(parts::largest_within(bytes) >= size && parts::largest_within(bytes - 1) < size);
        self.sent.push(Sent { from, message, datagrams });
    }

    fn pick(&self, message: u8) -> Option<&Sent> {
        self.sent.get(usize::from(message) % self.sent.len().max(1))
    }

    fn part(&self, message: u8, index: usize) -> Option<(SocketAddr, Vec<u8>)> {
        let sent = self.pick(message)?;
        sent.datagrams.get(index % sent.datagrams.len()).map(|part| (sent.from, part.clone()))
    }

    fn receive(&mut self, from: SocketAddr, datagram: &[u8]) {
        self.datagrams += 1;
        let result = self.assembler.accept(self.now, from, datagram);
        assert!(self.assembler.bytes() <= parts::MAX_BYTES);
        if let Ok(Some(whole)) = result {
            assert!(whole.message.len() <= MAX_MESSAGE_BYTES && whole.bytes > whole.message.len());
            let number = datagram.get(1..9).and_then(|number| number.try_into().ok()).map_or(0, u64::from_be_bytes);
            if let Some(sent) = usize::try_from(number).ok().and_then(|number| self.sent.get(number)) {
                assert!(whole.message == sent.message, "what comes out was put in");
                assert_eq!(whole.bytes, sent.datagrams.iter().map(Vec::len).sum::<usize>());
            }
        }
    }
}

/// Hosts with several ports, two addresses of one network of IPv6, and ports of this host.
fn source(number: u8) -> SocketAddr {
    let ip = match number % 5 {
        0 => IpAddr::from([192, 0, 2, 1]),
        1 => IpAddr::from([192, 0, 2, 2]),
        2 => IpAddr::from([0x2001, 0xdb8, 0, 0, 0, 0, 0, 1_u16]),
        3 => IpAddr::from([0x2001, 0xdb8, 0, 0, 0, 0, 0, 2_u16]),
        _ => IpAddr::from([127, 0, 0, 1]),
    };
    SocketAddr::new(ip, 1 + u16::from(number / 5 % 3))
}

fn forged(number: u64, index: u8, count: u8, bytes: usize) -> Vec<u8> {
    let mut part = vec![parts::FIRST_BYTE];
    part.extend(number.to_be_bytes());
    part.extend([index, count]);
    part.resize(bytes.max(1), index);
    part
}
