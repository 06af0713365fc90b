//! An agent is not started with what git reads.

use stelae_model::env::programs::AGENT;
use stelae_model::env::{Base, Environment, GitEnv, Layers, ProgramEnv};

fn main() {
    let environment = Environment::resolve(&Layers::default()).unwrap();
    let base = Base::from_environment(&environment).unwrap();
    let env = GitEnv::from_environment(&environment).unwrap();
    AGENT.invoke("/bin/agent".into(), "/".into(), &base, &env);
}
