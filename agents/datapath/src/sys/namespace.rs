//! Network namespaces: a socket belongs for good to the one that its thread was in when it was opened.
//!
//! Only threads of this crate ever change namespace: the workers, which note where they are, and
//! threads made for one visit ([`within`]). A caller's thread, which may belong to an async runtime,
//! never does.

use std::fs::File;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::Arc;

use nix::sched::{CloneFlags, setns};

/// A network namespace, held open: it stays the same even when its name goes to another.
#[derive(Debug)]
pub(crate) struct Namespace {
    file: File,
    /// Device and inode, by which the kernel tells namespaces apart.
    identity: (u64, u64),
}

impl Namespace {
    /// The namespace that the calling thread is in.
    pub(crate) fn current() -> io::Result<Self> {
        Self::open(Path::new("/proc/thread-self/ns/net"))
    }

    pub(crate) fn open(path: &Path) -> io::Result<Self> {
        let file = File::open(path)?;
        let metadata = file.metadata()?;
        Ok(Self { file, identity: (metadata.dev(), metadata.ino()) })
    }

    pub(crate) fn is(&self, other: &Self) -> bool {
        self.identity == other.identity
    }

    fn enter(&self) -> io::Result<()> {
        Ok(setns(&self.file, CloneFlags::CLONE_NEWNET)?)
    }
}

/// Which namespace a worker's thread is in. It goes where the next socket has to be opened, and stays:
/// there is no way back that could fail, and none is needed for sockets that are open.
pub(crate) struct Whereabouts {
    current: Arc<Namespace>,
}

impl Whereabouts {
    /// For a thread that is in `current`.
    pub(crate) fn new(current: Arc<Namespace>) -> Self {
        Self { current }
    }

    pub(crate) fn enter(&mut self, wanted: &Arc<Namespace>) -> io::Result<()> {
        if !self.current.is(wanted) {
            wanted.enter()?;
            self.current = Arc::clone(wanted);
        }
        Ok(())
    }
}

/// Runs `open` on a thread of its own inside `namespace`.
pub(crate) fn within<T: Send>(
    namespace: &Namespace,
    open: impl FnOnce() -> io::Result<T> + Send,
) -> io::Result<T> {
    std::thread::scope(|scope| {
        let visit =
            std::thread::Builder::new().name("postern-visit".into()).spawn_scoped(scope, || {
                namespace.enter()?;
                open()
            })?;
        visit.join().unwrap_or_else(|_| Err(io::Error::other("the visiting thread panicked")))
    })
}
