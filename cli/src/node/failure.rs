//! Why a node does not run, and which setting is to blame.

use std::io;
use std::path::PathBuf;

use kademlia_dht::gateway::GatewayError;
use kademlia_dht::persist::{PersistError, ReadContactsError};
use kademlia_dht::{Multiaddr, StartError};

use crate::api::ServerError;
use crate::args::Places;
use crate::signals::SignalsError;

/// Why a node does not run.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    #[error(transparent)]
    Signals(#[from] SignalsError),
    #[error(transparent)]
    Start(#[from] StartError),
    #[error("{address} is no address that a node listens on; /ip4/…/udp/…, /ip4/…/tcp/…, /ip6/… and /unix/… are")]
    Address { address: Multiaddr },
    #[error("{address}: a network of {network} is over UDP alone")]
    NotUdp { address: Multiaddr, network: &'static str },
    #[error(
        "a node of BitTorrent's DHT listens on one address; give one --listen, or --connect addresses of one kind (--public is UDP over IPv4 elsewhere)"
    )]
    OneAddress,
    #[error(transparent)]
    Listen(#[from] GatewayError),
    #[error("the gateway at {address} cannot be started: {cause}")]
    Gateway { address: Multiaddr, cause: String },
    #[error(transparent)]
    Folder(#[from] PersistError),
    #[error("cannot read {}: {error}", .path.display())]
    Read { path: PathBuf, error: io::Error },
    #[error("{}, {error}", .path.display())]
    Contacts { path: PathBuf, error: ReadContactsError },
    #[error(transparent)]
    Http(#[from] ServerError),
    #[error("cannot start a thread: {0}")]
    Thread(#[source] io::Error),
    #[error("the node has failed: {0}")]
    Failed(String),
    #[error("cannot print: {0}")]
    Print(#[from] io::Error),
    #[error("{place}: {failure}")]
    Placed { place: String, failure: Box<Failure> },
}

impl Failure {
    /// Whether the arguments are to blame.
    pub(crate) fn is_usage(&self) -> bool {
        match self {
            Failure::Address { .. }
            | Failure::NotUdp { .. }
            | Failure::OneAddress
            | Failure::Read { .. }
            | Failure::Contacts { .. } => true,
            Failure::Http(error) => error.is_usage(),
            Failure::Placed { failure, .. } => failure.is_usage(),
            _ => false,
        }
    }

    /// With file and line, where the setting that it is about is from a file.
    pub(super) fn placed(self, places: Option<&Places>) -> Self {
        let setting = self.setting();
        let place = setting.zip(places).and_then(|((name, value), places)| places.of(name, value.as_deref()));
        match place {
            Some(place) => Failure::Placed { place, failure: Box::new(self) },
            None => self,
        }
    }

    /// The setting that it is about, and which of its values.
    fn setting(&self) -> Option<(&'static str, Option<String>)> {
        match self {
            Failure::Address { address }
            | Failure::NotUdp { address, .. }
            | Failure::Gateway { address, .. }
            | Failure::Listen(GatewayError::Address { address, .. } | GatewayError::Bind { address, .. }) => {
                Some(("listen", Some(address.to_string())))
            }
            Failure::OneAddress => Some(("listen", None)),
            Failure::Read { .. } | Failure::Contacts { .. } => Some(("contacts", None)),
            Failure::Folder(_) | Failure::Start(StartError::State(_) | StartError::OtherNetwork) => {
                Some(("data-dir", None))
            }
            Failure::Http(ServerError::Bind { .. }) => Some(("http", None)),
            Failure::Http(ServerError::Token { .. } | ServerError::EmptyToken { .. }) => {
                Some(("http-token-file", None))
            }
            Failure::Http(ServerError::Control { .. } | ServerError::InUse { .. }) => Some(("data-dir", None)),
            _ => None,
        }
    }
}
