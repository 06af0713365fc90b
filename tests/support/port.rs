//! Ports that two tests are not given at once.

use stelae_run::ports::Placeholder;

/// A free port of loopback, for as long as it is held: nobody else is given it by the kernel, nobody can connect to it, and
/// whoever is told its number can listen there.
///
/// # Panics
/// When the kernel has no port left.
pub fn held_port() -> Placeholder {
    Placeholder::hold([127, 0, 0, 1].into(), 0).expect("a free port")
}
