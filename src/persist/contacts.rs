//! Contacts as a text that people can read, write and hand on: one address a line.

use std::io::{self, BufRead, Write};

use kademlia_gateways::{Contact, Multiaddr};

/// Why a text is not a list of addresses.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReadContactsError {
    /// A line is no address.
    #[error("line {line} is no multiaddr: {text:?}: {cause}")]
    Address {
        /// Which line, from 1.
        line: usize,
        /// What stands there.
        text: String,
        /// What is wrong with it.
        cause: String,
    },
    /// It cannot be read.
    #[error("line {line} cannot be read: {source}")]
    Read {
        /// Which line, from 1.
        line: usize,
        /// Why.
        source: io::Error,
    },
}

/// Writes one contact a line: its address, and its id as a comment.
///
/// ```
/// use kademlia_dht::persist::{read_contacts, write_contacts};
/// use kademlia_dht::{Contact, Id};
///
/// let contact = Contact::new(Id::from_prefix(&[7; 20]), "/ip4/192.0.2.1/udp/4001".parse().unwrap());
/// let mut text = Vec::new();
/// write_contacts(&mut text, [&contact]).unwrap();
/// assert_eq!(read_contacts(&text[..]).unwrap(), [contact.address().clone()]);
/// ```
///
/// # Errors
///
/// When nothing more can be written.
pub fn write_contacts<'a>(
    mut to: impl Write,
    contacts: impl IntoIterator<Item = &'a Contact>,
) -> Result<(), io::Error> {
    writeln!(to, "# Nodes, one address a line. What follows a # is a comment.")?;
    for contact in contacts {
        writeln!(to, "{} # {}", contact.address(), contact.id())?;
    }
    to.flush()
}

/// Reads addresses, one a line. Empty lines count for nothing, nor does what follows a `#` at the start of a line or after
/// a space. [`DHTService::introduce`](crate::DHTService::introduce) has them asked.
///
/// # Errors
///
/// The first line that is no address, or cannot be read.
pub fn read_contacts(from: impl BufRead) -> Result<Vec<Multiaddr>, ReadContactsError> {
    let mut addresses = Vec::new();
    for (index, text) in from.lines().enumerate() {
        let line = index + 1;
        let text = text.map_err(|source| ReadContactsError::Read { line, source })?;
        let address = without_comment(&text).trim();
        if !address.is_empty() {
            let wrong = |cause: String| ReadContactsError::Address { line, text: address.to_owned(), cause };
            let address: Multiaddr = address.parse().map_err(|error: multiaddr::Error| wrong(error.to_string()))?;
            if address.is_empty() {
                return Err(wrong("it is empty".to_owned()));
            }
            addresses.push(address);
        }
    }
    Ok(addresses)
}

/// A `#` can be part of an address.
fn without_comment(line: &str) -> &str {
    let is_comment = |(at, _): &(usize, &str)| {
        line.get(..*at).is_none_or(|before| before.is_empty() || before.ends_with(char::is_whitespace))
    };
    let comment = line.match_indices('#').find(is_comment).map_or(line.len(), |(at, _)| at);
    line.get(..comment).unwrap_or(line)
}

#[cfg(test)]
mod tests {
    use super::*;
    use kademlia_gateways::{Id, address};

    #[test]
    fn what_is_written_is_read_whatever_the_transport() {
        let addresses = [
            "/ip4/127.0.0.1/udp/1".parse().unwrap(),
            "/ip6/::1/tcp/2".parse().unwrap(),
            "/memory/3".parse().unwrap(),
            address::unix_address("/tmp/a # file\n.sock").unwrap(),
            "/ip4/127.0.0.1/udp/1/p2p-circuit/memory/4".parse().unwrap(),
        ];
        let contacts: Vec<Contact> =
            addresses.iter().map(|at| Contact::new(Id::from_prefix(&[1]), at.clone())).collect();
        let mut text = Vec::new();
        write_contacts(&mut text, &contacts).unwrap();
        assert_eq!(read_contacts(&text[..]).unwrap(), addresses);
    }

    #[test]
    fn comments_and_empty_lines_count_for_nothing_and_a_wrong_line_is_named() {
        let text = "# a\n\n  /memory/1   # b\r\n#/memory/2\n/memory/3";
        assert_eq!(read_contacts(text.as_bytes()).unwrap().len(), 2);
        let error = read_contacts("/memory/1\nnonsense # here".as_bytes()).unwrap_err();
        assert!(error.to_string().starts_with("line 2 is no multiaddr: \"nonsense\": "), "{error}");
        let error = read_contacts(&b"\n\xff"[..]).unwrap_err();
        assert!(error.to_string().starts_with("line 2 cannot be read: "), "{error}");
    }
}
