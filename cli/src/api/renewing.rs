//! Keeps large values alive. The node publishes their roots as it does all records, but nobody publishes their chunks: these
//! are saved again in time, out of the copies that there are, as long as the root is published.
//!
//! So nothing is to be done where a value is replaced or deleted: its root is published no longer, and its chunks end with
//! their lifetime.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use kademlia_dht::{Error, Id, large, value_of};
use log::Level;

use super::state::Api;

/// The ledger is looked through so often between two renewals, or more often. What failed is tried again as often.
const LOOKS: u32 = 12;

/// Between two looks it waits so long at most, and at least.
const LONGEST_PAUSE: Duration = Duration::from_secs(600);
const SHORTEST_PAUSE: Duration = Duration::from_millis(20);

/// No root has more bytes.
const ROOT_BYTES: usize = 1024;

/// A root that the node publishes.
#[derive(Debug)]
struct Root {
    bytes: Vec<u8>,
    key: Id,
    /// How long ago it was published last.
    ago: Duration,
}

/// A large value that is kept alive.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Large {
    key: Id,
    /// When its chunks are to be saved again.
    due: Instant,
    /// Whether that went well the last time.
    is_well: bool,
}

/// All of them, by their roots. Equal roots have the same chunks.
type Values = BTreeMap<Vec<u8>, Large>;

/// Renews what is due, until the node has stopped.
pub(super) async fn renew(api: Api) {
    let interval = api.settings().renew_interval;
    let retry = interval / LOOKS;
    let pause = retry.clamp(SHORTEST_PAUSE, LONGEST_PAUSE);
    let mut values = Values::new();
    let mut is_start = true;
    loop {
        match roots(&api).await {
            Ok(roots) => {
                let now = Instant::now();
                // Of what was published before the start nobody knows how long it still has. Else the chunks are older than the
                // root by as long as it took to save them, so that the first time comes early.
                note(&mut values, roots, |ago| now + if is_start { pause } else { (interval / 2).saturating_sub(ago) });
                is_start = false;
            }
            Err(Error::Stopped) => return,
            // The node has too much to do.
            Err(_) => {}
        }
        // One alone: what is published now can be due before the next one.
        let first = values.iter_mut().min_by_key(|(_, value)| value.due);
        match first.filter(|(_, value)| value.due <= Instant::now()) {
            Some((root, value)) => {
                value.is_well = renew_one(&api, root.clone(), value).await;
                value.due = Instant::now() + if value.is_well { interval } else { retry };
            }
            None => tokio::time::sleep(pause).await,
        }
    }
}

/// The roots that the node publishes.
async fn roots(api: &Api) -> Result<Vec<Root>, Error> {
    let records = api.service().ledger().await?.into_iter();
    let small = records.filter(|published| published.record.value.len() <= ROOT_BYTES);
    let values = small.map(|published| Root {
        key: published.key,
        ago: published.last.map_or(Duration::MAX, |last| last.ago),
        bytes: value_of(published.record),
    });
    Ok(values.filter(|root| large::is_root(&root.bytes)).collect())
}

/// Forgets the roots that are published no longer, and notes when those that are new are due.
fn note(values: &mut Values, roots: Vec<Root>, due: impl Fn(Duration) -> Instant) {
    let mut before = std::mem::take(values);
    for Root { bytes, key, ago } in roots {
        let known = before.remove(&bytes);
        // The same value can be under several keys.
        values.entry(bytes).or_insert_with(|| known.unwrap_or(Large { key, due: due(ago), is_well: true }));
    }
}

/// Saves all chunks below a root again. Whether that went well.
async fn renew_one(api: &Api, root: Vec<u8>, value: &Large) -> bool {
    let renewed = api.aside(move |service| service.value_reader(root, super::large::options()).renew()).await;
    let key = api.hex(&value.key);
    match &renewed {
        Ok(Ok(chunks)) => log::debug!("{chunks} chunks of the large value {key} have another lifetime"),
        Ok(Err(error)) => {
            // Once, until it is well again.
            let level = if value.is_well { Level::Warn } else { Level::Debug };
            log::log!(level, "the large value {key}, which this node publishes, cannot be kept alive: {error}");
        }
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
        let (start, mut values) = (Instant::now(), Values::new());
        let roots = |names: &[&str]| -> Vec<Root> {
            let root =
                |name: &&str| Root { bytes: name.as_bytes().to_vec(), key: Id::ZERO, ago: Duration::from_secs(1) };
            names.iter().map(root).collect()
        };
        let due = |values: &Values| -> Vec<(Vec<u8>, u64)> {
            values.iter().map(|(root, value)| (root.clone(), value.due.duration_since(start).as_secs())).collect()
        };
        note(&mut values, roots(&["a", "b", "b"]), |ago| start + Duration::from_secs(10) - ago);
        assert_eq!(due(&values), [(b"a".to_vec(), 9), (b"b".to_vec(), 9)]);
        note(&mut values, roots(&["b", "c", "b"]), |ago| start + Duration::from_secs(20) - ago);
        assert_eq!(due(&values), [(b"b".to_vec(), 9), (b"c".to_vec(), 19)]);
    }
}
