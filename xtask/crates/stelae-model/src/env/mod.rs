//! The environment, typed: each variable is declared once ([`declared`]), values come in layers and know where they
//! came from ([`Environment`]), and a program can only be started with the variables that it reads ([`Program`]).

pub mod attest;
pub mod declared;
mod env_file;
mod environment;
mod invocation;
mod program;
pub mod programs;
pub mod reference;
mod resolution;
mod suggest;
mod variable;

pub use env_file::{Assignment, parse_env_file};
pub use environment::{EnvFile, Environment, Layer, Layers, Origin, Place, Resolved, expand_env_file};
pub use invocation::Invocation;
pub use program::{Program, ProgramEnv};
pub use programs::{
    AgentEnv, Base, BenchEnv, CargoEnv, ClaudeEnv, CodexEnv, GatewayEnv, GitEnv, GoEnv, NpmEnv, PythonEnv,
    ServerEnv, ServiceEnv, SoakEnv, XtaskEnv,
};
pub use suggest::nearest;
pub use variable::{Declared, Given, HarnessVariable, SetBy, Variable};
