//! The incident: the port was exported to everybody, and did not reach one program. Here that does not compile.

use stelae_model::env::programs::AGENT;
use stelae_model::env::{AgentEnv, Base, Environment, Layers, ProgramEnv};

fn main() {
    let environment = Environment::resolve(&Layers::default()).unwrap();
    let base = Base::from_environment(&environment).unwrap();
    let taken = AgentEnv::from_environment(&environment).unwrap();
    let env = AgentEnv {
        config_home: taken.config_home,
        state_home: taken.state_home,
        run_id: taken.run_id,
        proxy_host: taken.proxy_host,
        public_base_url: taken.public_base_url,
        mcp_token: taken.mcp_token,
    };
    AGENT.invoke("/bin/agent".into(), "/".into(), &base, &env);
}
