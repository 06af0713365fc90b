// Two steps: `Restart` needs what `Render` gives.

use stelae_model::Failure;
use stelae_model::flow::Step;

#[derive(serde::Serialize, serde::Deserialize)]
pub struct Bundled;
#[derive(serde::Serialize, serde::Deserialize)]
pub struct Rendered;
#[derive(serde::Serialize, serde::Deserialize)]
pub struct Restarted;

pub struct Render;

impl Step for Render {
    type Context = ();
    type Needs = Bundled;
    type Gives = Rendered;

    fn name(&self) -> String {
        "render".to_owned()
    }

    fn perform(&self, (): &mut (), _: Bundled) -> Result<Rendered, Failure> {
        Ok(Rendered)
    }
}

pub struct Restart;

impl Step for Restart {
    type Context = ();
    type Needs = Rendered;
    type Gives = Restarted;

    fn name(&self) -> String {
        "restart".to_owned()
    }

    fn perform(&self, (): &mut (), _: Rendered) -> Result<Restarted, Failure> {
        Ok(Restarted)
    }
}
