//! Why the file cannot be used, as far as it matters to what is done about it.

use std::error::Error;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};

use redb::{DatabaseError, StorageError};

/// Why the file cannot be used.
#[derive(Debug, thiserror::Error)]
pub(super) enum Unusable {
    #[error("schema {0} is newer")]
    Newer(u32),
    #[error("it is damaged: {0}")]
    Damaged(String),
    #[error(transparent)]
    Io(#[from] io::Error),
    #[error(transparent)]
    Other(Box<dyn Error + Send + Sync>),
}

impl Unusable {
    pub(super) fn is_full(&self) -> bool {
        matches!(self, Unusable::Io(error)
            if matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded))
    }
}

impl From<StorageError> for Unusable {
    fn from(error: StorageError) -> Self {
        match error {
            StorageError::Corrupted(cause) => Unusable::Damaged(cause),
            // No such file, or one that ends too early.
            StorageError::Io(error)
                if matches!(error.kind(), io::ErrorKind::InvalidData | io::ErrorKind::UnexpectedEof) =>
            {
                Unusable::Damaged(error.to_string())
            }
            StorageError::Io(error) => Unusable::Io(error),
            error => Unusable::Other(error.into()),
        }
    }
}

impl From<DatabaseError> for Unusable {
    fn from(error: DatabaseError) -> Self {
        match error {
            DatabaseError::Storage(error) => error.into(),
            // No file of ours was ever written in an older format.
            DatabaseError::UpgradeRequired(_) => Unusable::Damaged(error.to_string()),
            error => Unusable::Other(error.into()),
        }
    }
}

impl From<redb::Error> for Unusable {
    fn from(error: redb::Error) -> Self {
        match error {
            redb::Error::Corrupted(cause) => StorageError::Corrupted(cause).into(),
            redb::Error::Io(error) => StorageError::Io(error).into(),
            error => Unusable::Other(error.into()),
        }
    }
}

macro_rules! from_redb {
    ($($error:ty),*) => {
        $(impl From<$error> for Unusable {
            fn from(error: $error) -> Self {
                redb::Error::from(error).into()
            }
        })*
    };
}

from_redb!(redb::TransactionError, redb::TableError, redb::CommitError, redb::SetDurabilityError);

/// A file that others have written into can bring redb to panic.
pub(super) fn calmly<T>(call: impl FnOnce() -> Result<T, Unusable>) -> Result<T, Unusable> {
    catch_unwind(AssertUnwindSafe(call))
        .unwrap_or_else(|_| Err(Unusable::Damaged("it makes no sense to redb, which panicked over it".to_owned())))
}
