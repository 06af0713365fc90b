//! `render`: the clone renders `proxy.json`.

use stelae_model::Failure;
use stelae_model::flow::Step;
use stelae_model::proxy::masked;
use stelae_model::value::full_digest;

use crate::smoke::context::{SmokeContext, read};
use crate::smoke::manifest;
use crate::smoke::state::{Bundled, Rendered};

/// Runs the clone's `xtask render-proxy`, and keeps what it rendered.
#[derive(Debug)]
pub(crate) struct Render;

impl Step for Render {
    type Context = SmokeContext;
    type Needs = Bundled;
    type Gives = Rendered;

    fn name(&self) -> String {
        "render".to_owned()
    }

    fn perform(&self, cx: &mut SmokeContext, bundled: Bundled) -> Result<Rendered, Failure> {
        cx.run_xtask("render", &["render-proxy"])?;
        let proxy = cx.sandbox.proxy_json();
        let text = read(&proxy)?;
        let (sha256, masked) = (full_digest(&text), masked(&text));
        cx.keep("rendered/proxy.json", masked.as_bytes());
        manifest::check_step(cx, "render", &["setup", "bundle", "render"])?;
        manifest::take_config(cx)?;
        Ok(Rendered { bundled, proxy, sha256, masked })
    }
}
