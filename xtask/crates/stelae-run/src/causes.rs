//! From the chain of causes that effects collect to the typed failure at the edge.

use stelae_model::Failure;

/// Adds a whole chain of causes to a failure.
pub(crate) trait Because {
    /// One `why` per cause, outermost first.
    #[must_use]
    fn because_of(self, error: &anyhow::Error) -> Self;
}

impl Because for Failure {
    fn because_of(self, error: &anyhow::Error) -> Self {
        error.chain().fold(self, |failure, cause| failure.because(cause.to_string()))
    }
}
