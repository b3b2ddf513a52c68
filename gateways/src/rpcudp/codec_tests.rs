//! Datagrams made by the package's own encoder, and what must hold for all others.

use proptest::prelude::*;

use super::*;
use crate::rpcudp::value::tests::any_value;

fn hex(text: &str) -> Vec<u8> {
    let digits: Vec<u8> = text.bytes().map(|digit| (digit as char).to_digit(16).unwrap() as u8).collect();
    digits.chunks(2).map(|pair| pair[0] << 4 | pair[1]).collect()
}

fn id(text: &str) -> WireId {
    hex(text).try_into().unwrap()
}

const NODE: &str = "0702c1cc60ff9e1331c47331a36ddd5d994ea38a";
const MESSAGE: &str = "8d6b290718def6a4ad595a62516774f6af1297da";
/// The SHA-1 of `my-key`.
const KEY: &str = "61ba747fe2f5b3d513c40550084c6284fbbc1094";

/// The datagram whose MessagePack is given, with the ids written out.
fn datagram(kind: &str, body: &str) -> Vec<u8> {
    let body = body.replace("NODE", &format!("c414{NODE}")).replace("KEY", &format!("c414{KEY}"));
    hex(&format!("{kind}{MESSAGE}{body}"))
}

fn store(value: Value) -> Call {
    Call::Store { node: id(NODE), key: id(KEY), value: Some(value) }
}

#[test]
fn known_requests_both_ways() {
    let (node, key) = (id(NODE), id(KEY));
    for (body, call) in [
        ("92a47374756e90", Call::Stun),
        ("92a470696e6791NODE", Call::Ping { node }),
        ("92a966696e645f6e6f646592NODEKEY", Call::FindNode { node, key }),
        ("92aa66696e645f76616c756592NODEKEY", Call::FindValue { node, key }),
        ("92a573746f726593NODEKEYb06d7920617765736f6d652076616c7565", store(Value::from("my awesome value"))),
        ("92a573746f726593NODEKEYc40200ff", store(Value::from(b"\x00\xff"))),
        ("92a573746f726593NODEKEYcd1092", store(Value::from(4242))),
        ("92a573746f726593NODEKEYcb4004000000000000", store(Value::from(2.5))),
        ("92a573746f726593NODEKEYc3", store(Value::from(true))),
    ] {
        let bytes = datagram("00", body);
        assert_eq!(decode(&bytes).unwrap(), Datagram { id: id(MESSAGE), body: Body::Request(call.clone()) });
        assert_eq!(encode_request(&id(MESSAGE), &call), bytes, "{call:?}");
    }
}

fn answer(bytes: &[u8]) -> Answer<'_> {
    match decode(bytes).unwrap() {
        Datagram { id: message, body: Body::Reply(answer) } if message == id(MESSAGE) => answer,
        other => panic!("{other:?}"),
    }
}

#[test]
fn known_replies_both_ways() {
    let contact =
        WireContact { id: id("893a227aaca1e12a5fa1c0201c0e38b8f3b1536b"), socket: "127.0.0.1:8468".parse().unwrap() };
    let contacts = [contact];
    let text = Value::from("my awesome value");
    for (body, reply) in [
        ("NODE", Reply::Pong(id(NODE))),
        ("9193c414893a227aaca1e12a5fa1c0201c0e38b8f3b1536ba93132372e302e302e31cd2114", Reply::Contacts(&contacts)),
        ("81a576616c7565b06d7920617765736f6d652076616c7565", Reply::Found(&text)),
        ("c3", Reply::Stored(true)),
        ("92a93132372e302e302e31cd2114", Reply::Address(contact.socket)),
    ] {
        let bytes = datagram("01", body);
        assert_eq!(encode_reply(&id(MESSAGE), &reply), bytes, "{reply:?}");
        let read = answer(&bytes);
        match reply {
            Reply::Pong(node) => assert_eq!(read.pong(), Ok(node)),
            Reply::Contacts(_) => {
                assert_eq!(read.contacts().unwrap(), contacts);
                assert_eq!(read.found(), Ok(Found::Contacts(contacts.to_vec())));
            }
            Reply::Found(value) => assert_eq!(read.found(), Ok(Found::Value(Some(value.clone())))),
            Reply::Stored(kept) => assert_eq!(read.stored(), Ok(kept)),
            Reply::Address(_) => assert_eq!(read.contacts(), Err(DecodeError::Shape)),
        }
    }
}

