//! `restart` needs what `render` gives.

mod steps {
    include!("steps.rs");
}

use stelae_model::flow::Flow;

fn main() {
    steps::Restart.then(steps::Render);
}
