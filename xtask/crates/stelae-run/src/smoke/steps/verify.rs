//! `verify`: after everything, the clone is as it was cloned and `proxy.json` as it was rendered.

use stelae_model::flow::Step;
use stelae_model::proxy::masked;
use stelae_model::render::unified_diff;
use stelae_model::value::full_digest;
use stelae_model::{ExitCode, Failure};

use super::clone::{private_state, refs};
use super::stage::check_clean;
use super::structural::{check_servers, check_stack};
use crate::smoke::context::{SmokeContext, read};
use crate::smoke::play;
use crate::smoke::state::{Staged, Verified};

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
        check_stack(cx)?;
        check_servers(cx)?;
        check_clean(cx, "all stages")?;
        let refs = refs(cx)?;
        if refs != cloned.refs {
            return Err(Failure::new(
                ExitCode::Drift,
                "git-refs-changed",
                "the clone's references are not what they were",
            )
            .on(cloned.repo.to_string())
            .because(unified_diff("cloned", &cloned.refs, "now", &refs)));
        }
        let private = private_state(&cloned.repo);
        if private != cloned.private {
            return Err(Failure::new(
                ExitCode::Drift,
                "git-config-changed",
                "the clone's own git configuration changed",
            )
            .on(cloned.repo.to_string())
            .because(unified_diff("cloned", &cloned.private, "now", &private)));
        }
        let text = read(&rendered.proxy)?;
        let after = masked(&text);
        cx.keep("rendered/proxy.after.json", after.as_bytes());
        if full_digest(&text) != rendered.sha256 {
            return Err(Failure::new(
                ExitCode::Drift,
                "catalog-changed",
                "what was installed and removed left traces",
            )
            .on(rendered.proxy.to_string())
            .because(unified_diff("rendered", &rendered.masked, "now", &after)));
        }
        play::check_nothing_since(cx, &staged.restarted, "all stages")?;
        play::conclude_golden(cx)?;
        Ok(Verified { head: cloned.head.clone() })
    }
}
