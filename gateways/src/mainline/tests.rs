use std::net::SocketAddr;

use bytes::Bytes;
use proptest::prelude::*;

use super::krpc::{Body, Failure, Item, Message, Mutable, Nodes, Query, Response, Samples, Want, code};
use super::read::{ReadError, read};
use super::write::write;
use crate::id::Id;

fn id(text: &[u8; 20]) -> Id {
    Id::from_prefix(text)
}

fn query(query: Query) -> Message {
    let sender = id(b"abcdefghij0123456789");
    let body = Body::Query { sender, query };
    Message { transaction: Bytes::from_static(b"aa"), version: None, read_only: false, seen_at: None, body }
}

fn response(response: Response) -> Message {
    let body = Body::Response(response);
    Message { transaction: Bytes::from_static(b"aa"), version: None, read_only: false, seen_at: None, body }
}

#[test]
fn the_examples_of_bep_5_are_read_and_written_byte_for_byte() {
    let target = id(b"mnopqrstuvwxyz123456");
    let sender = id(b"0123456789abcdefghij");
    let token = Bytes::from_static(b"aoeusnth");
    let peers = ["97.120.106.101:11893", "105.100.104.116:28269"].map(|peer| peer.parse::<SocketAddr>().unwrap());
    let announce = |port| query(Query::AnnouncePeer { info_hash: target, port, token: token.clone() });
    let failure = Failure { code: code::GENERIC, text: "A Generic Error Ocurred".to_owned() };
    let cases: [(&str, Message); 9] = [
        ("d1:ad2:id20:abcdefghij0123456789e1:q4:ping1:t2:aa1:y1:qe", query(Query::Ping)),
        ("d1:rd2:id20:mnopqrstuvwxyz123456e1:t2:aa1:y1:re", response(Response::of(target))),
        (
            "d1:ad2:id20:abcdefghij01234567896:target20:mnopqrstuvwxyz123456e1:q9:find_node1:t2:aa1:y1:qe",
            query(Query::FindNode { target, want: Want::default() }),
        ),
        (
            "d1:ad2:id20:abcdefghij01234567899:info_hash20:mnopqrstuvwxyz123456e1:q9:get_peers1:t2:aa1:y1:qe",
            query(Query::GetPeers { info_hash: target, want: Want::default() }),
        ),
        (
            "d1:rd2:id20:0123456789abcdefghij5:token8:aoeusnth6:valuesl6:axje.u6:idhtnmee1:t2:aa1:y1:re",
            response(Response { token: Some(token.clone()), peers: peers.to_vec(), ..Response::of(sender) }),
        ),
        (
            "d1:rd2:id20:0123456789abcdefghij5:nodes26:abcdefghij0123456789axje.u5:token8:aoeusnthe1:t2:aa1:y1:re",
            response(Response {
                nodes: Nodes { v4: Some(vec![(id(b"abcdefghij0123456789"), peers[0])]), v6: None },
                token: Some(token.clone()),
                ..Response::of(sender)
            }),
        ),
        (
            "d1:ad2:id20:abcdefghij012345678912:implied_porti1e9:info_hash20:mnopqrstuvwxyz1234564:porti1e5:token8:aoeusnthe\
             1:q13:announce_peer1:t2:aa1:y1:qe",
            announce(None),
        ),
        (
            "d1:ad2:id20:abcdefghij012345678912:implied_porti0e9:info_hash20:mnopqrstuvwxyz1234564:porti6881e5:token8:aoeusnthe\
             1:q13:announce_peer1:t2:aa1:y1:qe",
            announce(Some(6881)),
        ),
        (
            "d1:eli201e23:A Generic Error Ocurrede1:t2:aa1:y1:ee",
            Message { body: Body::Failure(failure), ..query(Query::Ping) },
        ),
    ];
    for (bytes, message) in cases {
        assert_eq!(read(bytes.as_bytes()).as_ref(), Ok(&message), "{bytes}");
        assert_eq!(write(&message).map(|written| String::from_utf8(written).unwrap()).as_deref(), Some(bytes));
    }
}

