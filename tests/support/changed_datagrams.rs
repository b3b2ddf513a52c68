//! Real datagrams of other programs, changed at random, and what a node sends back for them.

use std::net::{SocketAddr, UdpSocket};

/// How many are sent.
const AMOUNT: usize = 100_000;

/// How many of them between two looks. A socket has room for so many.
const AT_ONCE: usize = 40;

/// The datagrams in a file of `tests/data`: in each line what one is, then its bytes.
pub(crate) fn recorded(file: &str) -> Vec<Vec<u8>> {
    let hex = |text: &str| -> Vec<u8> {
        (0..text.len()).step_by(2).map(|at| u8::from_str_radix(&text[at..at + 2], 16).unwrap()).collect()
    };
    let lines = file.lines().filter(|line| !line.starts_with('#'));
    lines.map(|line| hex(line.rsplit(' ').next().unwrap())).collect()
}

/// The same numbers in every run.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as usize % limit
    }

    /// A few bytes are others, and sometimes the end is missing.
    fn change(&mut self, datagram: &mut Vec<u8>) {
        for _ in 0..self.below(4) {
            let at = self.below(datagram.len());
            datagram[at] = self.below(256) as u8;
        }
        if self.below(8) == 0 {
            datagram.truncate(self.below(datagram.len()));
        }
    }
}

/// Sends changed ones from an address that shows nobody that it is there, which gets no more than three times the bytes.
/// `wait` ends when the node has taken all that was sent before.
pub(crate) fn bombard(to: SocketAddr, good: &[Vec<u8>], mut wait: impl FnMut()) {
    let stranger = UdpSocket::bind("127.0.0.1:0").unwrap();
    stranger.set_nonblocking(true).unwrap();
    let (mut random, mut buffer) = (Random(1), [0; 65_536]);
    let (mut came, mut went) = (0, 0);
    for n in 0..AMOUNT {
        let mut datagram = good[random.below(good.len())].clone();
        random.change(&mut datagram);
        came += stranger.send_to(&datagram, to).unwrap();
        if n % AT_ONCE == AT_ONCE - 1 {
            wait();
            while let Ok((size, _)) = stranger.recv_from(&mut buffer) {
                went += size;
            }
            assert!(went <= came * 3, "{came} bytes came, {went} went");
        }
    }
    assert!(went > AMOUNT, "much of it was answered: {came} bytes came, {went} went");
}