#[test]
fn what_the_package_sent_is_read_and_written_alike() {
    let recorded = include_str!("../../../tests/data/rpcudp/datagrams.txt");
    let mut kinds = std::collections::BTreeSet::new();
    for line in recorded.lines().filter(|line| !line.starts_with('#')) {
        let [side, kind, bytes] = line.split(' ').collect::<Vec<_>>()[..] else { panic!("{line}") };
        let bytes = hex(bytes);
        let Datagram { id, body } = decode(&bytes).unwrap_or_else(|error| panic!("{line}: {error}"));
        let written = match (side, kind, body) {
            ("request", _, Body::Request(call)) => encode_request(&id, &call),
            ("reply", "pong", Body::Reply(answer)) => encode_reply(&id, &Reply::Pong(answer.pong().unwrap())),
            ("reply", "stored", Body::Reply(answer)) => encode_reply(&id, &Reply::Stored(answer.stored().unwrap())),
            ("reply", "contacts", Body::Reply(answer)) => {
                encode_reply(&id, &Reply::Contacts(&answer.contacts().unwrap()))
            }
            ("reply", "value", Body::Reply(answer)) => match answer.found().unwrap() {
                Found::Value(Some(value)) => encode_reply(&id, &Reply::Found(&value)),
                other => panic!("{line}: {other:?}"),
            },
            ("reply", "address", Body::Reply(_)) => bytes.clone(),
            (_, _, other) => panic!("{line}: {other:?}"),
        };
        assert_eq!(written, bytes, "{line}");
        kinds.insert((side, kind));
    }
    assert_eq!(kinds.len(), 10);
}

#[test]
fn what_is_wrong_is_told_apart() {
    let with = |body: &str| decode(&datagram("00", body)).unwrap_err();
    let good = datagram("00", "92a470696e6791NODE");
    assert_eq!(decode(&[]), Err(DecodeError::CutShort));
    assert_eq!(decode(&good[..HEADER_BYTES]), Err(DecodeError::CutShort));
    assert_eq!(decode(&good[..good.len() - 1]), Err(DecodeError::CutShort));
    assert_eq!(decode(&[&good[..], &[0]].concat()), Err(DecodeError::Trailing));
    assert_eq!(decode(&[&[2], &good[1..]].concat()), Err(DecodeError::Kind(2)));
    assert_eq!(decode(&vec![0; MAX_DATAGRAM_BYTES + 1]), Err(DecodeError::TooLarge));
    assert_eq!(with("c1"), DecodeError::NotMessagePack);
    assert_eq!(with("92a470696e679100"), DecodeError::Shape, "an id that is a number");
    assert_eq!(with("92a470696e6791c40100"), DecodeError::Shape, "an id that is too short");
    assert_eq!(with("92a470696e6792NODEKEY"), DecodeError::Shape, "an argument too many");
    assert_eq!(with("93a470696e6790c0"), DecodeError::Shape);
    assert_eq!(with("92a5686561727490"), DecodeError::UnknownCall);
    assert_eq!(with("92a1ff90"), DecodeError::NotText);
    for other in ["c0", "9101", "8101c0", "d40101"] {
        let bytes = datagram("00", &format!("92a573746f726593NODEKEY{other}"));
        let Body::Request(Call::Store { value, .. }) = decode(&bytes).unwrap().body else { panic!("a store") };
        assert_eq!(value, None, "{other}");
    }
}