#[test]
fn what_real_clients_add_and_leave_out_does_no_harm() {
    let read = |text: &str| read(text.as_bytes());
    // Keys in another order, unknown ones, ones of other types.
    let odd = "d1:y1:q1:t2:aa1:q4:ping1:ad2:id20:abcdefghij01234567893:foold1:bi1eeee2:ipi7e1:v4:LT012:roi0ee";
    let expected = Message { version: Some(Bytes::from_static(b"LT01")), ..query(Query::Ping) };
    assert_eq!(read(odd), Ok(expected));
    // A port that is none, implied.
    let implied = "d1:ad2:id20:abcdefghij012345678912:implied_porti1e9:info_hash20:mnopqrstuvwxyz1234564:porti0e5:token1:xe\
        1:q13:announce_peer1:t2:aa1:y1:qe";
    assert!(matches!(read(implied).unwrap().body, Body::Query { query: Query::AnnouncePeer { port: None, .. }, .. }));
    // A failure in other forms.
    for (text, code) in
        [("d1:e5:oops!1:t2:aa1:y1:ee", 201), ("d1:eli203ee1:t2:aa1:y1:ee", 203), ("d1:t2:aa1:y1:ee", 201)]
    {
        assert!(matches!(read(text).unwrap().body, Body::Failure(failure) if failure.code == code), "{text}");
    }
    // Numbers that no machine has room for, in what is not known here; a long transaction; a byte too many.
    let large = format!(
        "d1:ad2:id20:abcdefghij01234567893:fooi{0}ee1:q4:ping1:t64:{1}1:xi-{0}e1:y1:qe\n",
        "9".repeat(30),
        "t".repeat(64)
    );
    assert_eq!(read(&large).unwrap().transaction.len(), 64);
    // An answer with half an item, and with a value that is no address.
    let half =
        "d1:rd1:k3:key2:id20:abcdefghij01234567891:v1:x6:valuesl1:ai3e6:\u{1}\u{1}\u{1}\u{1}\u{1}\u{1}ee1:t2:aa1:y1:re";
    let Body::Response(half) = read(half).unwrap().body else { panic!("another kind") };
    assert_eq!((half.item, half.peers.len()), (None, 1));
}

#[test]
fn what_cannot_be_answered_says_why() {
    let wrong = |text: &str| match read(text.as_bytes()) {
        Err(ReadError::Query { transaction, failure }) => {
            assert_eq!(transaction, "aa");
            failure.code
        }
        other => panic!("{text}: {other:?}"),
    };
    let of = |arguments: &str, method: &str| format!("d1:ad{arguments}e1:q{}:{method}1:t2:aa1:y1:qe", method.len());
    let id = "2:id20:abcdefghij0123456789";
    assert_eq!(wrong(&of("2:id19:abcdefghij012345678", "ping")), code::PROTOCOL);
    assert_eq!(wrong(&of(id, "find_node")), code::PROTOCOL);
    assert_eq!(wrong(&of(&format!("{id}9:info_hash20:mnopqrstuvwxyz123456"), "announce_peer")), code::PROTOCOL);
    assert_eq!(wrong(&of(id, "dance")), code::UNKNOWN_METHOD);
    // What comes after us is about a place.
    let later = of(&format!("{id}6:target20:mnopqrstuvwxyz123456"), "dance");
    assert!(matches!(read(later.as_bytes()).unwrap().body, Body::Query { query: Query::FindNode { .. }, .. }));
    for none in ["", "i1e", "le", "d1:t2:aae", "d1:y1:qe", "d1:t2:aa1:y1:xe", "d1:t2:aa1:y1:re"] {
        assert!(!matches!(read(none.as_bytes()), Ok(_) | Err(ReadError::Query { .. })), "{none}");
    }
    assert_eq!(read(format!("d1:a{}{}e", "l".repeat(700), "e".repeat(700)).as_bytes()), Err(ReadError::NotBencoded));
}

