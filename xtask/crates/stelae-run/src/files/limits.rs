//! The most bytes that are read of each kind of file. A file that is longer is refused, and never read in part.

/// The marker of a workspace: a run id and what identifies its folder.
pub const MARKER: u64 = 4 * 1024;
/// A file by which the next start finds what a killed run has left.
pub const LIVE_FILE: u64 = 64 * 1024;
/// `verdict.json` and the other single values of a run's evidence.
pub const VERDICT: u64 = 1024 * 1024;
/// A record that a later command reads: the plan, what a step gave, the record of a stack.
pub const RECORD: u64 = 16 * 1024 * 1024;
/// A file of git's private folder: `HEAD`, `config`, `info/exclude`, a ref.
pub const GIT_PRIVATE: u64 = 1024 * 1024;
/// A file of a bundle.
pub const BUNDLE_FILE: u64 = 16 * 1024 * 1024;
/// A file of a tool that is being installed: a wheel, a lock file, a script.
pub const TOOL_FILE: u64 = 1024 * 1024 * 1024;
/// A credential that is lent to an agent.
pub const CREDENTIAL: u64 = 1024 * 1024;
/// What an agent or a gateway has written of a stage: a transcript, the account of its calls, the model's requests.
pub const TRANSCRIPT: u64 = 64 * 1024 * 1024;
/// A program that was built.
pub const PROGRAM: u64 = 4 * 1024 * 1024 * 1024;
/// A log that is read whole, and what is looked through for secrets.
pub const LOG: u64 = 256 * 1024 * 1024;
/// The events of a run.
pub const EVENTS: u64 = 1024 * 1024 * 1024;
/// What a build was made of: a line for each file of a repository.
pub const STAMP: u64 = 256 * 1024 * 1024;
/// What the kernel tells in `/proc`.
pub const KERNEL: u64 = 64 * 1024 * 1024;
/// A file that the user has written: configuration, a template, a script.
pub const CONFIG: u64 = 16 * 1024 * 1024;
