//! A host's slots in a group: what lets a restarted process take its old place at once.
//!
//! Owned by the group module. A process killed without warning cannot leave its group, and a new
//! dynamic member would wait until the dead one's session times out. A *static* member
//! (`group.instance.id`, KIP-345) that joins again under its old name replaces its old self and
//! gets its assignment back without a rebalance. The name must therefore be the same after a
//! restart, and must never be used by two live processes, which would fence each other.
//!
//! Both follow from a lock. A slot is a number below [`SLOTS_MAX`], held by an exclusive lock on
//! a file in a state directory; a process takes the lowest free one. The kernel releases the lock
//! when the process ends, however it ends, and the next process takes the same number. The name
//! is `<group>-<host>-<slot>-<stream>`.
//!
//! Always true: two live slots of one host have different names. Lock files are never written to
//! and never removed: removing one that another process is about to lock would give its name away
//! twice. The slot part carries a digest of the directory, so that processes that were given
//! different directories, and cannot see each other's locks, do not share names either.

use std::ffi::OsString;
use std::fs::{self, DirBuilder, File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::crc;

/// How many processes of one host may hold a slot in one group.
pub const SLOTS_MAX: u32 = 256;

/// The longest part of a name made from a group or a host, in bytes. Kafka takes 249 for the whole.
const PART_BYTES_MAX: usize = 96;

/// Why no slot could be taken. The membership then has to be dynamic.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The directory cannot be made, is not ours alone, or cannot hold locks.
    #[error("use {} for lock files", directory.display())]
    Directory {
        /// Which directory.
        directory: PathBuf,
        /// Why not.
        source: io::Error,
    },

    /// Every slot is held by another process.
    #[error("all {SLOTS_MAX} slots in {} are taken", directory.display())]
    Full {
        /// Which directory.
        directory: PathBuf,
    },

    /// The host has no name.
    #[error("read the name of this host")]
    Host(#[source] io::Error),

    /// There is no directory to try.
    #[error("no directory for lock files: none given, no $XDG_RUNTIME_DIR, /run or temporary one")]
    NoDirectory,
}

/// What a slot is for.
#[derive(Clone, Copy, Debug)]
pub struct Place<'a> {
    /// The group.
    pub group_id: &'a str,
    /// The cluster of the group, so that two mirrors with one group id on two clusters keep their
    /// own numbers whichever starts first.
    pub cluster_id: Option<&'a str>,
    /// Where lock files go; `None` tries `$XDG_RUNTIME_DIR`, `/run` and the temporary directory.
    pub directory: Option<&'a Path>,
}

/// A held slot. Cheap to clone; the lock is released when the last clone is dropped, or by the
/// kernel when the process ends.
#[derive(Clone, Debug)]
pub struct Slot {
    prefix: Arc<str>,
    _lock: Arc<File>,
}

impl Slot {
    /// Takes the lowest free slot, in the first directory that can hold one.
    ///
    /// Blocks on the file system; call it once, before the mirror runs.
    ///
    /// # Errors
    /// When no directory can be used; the error is the last one's.
    pub fn take(place: Place<'_>) -> Result<Self, Error> {
        let host = host_name().map_err(Error::Host)?;
        let mut failure = Error::NoDirectory;
        for directory in directories(place.directory) {
            match take_in(&directory, place, &host) {
                Ok(slot) => return Ok(slot),
                Err(error) => failure = error,
            }
        }
        Err(failure)
    }

    /// The `group.instance.id` of stream `stream` of this process.
    pub fn instance_id(&self, stream: usize) -> Arc<str> {
        format!("{}-{stream}", self.prefix).into()
    }
}

fn take_in(directory: &Path, place: Place<'_>, host: &str) -> Result<Slot, Error> {
    let unusable = |source| Error::Directory { directory: directory.to_owned(), source };
    if place.directory.is_some() {
        fs::create_dir_all(directory).map_err(unusable)?;
    } else {
        make_private(directory).map_err(unusable)?;
    }
    let real = fs::canonicalize(directory).map_err(unusable)?;
    let digest = crc::checksum(real.as_os_str().as_encoded_bytes());
    let key = format!("{}\0{}", place.group_id, place.cluster_id.unwrap_or_default());
    let (group, key) = (legal(place.group_id), crc::checksum(key.as_bytes()));
    for number in 0..SLOTS_MAX {
        let path = real.join(format!("{group}-{key:08x}-{number}.lock"));
        if let Some(lock) = try_lock(&path).map_err(unusable)? {
            let prefix = format!("{group}-{}-{number}.{digest:08x}", legal(host));
            return Ok(Slot { prefix: prefix.into(), _lock: Arc::new(lock) });
        }
    }
    Err(Error::Full { directory: directory.to_owned() })
}

/// The lock, or `None` when another process (or another slot of this one) holds it.
fn try_lock(path: &Path) -> io::Result<Option<File>> {
    let opened = OpenOptions::new().read(true).append(true).create(true).mode(0o600).open(path);
    let file = match opened {
        Ok(file) => file,
        // Another user's file in a directory that was given: his slot.
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied && path.exists() => {
            return Ok(None);
        }
        Err(error) => return Err(error),
    };
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => return Ok(None),
        Err(TryLockError::Error(error)) => return Err(error),
    }
    // A cleaner of temporary files may have removed the file between opening and locking; a lock on
    // a file without a name keeps nobody out.
    let (held, named) = (file.metadata()?, fs::metadata(path));
    let same = named.is_ok_and(|named| (named.dev(), named.ino()) == (held.dev(), held.ino()));
    Ok(same.then_some(file))
}