#[test]
fn contacts_that_cannot_be_reached_are_left_out() {
    let contact = |ip: &str, port: &str| {
        let length = format!("{:02x}", 0xa0 + ip.len());
        let text: String = ip.bytes().map(|byte| format!("{byte:02x}")).collect();
        format!("93NODE{length}{text}{port}")
    };
    let all = [contact("1.2.3.4", "05"), contact("host", "05"), contact("1.2.3.4", "00"), contact("::1", "ce00010000")];
    let bytes = datagram("01", &format!("94{}", all.concat()));
    let found = answer(&bytes).contacts().unwrap();
    assert_eq!(found, [WireContact { id: id(NODE), socket: "1.2.3.4:5".parse().unwrap() }]);
}

#[test]
fn as_many_contacts_as_fit() {
    let socket = "127.0.0.1:8468".parse().unwrap();
    let contacts = vec![WireContact { id: [1; 20], socket }; 20];
    for most in [0, 21, 22, 58, 100, 500, 10_000] {
        let bytes = encode_contacts(&[0; 20], &contacts, most);
        let Body::Reply(answer) = decode(&bytes).unwrap().body else { panic!("a reply") };
        let kept = answer.contacts().unwrap().len();
        assert!(bytes.len() <= most.max(HEADER_BYTES + 1));
        assert_eq!(kept, (most.saturating_sub(HEADER_BYTES + 1) / 36).min(20), "{most}");
    }
}

prop_compose! {
    fn any_call()(which in 0..5, node: WireId, key: WireId, value in any_value()) -> Call {
        match which {
            0 => Call::Stun,
            1 => Call::Ping { node },
            2 => Call::FindNode { node, key },
            3 => Call::FindValue { node, key },
            _ => Call::Store { node, key, value: Some(value) },
        }
    }
}

prop_compose! {
    fn any_contact()(id: WireId, ip: IpAddr, port in 1..=u16::MAX) -> WireContact {
        WireContact { id, socket: SocketAddr::new(ip, port) }
    }
}

proptest! {
    #[test]
    fn every_request_survives(message: WireId, call in any_call()) {
        let bytes = encode_request(&message, &call);
        prop_assert_eq!(decode(&bytes).unwrap(), Datagram { id: message, body: Body::Request(call) });
        for end in 0..bytes.len() {
            prop_assert!(decode(&bytes[..end]).is_err());
        }
    }

    #[test]
    fn every_reply_survives(message: WireId, value in any_value(), contacts in prop::collection::vec(any_contact(), 0..50)) {
        let bytes = encode_reply(&message, &Reply::Contacts(&contacts));
        let Body::Reply(answer) = decode(&bytes).unwrap().body else { panic!("a reply") };
        prop_assert_eq!(answer.contacts().unwrap(), contacts);
        let bytes = encode_reply(&message, &Reply::Found(&value));
        let Body::Reply(answer) = decode(&bytes).unwrap().body else { panic!("a reply") };
        prop_assert_eq!(answer.found().unwrap(), Found::Value(Some(value)));
    }

    #[test]
    fn nothing_panics(
        call in any_call(),
        noise in prop::collection::vec(any::<u8>(), 0..200),
        damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..4),
    ) {
        let mut bytes = encode_request(&[7; 20], &call);
        for (index, value) in damage {
            let index = index.index(bytes.len());
            bytes[index] = value;
        }
        for bytes in [bytes, [&[1; HEADER_BYTES][..], &noise].concat(), noise] {
            if let Ok(Datagram { id, body }) = decode(&bytes) {
                match body {
                    Body::Request(call) => {
                        let written = encode_request(&id, &call);
                        prop_assert_eq!(decode(&written).unwrap().body, Body::Request(call));
                    }
                    Body::Reply(answer) => {
                        // No reply is both a list and something else.
                        let kinds = [answer.pong().is_ok(), answer.stored().is_ok(), answer.found().is_ok()];
                        prop_assert!(kinds.iter().filter(|is_it| **is_it).count() <= 1);
                        prop_assert!(answer.found().is_ok() || answer.contacts().is_err());
                    }
                }
            }
        }
    }
}