#[test]
fn what_is_of_the_wrong_type_is_not_taken_for_absent() {
    let put = |changed: &str, value: &str| {
        let fields = [
            ("cas", "i1e".to_owned()),
            ("id", "20:abcdefghij0123456789".to_owned()),
            ("k", format!("32:{}", "k".repeat(32))),
            ("salt", "4:salt".to_owned()),
            ("seq", "i2e".to_owned()),
            ("sig", format!("64:{}", "s".repeat(64))),
            ("token", "8:12345678".to_owned()),
            ("v", "1:x".to_owned()),
        ];
        let field = |(key, right): &(&str, String)| {
            let value = if *key == changed { value.to_owned() } else { right.clone() };
            format!("{}:{key}{value}", key.len())
        };
        let fields: String = fields.iter().map(field).collect();
        match read(format!("d1:ad{fields}e1:q3:put1:t2:aa1:y1:qe").as_bytes()) {
            Err(ReadError::Query { failure, .. }) => Err((failure.code, failure.text)),
            other => Ok(other.unwrap()),
        }
    };
    assert!(put("", "").is_ok());
    for (key, values) in [
        ("cas", &["1:1", "i-1e", "i9999999999999999999e", "le"][..]),
        ("k", &["31:kkkkkkkkkkkkkkkkkkkkkkkkkkkkkkk", "i1e"]),
        ("salt", &["i1e", "l1:se"]),
        ("seq", &["1:2", "i-1e", "i9999999999999999999e"]),
        ("sig", &["1:s", "i1e"]),
        ("token", &["i1e"]),
    ] {
        for value in values {
            assert_eq!(put(key, value), Err((code::PROTOCOL, format!("invalid {key}"))), "{value}");
        }
    }
    let announce = |more: &str| {
        let text = format!("d1:ad2:id20:abcdefghij0123456789{more}5:token1:xe1:q13:announce_peer1:t2:aa1:y1:qe");
        match read(text.as_bytes()) {
            Err(ReadError::Query { failure, .. }) => Err(failure.text),
            Ok(Message { body: Body::Query { query: Query::AnnouncePeer { port, .. }, .. }, .. }) => Ok(port),
            other => panic!("{other:?}"),
        }
    };
    let implied = "12:implied_porti1e9:info_hash20:mnopqrstuvwxyz123456";
    let stated = "9:info_hash20:mnopqrstuvwxyz123456";
    for port in ["4:porti0e", "4:porti-1e", "4:porti65536e", "4:port1:x", ""] {
        assert_eq!(announce(&format!("{implied}{port}")), Ok(None), "{port}");
        let wrong = if port.is_empty() { "no port" } else { "invalid port" };
        assert_eq!(announce(&format!("{stated}{port}")), Err(wrong.to_owned()), "{port}");
    }
    assert_eq!(announce(&format!("{stated}4:porti65535e")), Ok(Some(65_535)));
}

#[test]
fn a_value_stays_as_it_came() {
    for value in ["i7e", "l1:ai-1ee", "d1:bi1e1:ai2ee", "1:x"] {
        let put = format!("d1:ad2:id20:abcdefghij01234567895:token1:x1:v{value}e1:q3:put1:t2:aa1:y1:qe");
        let message = read(put.as_bytes()).unwrap();
        let Body::Query { query: Query::Put { item, .. }, .. } = &message.body else { panic!("another kind") };
        assert_eq!(item.value, value);
        assert_eq!(write(&message).unwrap(), put.as_bytes(), "in the same form");
    }
}

fn any_id() -> impl Strategy<Value = Id> {
    any::<[u8; 20]>().prop_map(|bytes| Id::from_prefix(&bytes))
}

fn any_bytes(longest: usize) -> impl Strategy<Value = Bytes> {
    prop::collection::vec(any::<u8>(), 1..=longest).prop_map(Bytes::from)
}

fn any_address() -> impl Strategy<Value = SocketAddr> {
    (any::<std::net::IpAddr>(), 1..=u16::MAX).prop_map(SocketAddr::from)
}

fn any_want() -> impl Strategy<Value = Want> {
    any::<(bool, bool)>().prop_map(|(v4, v6)| Want { v4, v6 })
}

