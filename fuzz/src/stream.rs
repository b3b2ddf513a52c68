//! What comes by a connection: hello and messages are the same however the bytes are cut up.

use arbitrary::Unstructured;
use kademlia_dht::gateway::codec::MAX_MESSAGE_BYTES;
use kademlia_dht::gateway::{Arrived, Incoming, Nonsense, frame};

/// Reads the input, cut up at places of its own choice, as what comes by one connection.
pub fn run(input: &[u8]) {
    let mut input = Unstructured::new(input);
    let cuts: Vec<u16> = input.arbitrary().unwrap_or_default();
    let framed: bool = input.arbitrary().unwrap_or_default();
    let stream = if framed { frames(&mut input) } else { input.take_rest().to_vec() };

    let whole = read([stream.as_slice()]);
    assert_eq!(read(stream.chunks(1)), whole, "one byte at a time");
    assert_eq!(read(pieces(&stream, cuts).into_iter()), whole, "cut up");
    let read = whole.arrived.iter().map(String::len).sum::<usize>();
    assert!(whole.broken.is_some() || read > 0 || stream.len() <= 4 + MAX_MESSAGE_BYTES);
}

/// A stream whose frames are whole, so that what is in them is read.
fn frames(input: &mut Unstructured<'_>) -> Vec<u8> {
    let mut stream = Vec::new();
    while !input.is_empty() {
        let size = usize::from(input.arbitrary::<u8>().unwrap_or_default());
        let body = input.bytes(size.min(input.len())).unwrap_or_default();
        let appended: Result<(), ()> = frame::append(&mut stream, |stream| {
            stream.extend_from_slice(body);
            Ok(())
        });
        assert_eq!(appended, Ok(()));
    }
    stream
}

fn pieces(stream: &[u8], cuts: Vec<u16>) -> Vec<&[u8]> {
    let mut cuts: Vec<usize> = cuts.into_iter().map(|cut| usize::from(cut) % (stream.len() + 1)).collect();
    cuts.extend([0, stream.len()]);
    cuts.sort_unstable();
    cuts.windows(2).filter_map(|cut| stream.get(*cut.first()?..*cut.last()?)).collect()
}

/// What came of a stream.
#[derive(Debug, PartialEq)]
struct Outcome {
    /// The hello and the messages, as text: an error has no equality of its own.
    arrived: Vec<String>,
    broken: Option<Nonsense>,
    inside: bool,
}

fn read<'a>(pieces: impl IntoIterator<Item = &'a [u8]>) -> Outcome {
    let mut incoming = Incoming::default();
    let mut arrived = Vec::new();
    for mut piece in pieces {
        loop {
            match incoming.next(&mut piece) {
                Ok(Some(next)) => {
                    assert_eq!(arrived.is_empty(), matches!(next, Arrived::Hello(_)), "one hello, and at first");
                    arrived.push(format!("{next:?}"));
                }
                Ok(None) => break,
                Err(cause) => return Outcome { arrived, broken: Some(cause), inside: false },
            }
        }
        assert!(piece.is_empty(), "all of a piece is taken");
    }
    Outcome { arrived, broken: None, inside: incoming.is_inside_frame() }
}
