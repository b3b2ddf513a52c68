//! Values larger than any record: saved and read in chunks, whole or not at all.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]

mod support {
    pub(crate) mod one_datagram;
}

use std::io::{ErrorKind, Read, Seek, SeekFrom, Write};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use kademlia_dht::large::{self, Checkpoint, Place, Source, StreamError, StreamOptions, ValueKey, ValueReader};
use kademlia_dht::signing::owned::OwnerKey;
use kademlia_dht::signing::signed::{Salt, SigningKey};
use kademlia_dht::testnet::{TestNetwork, Transport};
use kademlia_dht::{Config, DHTService, Error, Limits, Multiaddr, OwnedMode, network_named};

use support::one_datagram::OneDatagram;

const LONG: Duration = Duration::from_secs(60);

/// Bytes that are unlike each other from place to place.
fn value(size: usize) -> Vec<u8> {
    (0..size as u64).map(|n| (n.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32) as u8).collect()
}

/// A network of its own, and how clients of it are set.
fn network(mix: &str) -> (TestNetwork, Config) {
    static NUMBER: AtomicU64 = AtomicU64::new(0);
    let number = NUMBER.fetch_add(1, Ordering::Relaxed);
    let network = network_named(&format!("values of any size {number} of process {}", std::process::id()));
    let config = Config { k: 8, network, request_timeout: Duration::from_secs(1), ..Config::default() };
    let of_all = config.clone();
    let network = TestNetwork::builder(mix.parse().unwrap()).configure(move |_, _| of_all.clone()).start().unwrap();
    (network, Config { client: true, ..config })
}

/// With chunks so small that a tree is soon high.
fn small() -> StreamOptions {
    StreamOptions { chunk_bytes: Some(512), tries: 2, ..StreamOptions::default() }
}

fn plain(key: &str) -> Place {
    Place::Plain(key.as_bytes().to_vec())
}

fn save(service: &DHTService, place: Place, bytes: &[u8], options: &StreamOptions) {
    let mut writer = service.value_writer(place, options.clone());
    writer.write_all(bytes).unwrap();
    writer.finish().unwrap();
}

fn open(service: &DHTService, source: Source, options: &StreamOptions) -> Option<ValueReader> {
    service.query_stream(source, options.clone()).wait_timeout(LONG).unwrap().unwrap()
}

fn read(service: &DHTService, key: &str, options: &StreamOptions) -> Vec<u8> {
    let mut reader = open(service, Source::Any(key.as_bytes().to_vec()), options).unwrap();
    let mut bytes = Vec::new();
    reader.read_to_end(&mut bytes).unwrap();
    assert_eq!(reader.len(), bytes.len() as u64);
    bytes
}

#[test]
fn values_of_every_size_are_read_as_they_were_saved() {
    let (network, _) = network("tcp=6,unix=4,tcp+unix=2");
    let (writer, reader) = (network.nodes()[0].service(), network.nodes()[9].service());
    // At the edges of a chunk, of a root, and of branches: 512 bytes have 25 hashes, and a root 46.
    for size in [0, 1, 511, 512, 513, 1024, 46 * 512, 46 * 512 + 1, 25 * 46 * 512 + 1] {
        let bytes = value(size);
        save(writer, plain(&format!("{size}")), &bytes, &small());
        assert!(read(reader, &format!("{size}"), &small()) == bytes, "{size} bytes");
    }
    let bytes = value(1_000_000);
    save(writer, plain("large"), &bytes, &StreamOptions::default());
    assert!(read(reader, "large", &StreamOptions::default()) == bytes);
    // What looks like the root of a large value is a value all the same.
    let root = reader.query("large").wait().unwrap().unwrap().value;
    save(writer, plain("root"), &root, &small());
    assert_eq!(read(reader, "root", &small()), root);
    assert!(open(reader, Source::Any(b"nothing".to_vec()), &small()).is_none());
    network.stop().unwrap();
}

