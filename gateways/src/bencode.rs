//! Whether bytes are bencoded ([BEP 3](https://www.bittorrent.org/beps/bep_0003.html)).

/// Lists and dictionaries within each other.
const MAX_DEPTH: usize = 32;

/// Whether `bytes` are exactly one value in the one right form: numbers without needless digits, the keys of dictionaries in
/// order and each once, and no more than 32 lists and dictionaries within each other.
///
/// ```
/// use kademlia_gateways::bencode::is_one_value;
/// assert!(is_one_value(b"d1:ai1e1:bli2eee"));
/// assert!(!is_one_value(b"d1:bi1e1:ai2ee"));
/// ```
pub fn is_one_value(bytes: &[u8]) -> bool {
    value(bytes, Keys::InOrder, 0).is_some_and(<[u8]>::is_empty)
}

/// The same, with the keys of dictionaries in any order, as careless programs write them.
///
/// ```
/// use kademlia_gateways::bencode::is_one_careless_value;
/// assert!(is_one_careless_value(b"d1:bi1e1:ai2ee"));
/// assert!(!is_one_careless_value(b"i1ei2e"));
/// ```
pub fn is_one_careless_value(bytes: &[u8]) -> bool {
    value(bytes, Keys::InAnyOrder, 0).is_some_and(<[u8]>::is_empty)
}

/// A dictionary whose values are still the bytes that they came as.
#[cfg(feature = "mainline")]
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Dictionary<'a>(std::collections::BTreeMap<&'a [u8], &'a [u8]>);

#[cfg(feature = "mainline")]
impl<'a> Dictionary<'a> {
    /// The dictionary that `bytes` begin with, whatever its values are. Of two values under one key the last one counts.
    pub(crate) fn read(bytes: &'a [u8]) -> Option<Self> {
        let mut all = std::collections::BTreeMap::new();
        let mut rest = bytes.strip_prefix(b"d")?;
        while !rest.starts_with(b"e") {
            let (key, behind) = string(rest)?;
            rest = value(behind, Keys::InAnyOrder, 1)?;
            all.insert(key, behind.get(..behind.len() - rest.len())?);
        }
        Some(Dictionary(all))
    }

    /// The bytes of the value under a key.
    pub(crate) fn get(&self, key: &str) -> Option<&'a [u8]> {
        self.0.get(key.as_bytes()).copied()
    }
}

/// What is in a value that is a string.
#[cfg(feature = "mainline")]
pub(crate) fn string_in(value: &[u8]) -> Option<&[u8]> {
    string(value).filter(|(_, rest)| rest.is_empty()).map(|(string, _)| string)
}

/// A value that is a number, if it is not too large.
#[cfg(feature = "mainline")]
pub(crate) fn integer_in(value: &[u8]) -> Option<i64> {
    std::str::from_utf8(value.strip_prefix(b"i")?.strip_suffix(b"e")?).ok()?.parse().ok()
}

