//! What is in the file: tables of rows, in the format of redb.

use redb::{Builder, Database, ReadableDatabase, ReadableTable, Table, TableDefinition};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::rows::{self, SCHEMA};
use super::unusable::Unusable;
use super::{Batch, Change, Identity, SavedState};

type Rows = TableDefinition<'static, &'static [u8], &'static [u8]>;

const META: TableDefinition<'static, &'static str, &'static [u8]> = TableDefinition::new("meta");
const CONTACTS: TableDefinition<'static, u32, &'static [u8]> = TableDefinition::new("contacts");
const RECORDS: Rows = TableDefinition::new("records");
const PUBLISHED: Rows = TableDefinition::new("published");

/// All is read once and then written only: there is little to be gained by keeping it in memory a second time.
const CACHE_BYTES: usize = 16 << 20;

pub(super) fn builder() -> Builder {
    let mut builder = Builder::new();
    // What an open without this would trust, damage included, is what redb wrote down when it closed the file.
    builder.set_cache_size(CACHE_BYTES).set_check_integrity_on_open(true);
    builder
}

pub(super) fn schema_of(file: &impl ReadableDatabase) -> Result<Option<u32>, Unusable> {
    let reading = file.begin_read()?;
    let meta = match reading.open_table(META) {
        Err(redb::TableError::TableDoesNotExist(_)) => return Ok(None),
        meta => meta?,
    };
    Ok(meta.get("schema")?.and_then(|row| rows::schema_in(row.value())))
}

pub(super) fn load(file: &Database) -> Result<SavedState, Unusable> {
    let reading = file.begin_read()?;
    let mut unreadable = 0;
    let meta = reading.open_table(META)?;
    let identity = meta.get("identity")?.and_then(|row| kept(rows::decode::<Identity>(row.value()), &mut unreadable));
    let mut state = SavedState { identity, ..SavedState::default() };
    for row in reading.open_table(CONTACTS)?.iter()? {
        state.contacts.extend(kept(rows::decode(row?.1.value()), &mut unreadable));
    }
    state.records = all(&reading.open_table(RECORDS)?, &mut unreadable)?;
    state.published = all(&reading.open_table(PUBLISHED)?, &mut unreadable)?;
    if unreadable > 0 {
        state.notices.push(format!("{unreadable} rows of the saved state could not be read, and are left out"));
    }
    Ok(state)
}

fn all<T: DeserializeOwned>(
    table: &impl ReadableTable<&'static [u8], &'static [u8]>,
    unreadable: &mut usize,
) -> Result<Vec<T>, Unusable> {
    let mut found = Vec::new();
    for row in table.iter()? {
        found.extend(kept(rows::decode(row?.1.value()), unreadable));
    }
    Ok(found)
}

/// Counts what cannot be read.
fn kept<T>(row: Option<T>, unreadable: &mut usize) -> Option<T> {
    *unreadable += usize::from(row.is_none());
    row
}

pub(super) fn commit(file: &Database, batch: &Batch) -> Result<(), Unusable> {
    let mut writing = file.begin_write()?;
    // Values come from strangers: so it must not rest on a checksum alone which of two states is the whole one.
    writing.set_two_phase_commit(true);
    {
        let mut meta = writing.open_table(META)?;
        if batch.whole {
            meta.insert("schema", &rows::schema_row(SCHEMA)[..])?;
        }
        if let Some(identity) = &batch.identity {
            meta.insert("identity", &*encoded(identity)?)?;
        }
        let mut contacts = writing.open_table(CONTACTS)?;
        if batch.whole || batch.contacts.is_some() {
            contacts.retain(|_, _| false)?;
        }
        for (number, contact) in (0..).zip(batch.contacts.iter().flatten()) {
            contacts.insert(number, &*encoded(contact)?)?;
        }
        write(&mut writing.open_table(RECORDS)?, batch.whole, &batch.records)?;
        write(&mut writing.open_table(PUBLISHED)?, batch.whole, &batch.published)?;
    }
    Ok(writing.commit()?)
}

fn write<T: Serialize>(
    table: &mut Table<'_, &'static [u8], &'static [u8]>,
    whole: bool,
    changes: &[Change<T>],
) -> Result<(), Unusable> {
    if whole {
        table.retain(|_, _| false)?;
    }
    for Change { key, author, now } in changes {
        let place = rows::place(key, author);
        match now {
            Some(row) => table.insert(&*place, &*encoded(row)?)?,
            None => table.remove(&*place)?,
        };
    }
    Ok(())
}

fn encoded(row: &impl Serialize) -> Result<Vec<u8>, Unusable> {
    rows::encode(row).map_err(|error| Unusable::Other(error.into()))
}
