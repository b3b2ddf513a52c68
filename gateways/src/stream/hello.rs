//! The first frame on a connection, in both directions: the wire version, and where the sender listens.

use multiaddr::Multiaddr;

use crate::codec::WIRE_VERSION;

/// The longest hello, in bytes.
pub(super) const MAX_BYTES: usize = 512;

/// The body of the hello of a node that listens on `address`.
pub(super) fn write(address: &Multiaddr, buffer: &mut Vec<u8>) {
    buffer.push(WIRE_VERSION);
    buffer.extend_from_slice(address.as_ref());
}

/// The address that a hello tells; `None` if it is no hello of this version.
pub(super) fn read(bytes: &[u8]) -> Option<Multiaddr> {
    let (version, address) = bytes.split_first()?;
    if *version != WIRE_VERSION || bytes.len() > MAX_BYTES || address.is_empty() {
        return None;
    }
    Multiaddr::try_from(address.to_vec()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_a_hello() {
        let address: Multiaddr = "/ip4/1.2.3.4/tcp/5".parse().unwrap();
        let mut bytes = Vec::new();
        write(&address, &mut bytes);
        assert_eq!(read(&bytes), Some(address));
        for wrong in [&[][..], &[WIRE_VERSION], &[WIRE_VERSION + 1, 4, 1, 2, 3, 4], &[WIRE_VERSION, 4, 1], &[0xff; 600]]
        {
            assert_eq!(read(wrong), None, "{wrong:?}");
        }
    }
}
