//! The right way round, so that the others fail for the reason that they are there for.

mod steps {
    include!("steps.rs");
}

use stelae_model::env::programs::AGENT;
use stelae_model::env::{AgentEnv, Base, Environment, Layers, ProgramEnv};
use stelae_model::flow::Flow;
use stelae_model::value::Secret;

fn main() {
    let environment = Environment::resolve(&Layers::default()).unwrap();
    let base = Base::from_environment(&environment).unwrap();
    let taken = AgentEnv::from_environment(&environment).unwrap();
    let env = AgentEnv {
        config_home: taken.config_home,
        state_home: taken.state_home,
        run_id: taken.run_id,
        proxy_host: taken.proxy_host,
        proxy_port: taken.proxy_port,
        public_base_url: taken.public_base_url,
        mcp_token: taken.mcp_token,
    };
    AGENT.invoke("/bin/agent".into(), "/".into(), &base, &env);
    assert_eq!(steps::Render.then(steps::Restart).names().len(), 2);
    assert!(!format!("{:?}", Secret::new("hunter2".to_owned())).contains("hunter2"));
}