fn any_item(salts: usize) -> impl Strategy<Value = Item> {
    let value = prop::collection::vec(any::<u8>(), 0..50)
        .prop_map(|bytes| Bytes::from([bytes.len().to_string().as_bytes(), b":", &bytes].concat()));
    let salt = prop::collection::vec(any::<u8>(), 0..=salts).prop_map(Bytes::from);
    let mutable = (any::<[u8; 32]>(), salt, 0..=i64::MAX, prop::collection::vec(any::<u8>(), 64)).prop_map(
        |(public_key, salt, sequence, signature)| Mutable {
            public_key,
            salt,
            sequence,
            signature: signature.try_into().unwrap(),
        },
    );
    (value, prop::option::of(mutable)).prop_map(|(value, mutable)| Item { value, mutable })
}

fn any_query() -> impl Strategy<Value = Query> {
    prop_oneof![
        Just(Query::Ping),
        (any_id(), any_want()).prop_map(|(target, want)| Query::FindNode { target, want }),
        (any_id(), any_want()).prop_map(|(info_hash, want)| Query::GetPeers { info_hash, want }),
        (any_id(), prop::option::of(1..=u16::MAX), any_bytes(8))
            .prop_map(|(info_hash, port, token)| Query::AnnouncePeer { info_hash, port, token }),
        (any_id(), any::<Option<i64>>(), any_want()).prop_map(|(target, sequence, want)| Query::Get {
            target,
            sequence,
            want
        }),
        (prop::option::of(any_id()), any_bytes(8), any_item(64), prop::option::of(0..=i64::MAX))
            .prop_map(|(target, token, item, expected)| Query::Put { target, token, item, expected }),
        (any_id(), any_want()).prop_map(|(target, want)| Query::SampleInfohashes { target, want }),
    ]
}

fn any_response() -> impl Strategy<Value = Response> {
    let nodes = |v4| {
        let address = any_address().prop_map(move |address| match (v4, address.ip().is_ipv4()) {
            (true, false) => SocketAddr::from(([10, 0, 0, 1], address.port())),
            (false, true) => SocketAddr::from(([1; 16], address.port())),
            _ => address,
        });
        prop::option::of(prop::collection::vec((any_id(), address), 0..8))
    };
    let nodes = (nodes(true), nodes(false)).prop_map(|(v4, v6)| Nodes { v4, v6 });
    let samples = prop::option::of((any::<u32>(), 0..=i64::MAX as u64, prop::collection::vec(any_id(), 0..5)));
    let item = prop_oneof![
        any_item(0).prop_map(|item| (item.mutable.as_ref().map(|mutable| mutable.sequence), Some(item))),
        any::<Option<i64>>().prop_map(|sequence| (sequence, None)),
    ];
    let peers = prop::collection::vec(any_address(), 0..5);
    (any_id(), nodes, prop::option::of(any_bytes(8)), peers, item, samples).prop_map(
        |(sender, nodes, token, peers, (sequence, item), samples)| {
            let samples = samples.map(|(interval, total, info_hashes)| Samples { interval, total, info_hashes });
            Response { sender, nodes, token, peers, item, sequence, samples }
        },
    )
}

fn any_message() -> impl Strategy<Value = Message> {
    let body = prop_oneof![
        (any_id(), any_query()).prop_map(|(sender, query)| Body::Query { sender, query }),
        any_response().prop_map(Body::Response),
        (any::<i64>(), "[ -~]{0,50}").prop_map(|(code, text)| Body::Failure(Failure { code, text })),
    ];
    (any_bytes(20), prop::option::of(any_bytes(4)), any::<bool>(), prop::option::of(any_address()), body).prop_map(
        |(transaction, version, read_only, seen_at, body)| Message { transaction, version, read_only, seen_at, body },
    )
}

proptest! {
    #[test]
    fn what_is_written_is_read_alike_and_in_the_one_right_form(message in any_message()) {
        let bytes = write(&message).unwrap();
        prop_assert!(crate::bencode::is_one_value(&bytes));
        prop_assert_eq!(read(&bytes), Ok(message));
    }

    #[test]
    fn no_bytes_make_the_reader_panic(message in any_message(), changes in prop::collection::vec(any::<(u16, u8)>(), 1..8)) {
        let mut bytes = write(&message).unwrap();
        for (place, byte) in changes {
            let place = usize::from(place) % bytes.len();
            bytes[place] = byte;
        }
        if let Ok(message) = read(&bytes) {
            write(&message).unwrap();
        }
    }
}
