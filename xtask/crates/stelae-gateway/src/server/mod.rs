//! stub
use clap::Args;
use stelae_model::Failure;
/// stub
#[derive(Debug, Args)]
pub(crate) struct Server {}
impl Server {
    pub(crate) fn run(self) -> Result<(), Failure> {
        Ok(())
    }
}
