//! The one folder that the tools may see. Every path that they are given is opened through here.

use std::fs::File;
use std::io;

use camino::{Utf8Path, Utf8PathBuf};
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use stelae_model::{ExitCode, Failure};

/// A workspace.
#[derive(Debug)]
pub(super) struct Workspace {
    root: Utf8PathBuf,
    folder: File,
}

impl Workspace {
    /// The workspace at `root`.
    ///
    /// # Errors
    /// Exit code 40 when it is no folder that can be opened.
    pub(super) fn open(root: Utf8PathBuf) -> Result<Self, Failure> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        match rustix::fs::open(root.as_str(), flags, Mode::empty()) {
            Ok(folder) => Ok(Self { folder: folder.into(), root }),
            Err(error) => {
                let what = "the workspace cannot be opened";
                Err(Failure::new(ExitCode::PrerequisiteMissing, "workspace", what)
                    .on(root.as_str())
                    .because(error.to_string()))
            }
        }
    }

    /// The path of its root.
    pub(super) fn root(&self) -> &Utf8Path {
        &self.root
    }

    /// Opens the file or folder at `path`, for reading, if it is in the workspace.
    ///
    /// # Errors
    /// A sentence that names the path.
    pub(super) fn entry(&self, path: &str) -> Result<File, String> {
        let path = if path.is_empty() { "." } else { path };
        // NONBLOCK, because opening a FIFO waits for a writer otherwise; it means nothing for files and folders.
        let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
        self.beneath(path, flags).map_err(|error| match error {
            Errno::XDEV => {
                format!("{path:?} leads out of the workspace: paths are relative to its root, and stay in it")
            }
            Errno::NOENT => format!("{path:?} is not in the workspace"),
            other => format!("{path:?} cannot be opened: {}", io::Error::from(other)),
        })
    }

    /// The kernel itself resolves the path, and refuses each step that leaves the root (`..`, an absolute path, a
    /// symlink), so that nothing can be exchanged between a check and the opening.
    #[cfg(target_os = "linux")]
    fn beneath(&self, path: &str, flags: OFlags) -> rustix::io::Result<File> {
        use rustix::fs::{ResolveFlags, openat2};

        let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS;
        // EAGAIN: something was renamed while `..` was being resolved. Bounded, because it may be renamed for ever.
        for _ in 0..100 {
            match openat2(&self.folder, path, flags, Mode::empty(), resolve) {
                Err(Errno::AGAIN) => {}
                opened => return opened.map(File::from),
            }
        }
        Err(Errno::AGAIN)
    }

    /// Without openat2 the path is resolved first and opened then; between the two it could be exchanged.
    #[cfg(not(target_os = "linux"))]
    fn beneath(&self, path: &str, flags: OFlags) -> rustix::io::Result<File> {
        let errno = |error: io::Error| Errno::from_io_error(&error).unwrap_or(Errno::IO);
        let root = self.root.canonicalize().map_err(errno)?;
        let target = self.root.join(path).canonicalize().map_err(errno)?;
        if Utf8Path::new(path).is_absolute() || !target.starts_with(root) {
            return Err(Errno::XDEV);
        }
        rustix::fs::open(&target, flags, Mode::empty()).map(File::from)
    }
}
