//! What happens in a node: told to whoever follows it over HTTP, and to the log where it matters to whoever runs it.

use std::io;
use std::sync::mpsc::Sender;
use std::thread;

use kademlia_dht::core::Event as NodeEvent;
use kademlia_dht::{DHTService, Event};

use tokio::sync::mpsc::UnboundedSender;

use super::Happening;
use super::joining::Word;
use crate::api::Api;

/// Watches until the service has stopped, on a thread of its own.
pub(super) fn start(
    service: &DHTService,
    api: &Api,
    joining: UnboundedSender<Word>,
    happens: Sender<Happening>,
) -> io::Result<()> {
    let (service, api, events) = (service.clone(), api.clone(), service.events());
    let work = move || {
        let mut is_alone = false;
        for event in events {
            note(&event);
            match event {
                Event::Node(NodeEvent::ContactAdded(_)) | Event::Lagged { .. } => is_alone = false,
                // Of the last ones that go together it is said once.
                Event::Node(NodeEvent::ContactRemoved(_)) if !is_alone && service.status().known_peers == 0 => {
                    is_alone = true;
                    log::warn!("this node has lost all others that it knew");
                    joining.send(Word::Alone).ok();
                }
                _ => {}
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

/// Logs what the service does not log itself.
fn note(event: &Event) {
    match event {
        Event::GatewayRestarted { gateway } => log::info!("{gateway} runs again"),
        Event::GatewayEnded { gateway } => log::warn!("{gateway} has ended"),
        _ => {}
    }
}