/// The directories to try, in order.
fn directories(given: Option<&Path>) -> Vec<PathBuf> {
    if let Some(given) = given {
        return vec![given.to_owned()];
    }
    let mut directories = Vec::new();
    let runtime: Option<OsString> = std::env::var_os("XDG_RUNTIME_DIR");
    if let Some(runtime) = runtime.filter(|path| !path.is_empty()) {
        directories.push(PathBuf::from(runtime).join("kmirror"));
    }
    directories.push(PathBuf::from("/run/kmirror"));
    // The temporary directory is everybody's: without knowing who we are it cannot be used.
    if let Ok(uid) = own_uid() {
        directories.push(std::env::temp_dir().join(format!("kmirror-{uid}")));
    }
    directories
}

/// Makes `directory` readable by this user only, or accepts it if it already is.
fn make_private(directory: &Path) -> io::Result<()> {
    match DirBuilder::new().mode(0o700).create(directory) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
        _ => {}
    }
    let found = fs::symlink_metadata(directory)?;
    if !found.is_dir() || found.uid() != own_uid()? || found.mode() & 0o022 != 0 {
        let problem = "not a directory that only this user can write to";
        return Err(io::Error::new(io::ErrorKind::PermissionDenied, problem));
    }
    Ok(())
}

/// The user this process runs as.
fn own_uid() -> io::Result<u32> {
    fs::metadata("/proc/self").map(|own| own.uid())
}

fn host_name() -> io::Result<String> {
    let name = fs::read_to_string("/proc/sys/kernel/hostname")
        .or_else(|_| fs::read_to_string("/etc/hostname"))?;
    match name.trim() {
        "" => Err(io::Error::new(io::ErrorKind::NotFound, "the name is empty")),
        name => Ok(name.to_owned()),
    }
}

/// `text` in the characters Kafka allows in an instance id, with a digest of the original if that
/// changed or cut it.
fn legal(text: &str) -> String {
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    if text.len() <= PART_BYTES_MAX && !text.is_empty() && text.chars().all(allowed) {
        return text.to_owned();
    }
    let kept: String = text.chars().filter(|c| allowed(*c)).take(PART_BYTES_MAX - 9).collect();
    format!("{kept}.{:08x}", crc::checksum(text.as_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place<'a>(group_id: &'a str, directory: &'a Path) -> Place<'a> {
        Place { group_id, cluster_id: None, directory: Some(directory) }
    }

    #[test]
    fn two_holders_have_two_names_and_a_freed_name_is_taken_again() {
        let directory = tempfile::tempdir().unwrap();
        let take = || Slot::take(place("g", directory.path())).unwrap();
        let (first, second) = (take(), take());
        let name = first.instance_id(0);
        assert_ne!(name, second.instance_id(0));
        assert_ne!(name, first.instance_id(1));
        drop(first);
        assert_eq!(take().instance_id(0), name);
    }

    #[test]
    fn a_clone_keeps_the_slot() {
        let directory = tempfile::tempdir().unwrap();
        let first = Slot::take(place("g", directory.path())).unwrap();
        let name = first.instance_id(0);
        let clone = first.clone();
        drop(first);
        let other = Slot::take(place("g", directory.path())).unwrap();
        assert_ne!(other.instance_id(0), name);
        drop(clone);
    }

    #[test]
    fn groups_clusters_and_directories_do_not_share_slots() {
        let (one, two) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let first = Slot::take(place("g", one.path())).unwrap();
        let other_group = Slot::take(place("h", one.path())).unwrap();
        assert!(other_group.instance_id(0).contains("-0."), "it has its own slot 0");
        let other_cluster = Place { cluster_id: Some("c2"), ..place("g", one.path()) };
        let other_cluster = Slot::take(other_cluster).unwrap();
        assert!(other_cluster.instance_id(0).contains("-0."));
        let other_directory = Slot::take(place("g", two.path())).unwrap();
        assert_ne!(first.instance_id(0), other_directory.instance_id(0));
    }

    #[test]
    fn a_name_has_only_what_kafka_allows() {
        let directory = tempfile::tempdir().unwrap();
        let odd = format!("größe/{}", "x".repeat(300));
        let name = Slot::take(place(&odd, directory.path())).unwrap().instance_id(7);
        assert!(name.len() <= 249, "{} bytes", name.len());
        assert!(name.chars().all(|c| c.is_ascii_alphanumeric() || ".-_".contains(c)), "{name}");
        assert_ne!(legal("a/b"), legal("ab"));
    }

    #[test]
    fn a_directory_that_cannot_hold_locks_is_an_error_that_names_it() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let error = Slot::take(place("g", &file.path().join("below"))).unwrap_err();
        assert!(
            matches!(&error, Error::Directory { directory, .. } if directory.ends_with("below"))
        );
    }

    #[test]
    fn a_shared_directory_is_not_taken_for_a_private_one() {
        use std::os::unix::fs::PermissionsExt;
        let directory = tempfile::tempdir().unwrap();
        let open = directory.path().join("open");
        fs::create_dir(&open).unwrap();
        fs::set_permissions(&open, fs::Permissions::from_mode(0o777)).unwrap();
        assert!(make_private(&open).is_err());
        make_private(&directory.path().join("own")).unwrap();
        std::os::unix::fs::symlink(directory.path(), directory.path().join("link")).unwrap();
        assert!(make_private(&directory.path().join("link")).is_err());
    }
}
