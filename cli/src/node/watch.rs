//! What happens in a node: told to whoever follows it over HTTP, and to the log where it matters to whoever runs it.

use std::io;
use std::sync::mpsc::Sender;
use std::thread;

use kademlia_dht::core::Event as NodeEvent;
use kademlia_dht::{DHTService, Event};

use super::Happening;
use super::joining::Word;
use crate::api::Api;

/// Watches until the service has stopped, on a thread of its own.
pub(super) fn start(
    service: &DHTService,
    api: &Api,
    joining: Sender<Word>,
    happens: Sender<Happening>,
) -> io::Result<()> {
    let (service, api, events) = (service.clone(), api.clone(), service.events());
    let work = move || {
        for event in events {
            note(&event);
            if matches!(event, Event::Node(NodeEvent::ContactRemoved(_))) && service.status().known_peers == 0 {
                log::warn!("this node has lost all others that it knew");
                joining.send(Word::Alone).ok();
            }
            let has_failed = matches!(event, Event::Failed { .. });
            api.tell(Some(event));
            if has_failed {
                happens.send(Happening::Failed).ok();
            }
        }
        api.tell(None);
    };
    thread::Builder::new().name("watch".to_owned()).spawn(work).map(|_| ())
}

fn note(event: &Event) {
    match event {
        Event::GatewayFailed { gateway, cause } => log::error!("{gateway} has failed: {cause}"),
        Event::GatewayRestarted { gateway } => log::info!("{gateway} runs again"),
        Event::GatewayEnded { gateway } => log::warn!("{gateway} has ended"),
        Event::PersistenceFailed { cause } => log::error!("the node's state cannot be kept: {cause}"),
        Event::PersistenceRestored => log::info!("the node's state is kept again"),
        Event::Failed { cause } => log::error!("the node has failed: {cause}"),
        _ => {}
    }
}
