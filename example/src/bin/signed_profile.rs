//! A profile that only its owner can change: saved, updated twice, and defended against an impostor.
//!
//! All nodes run in this process and talk over memory; any other transport would do as well.

#![allow(clippy::print_stdout, reason = "it talks to its user")]

use std::error::Error;

use kademlia_dht::gateway::MemoryGateway;
use kademlia_dht::signing::signed::{Salt, SigningKey};
use kademlia_dht::{Config, DHTService, RecordKind};

fn node() -> Result<DHTService, Box<dyn Error>> {
    let node = DHTService::start(Config::default())?;
    node.register_gateway(MemoryGateway::bind("/memory/0".parse()?)?)?;
    Ok(node)
}

fn main() -> Result<(), Box<dyn Error>> {
    // Ten nodes: Alice has the first one, Mallory the last one, and Bob one in between.
    let alice = node()?;
    let meeting_point = alice.listen_addresses().first().cloned().ok_or("no address")?;
    let mut others = Vec::new();
    for _ in 0..9 {
        let other = node()?;
        other.connect(meeting_point.clone()).wait()?;
        others.push(other);
    }
    let [bob, .., mallory] = &others[..] else { return Err("too few nodes".into()) };

    // The key is Alice's secret. Whoever has the public half finds her profile; the salt tells it from what else she may
    // save under the same key.
    let key = SigningKey::generate()?;
    let (public, salt) = (key.public_key(), Salt::new("profile")?);
    alice.put_signed(&key, &salt, "Alice, at home", None).wait()?;
    println!("Alice saved her profile; her public key is {public}");

    // Each update says which one it replaces, so that her phone and her laptop do not overwrite each other unawares.
    let receipt = alice.put_signed(&key, &salt, "Alice, travelling", Some(1)).wait()?;
    println!("first update: {} other nodes keep it", receipt.accepted.len());
    alice.put_signed(&key, &salt, "Alice, at sea", Some(2)).wait()?;
    if let Err(conflict) = alice.put_signed(&key, &salt, "Alice, at home again", Some(1)).wait() {
        println!("the laptop, which has not heard of that, is told: {conflict}");
    }

    // Bob asks whichever nodes he likes: he checks the signature himself.
    let found = bob.get_signed(&public, &salt).wait()?.ok_or("nobody has the profile")?;
    println!("Bob reads number {}: {}", found.sequence, String::from_utf8_lossy(&found.value));

    // Mallory has everything but the secret.
    let own = SigningKey::generate()?;
    mallory.put_signed(&own, &salt, "Alice, on the moon", None).wait()?;
    println!("Mallory signs with a key of her own: that is another profile, under another key");
    match mallory.save(public.key(&salt), "Alice, on the moon").wait() {
        Ok(_) => return Err("Mallory has overwritten the profile".into()),
        Err(refused) => println!("Mallory saves a plain value in its place: {refused}"),
    }
    let id = bob.key_id(public.key(&salt));
    let mut forged = bob.get(id).wait()?.found.ok_or("nobody has the profile")?.record;
    forged.value = b"18:Alice, on the moon"[..].into();
    match mallory.put(id, forged, kademlia_dht::gateway::Expect::Anything).wait() {
        Ok(_) => return Err("Mallory has forged the profile".into()),
        Err(refused) => println!("Mallory changes the signed record: {refused}"),
    }

    let found = bob.get(id).wait()?.found.ok_or("nobody has the profile")?;
    let is_signed = matches!(found.record.kind, RecordKind::Signed(_));
    let value = bob.get_signed(&public, &salt).wait()?.ok_or("nobody has the profile")?.value;
    println!("Bob still reads: {} (signed: {is_signed})", String::from_utf8_lossy(&value));
    Ok(())
}