#[test]
fn a_large_value_has_an_owner_like_any_other() {
    let (network, _) = network("tcp=8");
    let (ours, others) = (network.nodes()[0].service(), network.nodes()[5].service());
    let bytes = value(30_000);
    let (key, salt) = (SigningKey::generate().unwrap(), Salt::default());
    save(ours, Place::Signed { key: key.clone(), salt: salt.clone() }, &bytes, &small());
    let (owner, stranger) = (OwnerKey::generate().unwrap(), OwnerKey::generate().unwrap());
    let place =
        |owner: &OwnerKey| Place::Owned { owner: owner.clone(), key: b"name".to_vec(), mode: OwnedMode::Secured };
    save(ours, place(&owner), &bytes, &small());
    let mut writer = ours.value_writer(Place::Immutable, small());
    writer.write_all(&bytes).unwrap();
    let hash = writer.finish().unwrap().key;
    let sources = [
        Source::Signed(key.public_key(), salt),
        Source::Owned(owner.public_key(), b"name".to_vec()),
        Source::Immutable(hash),
    ];
    for source in sources {
        let mut reader = open(others, source.clone(), &small()).unwrap();
        let mut read = Vec::new();
        reader.read_to_end(&mut read).unwrap();
        assert!(read == bytes, "{source:?}");
    }
    let mut writer = others.value_writer(place(&stranger), small());
    writer.write_all(&bytes).unwrap();
    let error = writer.finish().unwrap_err();
    let error = error.get_ref().unwrap().downcast_ref::<StreamError>().unwrap();
    assert!(matches!(error, StreamError::Operation { .. }), "{error}");
    assert!(open(others, Source::Owned(stranger.public_key(), b"name".to_vec()), &small()).is_none());
    network.stop().unwrap();
}

#[test]
fn only_who_has_the_key_reads_an_encrypted_value() {
    let (network, _) = network("tcp=6");
    let (ours, others) = (network.nodes()[0].service(), network.nodes()[5].service());
    let bytes = value(10_000);
    let key = ValueKey::generate().unwrap();
    let with = |key: &ValueKey| StreamOptions { key: Some(key.clone()), ..small() };
    save(ours, plain("secret"), &bytes, &with(&key));
    assert!(read(others, "secret", &with(&key)) == bytes);
    let fails = |options: &StreamOptions| {
        let error = open(others, Source::Any(b"secret".to_vec()), options).unwrap().read(&mut [0; 9]).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::PermissionDenied, "{error}");
    };
    fails(&small());
    fails(&with(&ValueKey::generate().unwrap()));
    save(ours, plain("empty"), &[], &with(&key));
    assert!(read(others, "empty", &with(&key)).is_empty());

    // Whoever can replace the root of it, without the key, makes of it no other value.
    let root = ours.query("secret").wait().unwrap().unwrap().value;
    let (head, hashes) = root.split_at(39);
    let with_length = |length: u64, leaves: usize| {
        let mut root = [&head[..15], &length.to_be_bytes(), &head[23..], &hashes[..20 * leaves]].concat();
        root.truncate(39 + 20 * leaves);
        root
    };
    // 472 bytes of the value in each leaf.
    let forged =
        [("shorter", with_length(472 * 3, 3)), ("nothing", with_length(0, 1)), ("no root", vec![]), ("plain", vec![7])];
    for (name, root) in &forged {
        others.save(name, root).wait().unwrap();
    }
    save(others, plain("not encrypted"), &[], &small());
    for name in forged.iter().map(|(name, _)| *name).chain(["not encrypted"]) {
        let mut reader = open(others, Source::Any(name.as_bytes().to_vec()), &with(&key)).unwrap();
        let error = reader.read_to_end(&mut Vec::new()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::PermissionDenied, "{name}: {error}");
    }
    network.stop().unwrap();
}

#[test]
fn reading_goes_on_from_any_place() {
    let (network, _) = network("tcp=6");
    let (ours, others) = (network.nodes()[0].service(), network.nodes()[5].service());
    let bytes = value(60_000);
    save(ours, plain("value"), &bytes, &small());
    let mut reader = open(others, Source::Any(b"value".to_vec()), &small()).unwrap();
    for (from, size) in [(59_990, 10), (0, 700), (511, 2), (30_000, 5_000), (29_000, 100)] {
        assert_eq!(reader.seek(SeekFrom::Start(from as u64)).unwrap(), from as u64);
        let mut part = vec![0; size];
        reader.read_exact(&mut part).unwrap();
        assert!(part == bytes[from..from + size], "{size} bytes from {from}");
    }
    assert_eq!(reader.seek(SeekFrom::End(0)).unwrap(), 60_000);
    assert_eq!(reader.read(&mut [0; 9]).unwrap(), 0);
    network.stop().unwrap();
}

