//! Keeps large values alive. The node publishes their roots as it does all records, but nobody publishes their chunks: these
//! are saved again in time, out of the copies that there are, as long as the root is published.
//!
//! So nothing is to be done where a value is replaced or deleted: its root is published no longer, and its chunks end with
//! their lifetime.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use kademlia_dht::{Error, large, value_of};

use super::state::Api;

/// The ledger is looked through so often in the lifetime of a record, or more often. What failed is tried again as often.
const LOOKS: u32 = 24;

/// At the latest it is looked through after so long.
const LONGEST_PAUSE: Duration = Duration::from_secs(600);

/// No root has more bytes.
const ROOT_BYTES: usize = 1024;

/// When the chunks below each root are to be saved again. Equal roots have the same chunks.
type Due = BTreeMap<Vec<u8>, Instant>;

/// Renews what is due, until the node has stopped.
pub(super) async fn renew(api: Api) {
    let lifetime = api.settings().record_lifetime;
    let (retry, pause) = (lifetime / LOOKS, LONGEST_PAUSE.min(lifetime / LOOKS));
    let mut due = Due::new();
    // Of what was published before the start nobody knows how long it still has.
    let mut first = pause;
    loop {
        match roots(&api).await {
            Ok(roots) => {
                note(&mut due, roots, Instant::now() + first);
                first = lifetime / 2;
            }
            Err(Error::Stopped) => return,
            // The node has too much to do.
            Err(_) => {}
        }
        let late: Vec<Vec<u8>> =
            due.iter().filter(|(_, due)| **due <= Instant::now()).map(|(root, _)| root.clone()).collect();
        for root in late {
            let again = if renew_one(&api, root.clone()).await { lifetime / 2 } else { retry };
            due.insert(root, Instant::now() + again);
        }
        tokio::time::sleep(pause).await;
    }
}

/// The roots that the node publishes.
async fn roots(api: &Api) -> Result<Vec<Vec<u8>>, Error> {
    let records = api.service().ledger().await?.into_iter().map(|published| published.record);
    let values = records.filter(|record| record.value.len() <= ROOT_BYTES).map(value_of);
    Ok(values.filter(|value| large::is_root(value)).collect())
}

/// Forgets the roots that are published no longer, and notes when those that are new are due.
fn note(due: &mut Due, roots: Vec<Vec<u8>>, when: Instant) {
    let mut before = std::mem::take(due);
    due.extend(roots.into_iter().map(|root| {
        let when = before.remove(&root).unwrap_or(when);
        (root, when)
    }));
}

/// Saves all chunks below a root again. Whether that went well.
async fn renew_one(api: &Api, root: Vec<u8>) -> bool {
    let renewed = api.aside(move |service| service.value_reader(root, super::large::options()).renew()).await;
    match &renewed {
        Ok(Ok(chunks)) => log::debug!("{chunks} chunks of a large value have another lifetime"),
        Ok(Err(error)) => log::warn!("a large value that this node publishes cannot be kept alive: {error}"),
        // The thread for it has not come to its end.
        Err(_) => {}
    }
    matches!(renewed, Ok(Ok(_)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_published_no_longer_is_forgotten_and_what_was_known_stays_due() {
        let (start, mut due) = (Instant::now(), Due::new());
        let after = |seconds| start + Duration::from_secs(seconds);
        let root = |name: &str| name.as_bytes().to_vec();
        note(&mut due, vec![root("a"), root("b"), root("b")], after(1));
        note(&mut due, vec![root("b"), root("c")], after(2));
        assert_eq!(due, Due::from([(root("b"), after(1)), (root("c"), after(2))]));
    }
}
