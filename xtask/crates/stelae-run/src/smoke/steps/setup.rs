//! `setup`: the clone prepares the sandbox's homes.

use stelae_model::Failure;
use stelae_model::flow::Step;

use crate::smoke::context::SmokeContext;
use crate::smoke::state::{Built, SetUp};

/// Runs the clone's `xtask env init`.
#[derive(Debug)]
pub(crate) struct Setup;

impl Step for Setup {
    type Context = SmokeContext;
    type Needs = Built;
    type Gives = SetUp;

    fn name(&self) -> String {
        "setup".to_owned()
    }

    fn perform(&self, cx: &mut SmokeContext, built: Built) -> Result<SetUp, Failure> {
        cx.run_xtask("setup", &["env", "init"])?;
        Ok(SetUp { built })
    }
}