#[test]
fn saving_goes_on_where_it_stopped() {
    let (network, _) = network("tcp=6");
    let (ours, others) = (network.nodes()[0].service(), network.nodes()[5].service());
    let bytes = value(100_000);
    let mut first = ours.value_writer(plain("value"), small());
    first.write_all(&bytes[..70_000]).unwrap();
    let checkpoint: Checkpoint = first.checkpoint().clone();
    assert!((1..=70_000).contains(&checkpoint.offset), "{}", checkpoint.offset);
    drop(first);
    assert!(open(others, Source::Any(b"value".to_vec()), &small()).is_none(), "nothing is there before all is saved");
    let rest = &bytes[checkpoint.offset as usize..];
    // It comes from a file, say.
    let file = serde_json::to_string(&checkpoint).unwrap();
    let mut damaged: serde_json::Value = serde_json::from_str(&file).unwrap();
    damaged["levels"].as_array_mut().unwrap().clear();
    let damaged: Checkpoint = serde_json::from_value(damaged).unwrap();
    assert_eq!(ours.value_writer(plain("value"), small()).resume(damaged).checkpoint().offset, 0);
    let checkpoint: Checkpoint = serde_json::from_str(&file).unwrap();
    let mut second = ours.value_writer(plain("value"), small()).resume(checkpoint);
    second.write_all(rest).unwrap();
    second.finish().unwrap();
    assert!(read(others, "value", &small()) == bytes);
    network.stop().unwrap();
}

#[test]
fn a_value_with_a_hole_is_never_finished() {
    let service = DHTService::start(Config::default()).unwrap();
    let tcp = kademlia_dht::gateway::TcpGateway::bind("/ip4/127.0.0.1/tcp/0".parse().unwrap()).unwrap();
    service.register_gateway(tcp).unwrap();
    let mut writer = service.value_writer(plain("value"), StreamOptions { window: 1, tries: 1, ..small() });
    writer.write_all(&value(2_000)).unwrap();
    let before = writer.checkpoint().clone();
    service.stop();
    // What was under way fails; then nothing goes on, as if nothing had been.
    let mut failed = 0;
    for _ in 0..8 {
        failed += u32::from(writer.write_all(&value(512)).is_err());
    }
    assert!(failed >= 6, "{failed}");
    assert!(writer.checkpoint().offset <= before.offset + 512);
    let error = writer.finish().unwrap_err();
    assert!(matches!(error.get_ref().unwrap().downcast_ref(), Some(StreamError::Broken { .. })), "{error}");
}

#[test]
fn a_transfer_tells_how_far_it_is_and_can_be_cancelled() {
    let (network, _) = network("tcp=6");
    let (ours, others) = (network.nodes()[0].service(), network.nodes()[5].service());
    let bytes = value(200_000);
    let transfer = ours.save_stream(plain("value"), std::io::Cursor::new(bytes.clone()), small()).unwrap();
    transfer.wait().unwrap();
    assert!(read(others, "value", &small()) == bytes);

    // One that would never end.
    let transfer = ours.save_stream(plain("endless"), std::io::repeat(7), small()).unwrap();
    let start = std::time::Instant::now();
    while transfer.saved() == 0 {
        assert!(start.elapsed() < LONG && !transfer.is_finished());
        std::thread::yield_now();
    }
    transfer.cancel();
    let (error, checkpoint) = transfer.wait().unwrap_err();
    assert!(matches!(error.get_ref().unwrap().downcast_ref(), Some(StreamError::Cancelled)), "{error}");
    assert!(checkpoint.offset > 0);
    network.stop().unwrap();
}

#[test]
fn all_chunks_can_be_saved_again_by_who_cannot_read_them() {
    let (network, client) = network("tcp=6");
    let (ours, others) = (network.nodes()[0].service(), network.nodes()[5].service());
    let (bytes, key) = (value(60_000), ValueKey::generate().unwrap());
    let options = StreamOptions { key: Some(key), ..small() };
    save(ours, plain("value"), &bytes, &options);
    // A node that comes later is given all of it.
    let newcomer = DHTService::start(Config { client: false, ..client }).unwrap();
    newcomer
        .register_gateway(kademlia_dht::gateway::TcpGateway::bind("/ip4/127.0.0.1/tcp/0".parse().unwrap()).unwrap())
        .unwrap();
    newcomer.connect(ours.listen_addresses()[0].clone()).wait().unwrap();
    let reader = open(others, Source::Any(b"value".to_vec()), &small()).unwrap();
    // 472 bytes of the value in each leaf, and 25 hashes in each branch.
    let leaves = 60_000_u64.div_ceil(472);
    assert_eq!(reader.renew().unwrap(), leaves + leaves.div_ceil(25));
    assert!(read(others, "value", &options) == bytes);
    assert_eq!(open(others, Source::Any(b"value".to_vec()), &small()).unwrap().len(), 60_000);
    newcomer.stop();
    network.stop().unwrap();
}

#[test]
fn chunks_are_small_where_a_gateway_carries_no_large_ones() {
    let service = DHTService::start(Config::default()).unwrap();
    let tcp = kademlia_dht::gateway::TcpGateway::bind("/ip4/127.0.0.1/tcp/0".parse().unwrap()).unwrap();
    service.register_gateway(tcp).unwrap();
    let chunks = |key: &str| {
        save(&service, plain(key), &value(40_000), &StreamOptions::default());
        service.status().records
    };
    // Three chunks and the root.
    assert_eq!(chunks("large"), 4);
    service.register_gateway(OneDatagram::bind()).unwrap();
    assert_eq!(chunks("small"), 4 + 40 + 1);
    service.stop();
}

