//! `bundle`: the clone installs its bundle.

use stelae_model::Failure;
use stelae_model::flow::Step;

use crate::smoke::context::SmokeContext;
use crate::smoke::state::{Bundled, SetUp};

/// Runs the clone's `xtask bundle install`, a live line per server.
#[derive(Debug)]
pub(crate) struct Bundle {
    /// The bundle.
    pub(crate) bundle: String,
}

impl Step for Bundle {
    type Context = SmokeContext;
    type Needs = SetUp;
    type Gives = Bundled;

    fn name(&self) -> String {
        "bundle".to_owned()
    }

    fn perform(&self, cx: &mut SmokeContext, set_up: SetUp) -> Result<Bundled, Failure> {
        cx.run_xtask("bundle", &["bundle", "install", &self.bundle])?;
        Ok(Bundled { set_up, bundle: self.bundle.clone() })
    }
}
