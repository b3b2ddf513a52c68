//! A receiver of datagrams with one flaw, good enough for the checks with raw datagrams. It sends nothing.

use std::collections::BTreeMap;
use std::net::UdpSocket;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use kademlia_gateways::address::{IpTransport, ip_address, socket_addr};
use kademlia_gateways::conformance::Transport;
use kademlia_gateways::*;

/// What is wrong with it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum DatagramFlaw {
    None,
    PanicsOnGarbage,
    CountsNoGarbage,
    CutsShort,
    BelievesSources,
    CountsParts,
    NeedsOrder,
    WaitsForParts,
}

pub(crate) fn datagrams(flaw: DatagramFlaw) -> Transport {
    let bind = move |_: Option<&Multiaddr>| {
        let socket = UdpSocket::bind("127.0.0.1:0")?;
        // It looks again and again whether it must stop, which is a flaw that does not matter here.
        socket.set_read_timeout(Some(Duration::from_millis(5)))?;
        Ok(Datagrams { flaw, socket })
    };
    let open = |to: &Multiaddr| {
        let (to, socket) = (socket_addr(to).unwrap().0, UdpSocket::bind("127.0.0.1:0")?);
        Ok(move |bytes: &[u8]| socket.send_to(bytes, to).map(drop))
    };
    Transport::lossy("broken datagrams", bind).with_datagrams(open).with_parts(SizeLimits::DATAGRAM.largest, split)
}

/// The first byte of a part. Then come the number of its message, its index, how many there are, and its piece.
const PART: u8 = 200;

fn split(envelope: &Envelope) -> Vec<Vec<u8>> {
    static NUMBER: AtomicU32 = AtomicU32::new(0);
    let mut bytes = Vec::new();
    codec::encode(envelope, &mut bytes).unwrap();
    let (number, pieces) = (NUMBER.fetch_add(1, Ordering::Relaxed).to_be_bytes(), bytes.chunks(1000));
    let count = pieces.len() as u8;
    (0..).zip(pieces).map(|(index, piece)| [&[PART], &number[..], &[index, count], piece].concat()).collect()
}

/// The pieces that came of each message.
type Unfinished = BTreeMap<[u8; 4], Vec<(u8, Vec<u8>)>>;

/// Puts messages together. Gives one that is whole, and the bytes of its datagrams.
fn assemble(flaw: DatagramFlaw, unfinished: &mut Unfinished, datagram: &[u8]) -> Option<(Vec<u8>, usize)> {
    let ([_, number @ .., index, count], piece) = datagram.split_first_chunk::<7>()?;
    if flaw == DatagramFlaw::WaitsForParts && unfinished.len() > 100 && !unfinished.contains_key(number) {
        return None;
    }
    let pieces = unfinished.entry(*number).or_default();
    if flaw == DatagramFlaw::CountsParts || pieces.iter().all(|(known, _)| known != index) {
        pieces.push((*index, piece.to_vec()));
    }
    if pieces.len() < usize::from(*count) {
        return None;
    }
    let mut pieces = unfinished.remove(number)?;
    if flaw != DatagramFlaw::NeedsOrder {
        pieces.sort();
    }
    let bytes = pieces.iter().map(|(_, piece)| piece.len() + 7).sum();
    Some((pieces.into_iter().flat_map(|(_, piece)| piece).collect(), bytes))
}

struct Datagrams {
    flaw: DatagramFlaw,
    socket: UdpSocket,
}

impl Gateway for Datagrams {
    fn name(&self) -> String {
        "broken datagrams".to_owned()
    }

    fn addresses(&self) -> Vec<Multiaddr> {
        vec![ip_address(self.socket.local_addr().unwrap(), IpTransport::Udp)]
    }

    fn outbox(&mut self) -> Result<Box<dyn Outbox>, GatewayError> {
        Ok(Box::new(Queue::new(1, SizeLimits::DATAGRAM, |_| false).0))
    }

    fn run(&mut self, link: &Link) -> Result<(), GatewayError> {
        let largest = SizeLimits::DATAGRAM.largest;
        let mut buffer = vec![0; if self.flaw == DatagramFlaw::CutsShort { largest } else { largest + 1 }];
        let mut unfinished = Unfinished::new();
        while !link.stopping() {
            let Ok((size, from)) = self.socket.recv_from(&mut buffer) else { continue };
            let (message, bytes) = match buffer[..size].first() {
                Some(&PART) => match assemble(self.flaw, &mut unfinished, &buffer[..size]) {
                    Some(whole) => whole,
                    None => continue,
                },
                _ => (buffer[..size].to_vec(), size),
            };
            match codec::decode(&message) {
                _ if size > largest => link.count(Count::Oversized),
                Ok(envelope) => {
                    let mut inbound = Inbound::datagram(ip_address(from, IpTransport::Udp), bytes, envelope);
                    inbound.proved = self.flaw == DatagramFlaw::BelievesSources;
                    link.deliver_or_drop(vec![inbound]);
                }
                Err(error) if self.flaw == DatagramFlaw::PanicsOnGarbage => panic!("{error}"),
                Err(_) if self.flaw == DatagramFlaw::CountsNoGarbage => {}
                Err(_) => link.count(Count::Malformed),
            }
        }
        Ok(())
    }
}