#[test]
fn chunks_are_no_larger_than_the_values_that_a_node_saves() {
    let limits = Limits { value_bytes: 4096, ..Limits::default() };
    let service = DHTService::start(Config { limits, ..Config::default() }).unwrap();
    save(&service, plain("value"), &value(40_000), &StreamOptions::default());
    assert!(read(&service, "value", &StreamOptions::default()) == value(40_000));
}

#[test]
fn a_value_whose_rest_is_lost_ends_with_an_error() {
    // A value in the memory of one node alone, which dies while it is read.
    let (network, client) = network("tcp=2");
    let (ours, others) = (network.nodes()[0].service(), network.nodes()[1].service());
    let bytes = value(400_000);
    let options = StreamOptions { window: 1, ..small() };
    save(ours, plain("value"), &bytes, &options);
    let reader_node = DHTService::start(client).unwrap();
    reader_node
        .register_gateway(kademlia_dht::gateway::TcpGateway::bind("/ip4/127.0.0.1/tcp/0".parse().unwrap()).unwrap())
        .unwrap();
    let at: Multiaddr = others.listen_addresses()[0].clone();
    reader_node.connect(at).wait().unwrap();
    let mut reader = open(&reader_node, Source::Any(b"value".to_vec()), &options).unwrap();
    let mut start = vec![0; 50_000];
    reader.read_exact(&mut start).unwrap();
    assert!(start == bytes[..50_000]);
    network.stop().unwrap();
    let mut rest = Vec::new();
    let error = reader.read_to_end(&mut rest).unwrap_err();
    assert!(error.get_ref().and_then(|error| error.downcast_ref::<StreamError>()).is_some(), "{error}");
    assert!(rest.len() < 350_000, "it is not whole");
    assert!(bytes[50_000..].starts_with(&rest));
}

#[test]
fn a_file_is_fetched_whole_though_nodes_die_meanwhile() {
    let (mut network, config) = network("tcp=16,unix=8,tcp+unix=6");
    let client = || {
        let client = DHTService::start(config.clone()).unwrap();
        let gateway = kademlia_dht::gateway::TcpGateway::bind("/ip4/127.0.0.1/tcp/0".parse().unwrap()).unwrap();
        client.register_gateway(gateway).unwrap();
        let bridge = network.nodes().iter().find(|node| node.transports().contains(Transport::Tcp));
        let over_tcp = |address: &&Multiaddr| address.to_string().contains("/tcp/");
        let at = bridge.unwrap().service().listen_addresses();
        client.connect(at.iter().find(over_tcp).unwrap().clone()).wait().unwrap();
        client
    };
    let (ours, others) = (client(), client());
    let bytes = value(2_000_000);
    save(&ours, plain("file"), &bytes, &StreamOptions::default());
    ours.stop();
    let mut reader = open(&others, Source::Any(b"file".to_vec()), &StreamOptions::default()).unwrap();
    let mut read = vec![0; 1_000_000];
    reader.read_exact(&mut read).unwrap();
    for victim in network.victims(6) {
        network.kill(victim).unwrap();
    }
    reader.read_to_end(&mut read).unwrap();
    assert!(read == bytes);
    network.stop().unwrap();
}

#[test]
fn a_large_value_replaces_the_expected_one_alone_and_is_read_from_its_record() {
    let (network, _) = network("udp=6");
    let (writer, reader) = (network.nodes()[0].service(), network.nodes()[4].service());
    let swap = |expected, bytes: &[u8]| {
        let place = Place::PlainIf { key: b"swapped".to_vec(), expected };
        let mut writer = writer.value_writer(place, small());
        writer.write_all(bytes).unwrap();
        writer.finish()
    };
    let first = swap(None, &value(5000)).unwrap();
    let conflict = swap(None, &value(6000)).unwrap_err();
    let conflict = conflict.get_ref().unwrap().downcast_ref::<StreamError>().unwrap();
    assert!(matches!(conflict, StreamError::Operation { error: Error::Conflict { .. }, .. }), "{conflict}");
    swap(Some(first.version), &value(7000)).unwrap();
    let found = reader.query("swapped").wait_timeout(LONG).unwrap().unwrap().unwrap();
    assert!(large::is_root(&found.value) && !large::is_root(&value(5000)));
    let mut bytes = Vec::new();
    reader.value_reader(found.value, small()).read_to_end(&mut bytes).unwrap();
    assert!(bytes == value(7000));
    network.stop().unwrap();
}
