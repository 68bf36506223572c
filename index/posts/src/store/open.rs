//! Opening and creating a store, and saying what is wrong with one that cannot be opened.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::Path;
use std::sync::RwLock;
use std::sync::atomic::AtomicBool;

use redb::{Builder, Database, DatabaseError, Durability, ReadableDatabase, StorageError, TableHandle};

use super::{COUNTS, IDS, META, POSTS, PostStore, StoreOptions, View, damaged, fault, guard};
use crate::StoreError;

/// Version of the tables; a record has a version of its own.
const FORMAT: u64 = 1;
pub(super) const FILE: &str = "posts.redb";
/// Written once the store exists. With it, an empty store file is a loss and not a first start.
pub(super) const MARKER: &str = "posts.format";

pub(super) fn open(dir: &Path, options: StoreOptions) -> Result<PostStore, StoreError> {
    let directory = |source| StoreError::Directory { path: dir.to_owned(), source };
    fs::create_dir_all(dir).map_err(directory)?;
    fs::read_dir(dir).map_err(directory)?;
    let (path, marker) = (dir.join(FILE), dir.join(MARKER));
    let io = |path: &Path| {
        let path = path.to_owned();
        move |source| StoreError::Io { path, source }
    };
    let marked = match fs::read_to_string(&marker) {
        Ok(found) => {
            check_marker(&marker, &found)?;
            true
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => false,
        Err(error) => return Err(io(&marker)(error)),
    };
    let bytes = match fs::metadata(&path) {
        Ok(metadata) if !metadata.is_file() => return Err(StoreError::NotAStore { path }),
        Ok(metadata) => metadata.len(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => 0,
        Err(error) => return Err(io(&path)(error)),
    };
    if marked && bytes == 0 {
        return Err(damaged(&path, "the file is missing or empty"));
    }
    let database = guard(&path, || {
        Builder::new()
            .set_cache_size(options.cache_bytes)
            .set_check_integrity_on_open(bytes <= options.verify_bytes)
            .create(&path)
            .map_err(|error| open_error(&path, error))
    })?;
    let store =
        PostStore { path, options, database: RwLock::new(Some(database)), failed: AtomicBool::new(false) };
    store.guarded(|database| prepare(&store, database, marked))?;
    if !marked {
        write_marker(dir, &marker).map_err(io(&marker))?;
    }
    Ok(store)
}

/// Opens a store file that this process had open a moment ago.
pub(super) fn existing(path: &Path, options: StoreOptions) -> Result<Database, StoreError> {
    guard(path, || {
        Builder::new().set_cache_size(options.cache_bytes).open(path).map_err(|error| open_error(path, error))
    })
}

fn open_error(path: &Path, error: DatabaseError) -> StoreError {
    match error {
        DatabaseError::UpgradeRequired(version) => {
            StoreError::WrongFormat { path: path.to_owned(), expected: FORMAT, found: u64::from(version) }
        }
        DatabaseError::Storage(StorageError::Io(error)) if error.kind() == io::ErrorKind::InvalidData => {
            StoreError::NotAStore { path: path.to_owned() }
        }
        other => fault(path, other.into()),
    }
}

/// Creates the tables of a new file; checks those of an old one.
fn prepare(store: &PostStore, database: &Database, marked: bool) -> Result<(), StoreError> {
    let reading = database.begin_read().map_err(|e| store.fault(e))?;
    let tables: Vec<_> = reading.list_tables().map_err(|e| store.fault(e))?.collect();
    if tables.is_empty() && !marked {
        return create(store, database);
    }
    for table in [POSTS.name(), IDS.name(), COUNTS.name(), META.name()] {
        if !tables.iter().any(|found| found.name() == table) {
            return Err(if marked {
                damaged(&store.path, format!("table {table} is missing"))
            } else {
                StoreError::NotAStore { path: store.path.clone() }
            });
        }
    }
    drop(reading);
    let view = View::new(store, database)?;
    let found = view.meta(store, "format")?;
    if found != FORMAT {
        return Err(StoreError::WrongFormat { path: store.path.clone(), expected: FORMAT, found });
    }
    view.next_ordinal(store)?;
    view.meta(store, "sequence")?;
    Ok(())
}

fn create(store: &PostStore, database: &Database) -> Result<(), StoreError> {
    let mut transaction = database.begin_write().map_err(|e| store.fault(e))?;
    transaction.set_durability(Durability::Immediate).map_err(|e| store.database_error(&e.to_string()))?;
    transaction.set_two_phase_commit(true);
    {
        let mut meta = transaction.open_table(META).map_err(|e| store.fault(e))?;
        for (key, value) in [("format", FORMAT), ("next_ordinal", 0), ("sequence", 0)] {
            meta.insert(key, value).map_err(|e| store.fault(e))?;
        }
        transaction.open_table(POSTS).map_err(|e| store.fault(e))?;
        transaction.open_table(IDS).map_err(|e| store.fault(e))?;
        transaction.open_table(COUNTS).map_err(|e| store.fault(e))?;
    }
    transaction.commit().map_err(|e| store.fault(e))
}

fn check_marker(marker: &Path, text: &str) -> Result<(), StoreError> {
    let found = text.trim().strip_prefix("bowerbird posts ").and_then(|version| version.parse::<u64>().ok());
    match found {
        Some(FORMAT) => Ok(()),
        Some(found) => Err(StoreError::WrongFormat { path: marker.to_owned(), expected: FORMAT, found }),
        None => Err(damaged(marker, format!("expected \"bowerbird posts {FORMAT}\""))),
    }
}

pub(super) fn write_marker(dir: &Path, marker: &Path) -> io::Result<()> {
    let temporary = marker.with_extension("new");
    let mut file = File::create(&temporary)?;
    writeln!(file, "bowerbird posts {FORMAT}")?;
    file.sync_all()?;
    fs::rename(&temporary, marker)?;
    // The names of the store file and of the marker must survive a power cut as well.
    File::open(dir)?.sync_all()
}
