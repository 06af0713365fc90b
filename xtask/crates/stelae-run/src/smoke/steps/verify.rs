//! `verify`: after everything, the clone is as it was cloned and `proxy.json` as it was rendered.

use stelae_model::flow::Step;
use stelae_model::proxy::masked;
use stelae_model::render::unified_diff;
use stelae_model::value::full_digest;
use stelae_model::{ExitCode, Failure};

use super::structural::check_servers;
use crate::smoke::context::{SmokeContext, read};
use crate::smoke::servers::check_deaths;
use crate::smoke::state::{Staged, Verified};
use crate::smoke::{manifest, play};

/// Compares with what the first steps gave.
#[derive(Debug)]
pub(crate) struct Verify;

impl Step for Verify {
    type Context = SmokeContext;
    type Needs = Staged<3>;
    type Gives = Verified;

    fn name(&self) -> String {
        "verify".to_owned()
    }

    fn perform(&self, cx: &mut SmokeContext, staged: Staged<3>) -> Result<Verified, Failure> {
        let rendered = &staged.restarted.rendered;
        let cloned = &rendered.bundled.set_up.built.cloned;
        check_deaths(cx, &staged.restarted)?;
        check_servers(cx)?;
        cx.check_programs()?;
        cx.check_agent()?;
        let text = read(&rendered.proxy)?;
        let after = masked(&text);
        cx.keep("rendered/proxy.after.json", after.as_bytes());
        // Before the comparison of all files: it shows what differs in this one.
        if full_digest(&text) != rendered.sha256 {
            return Err(Failure::new(
                ExitCode::Drift,
                "catalog-changed",
                "what was installed and removed left traces",
            )
            .on(rendered.proxy.to_string())
            .because(unified_diff("rendered", &rendered.masked, "now", &after)));
        }
        manifest::check_undone(cx, "verify")?;
        play::check_nothing_since(cx, &staged.restarted, "all stages")?;
        play::conclude_golden(cx)?;
        Ok(Verified { head: cloned.head.clone() })
    }
}