/// The values in a list.
#[cfg(feature = "mainline")]
pub(crate) fn list_in(list: &[u8]) -> Option<Vec<&[u8]>> {
    let (mut rest, mut values) = (list.strip_prefix(b"l")?, Vec::new());
    while !rest.starts_with(b"e") {
        let behind = value(rest, Keys::InAnyOrder, 1)?;
        values.push(rest.get(..rest.len() - behind.len())?);
        rest = behind;
    }
    Some(values)
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Keys {
    InOrder,
    InAnyOrder,
}

/// What follows the value that `bytes` begin with; `None` if they begin with none.
fn value(bytes: &[u8], keys: Keys, depth: usize) -> Option<&[u8]> {
    if depth > MAX_DEPTH {
        return None;
    }
    match bytes {
        [b'i', rest @ ..] => {
            let (digits, rest) = until(rest, b'e')?;
            is_integer(digits).then_some(rest)
        }
        [b'l', rest @ ..] => {
            let mut rest = rest;
            loop {
                match rest {
                    [b'e', rest @ ..] => return Some(rest),
                    _ => rest = value(rest, keys, depth + 1)?,
                }
            }
        }
        [b'd', rest @ ..] => {
            let (mut rest, mut last) = (rest, None);
            loop {
                if let [b'e', rest @ ..] = rest {
                    return Some(rest);
                }
                let (key, behind) = string(rest)?;
                if keys == Keys::InOrder && last.is_some_and(|last| last >= key) {
                    return None;
                }
                last = Some(key);
                rest = value(behind, keys, depth + 1)?;
            }
        }
        _ => string(bytes).map(|(_, rest)| rest),
    }
}

/// The string that `bytes` begin with, and what follows.
fn string(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (digits, rest) = until(bytes, b':')?;
    let length = std::str::from_utf8(digits).ok().filter(|_| is_integer(digits))?.parse().ok()?;
    rest.split_at_checked(length)
}

fn until(bytes: &[u8], end: u8) -> Option<(&[u8], &[u8])> {
    let place = bytes.iter().position(|byte| *byte == end)?;
    Some((bytes.get(..place)?, bytes.get(place + 1..)?))
}

fn is_integer(digits: &[u8]) -> bool {
    match digits {
        [b'0'] => true,
        [b'-', first @ b'1'..=b'9', rest @ ..] | [first @ b'1'..=b'9', rest @ ..] => {
            first.is_ascii_digit() && rest.iter().all(u8::is_ascii_digit)
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn right_and_wrong_forms() {
        let right = ["0:", "12:Hello World!", "i0e", "i-7e", "le", "de", "li1e3:abcd1:ai2eee", "d1:ai1e1:bdee"];
        for bytes in right {
            assert!(is_one_value(bytes.as_bytes()), "{bytes}");
        }
        let deep = "l".repeat(40) + &"e".repeat(40);
        let wrong = [
            "",
            "1:",
            "01:a",
            "-1:a",
            "+1:a",
            "2:a",
            "1:ab",
            "i1",
            "ie",
            "i01e",
            "i-0e",
            "i1.5e",
            "l",
            "lei1e",
            "d1:ae",
            "d1:bi1e1:ai2ee",
            "d1:ai1e1:ai2ee",
            "di1ei2ee",
            "99999999999999999999:a",
            &deep,
        ];
        for bytes in wrong {
            assert!(!is_one_value(bytes.as_bytes()), "{bytes}");
        }
    }

    #[test]
    fn careless_programs_are_read_and_deep_ones_are_not() {
        let is_read = |bytes: &str| is_one_careless_value(bytes.as_bytes());
        assert!(is_read("d1:bi1e1:ai2ee") && is_read("d1:ai1e1:bdee"));
        let deep = |levels: usize| "l".repeat(levels) + &"e".repeat(levels);
        assert!(is_read(&deep(32)) && !is_read(&deep(40)) && !is_read("d1:ae"));
    }

    #[test]
    #[cfg(feature = "mainline")]
    fn what_is_in_a_dictionary_keeps_its_form() {
        let bytes = b"d1:bd1:zi1e1:ai2ee1:ai99999999999999999999e1:cl1:xi-7elee1:c3:yesebehind";
        let all = Dictionary::read(bytes).unwrap();
        assert_eq!((all.get("b"), all.get("d")), (Some(&b"d1:zi1e1:ai2ee"[..]), None));
        assert_eq!((all.get("a").map(integer_in), all.get("c").map(string_in)), (Some(None), Some(Some(&b"yes"[..]))));
        assert_eq!(list_in(b"l1:xi-7elee"), Some(vec![&b"1:x"[..], b"i-7e", b"le"]));
        assert_eq!(
            (integer_in(b"i-7e"), integer_in(b"7"), string_in(b"i7e"), list_in(b"de")),
            (Some(-7), None, None, None)
        );
        for wrong in [&b""[..], b"le", b"d", b"d1:a", b"d1:ae", b"di1ei2ee"] {
            assert_eq!(Dictionary::read(wrong), None);
        }
    }

    proptest! {
        #[test]
        fn nothing_panics(bytes in prop::collection::vec(prop::sample::select(b"ilde0123456789:-a".to_vec()), 0..40)) {
            is_one_value(&bytes);
            #[cfg(feature = "mainline")]
            Dictionary::read(&bytes);
            #[cfg(feature = "mainline")]
            list_in(&bytes);
        }

        #[test]
        fn any_string_is_a_value_once_its_length_is_said(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let whole = [bytes.len().to_string().as_bytes(), b":", &bytes].concat();
            prop_assert!(is_one_value(&whole));
            prop_assert!(!is_one_value(&whole[..whole.len() - 1]));
        }
    }
}
