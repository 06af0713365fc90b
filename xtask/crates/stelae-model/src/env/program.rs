//! Programs, typed by the variables that they read.

use std::collections::BTreeMap;
use std::marker::PhantomData;

use camino::Utf8PathBuf;

use super::{Declared, Environment, Invocation, Variable, declared::STELAE_PROCESS};
use crate::Failure;

/// The variables that a program reads, as a struct with one field each.
///
/// Made by `program_environment!`. A struct literal that leaves one out does not compile, and there is no `Default`.
pub trait ProgramEnv: Sized {
    /// The variables, in the order of the fields.
    const VARIABLES: &'static [&'static Declared];

    /// Takes the values out of a resolved environment.
    ///
    /// # Errors
    /// Exit 20, `missing-variable`, when one that the program cannot do without has no value.
    fn from_environment(environment: &Environment) -> Result<Self, Failure>;

    /// Names and texts, as a process gets them; without those that have no value.
    fn pairs(&self) -> Vec<(&'static str, String)>;
}

/// Declares the environment of a program: a struct whose fields *are* variables.
macro_rules! program_environment {
    ($(#[doc = $doc:literal])+ $struct:ident { $($field:ident: $variable:ident),+ $(,)? }) => {
        $(#[doc = $doc])+
        #[derive(Clone, Debug, serde::Serialize)]
        pub struct $struct {
            $(
                #[doc = concat!("`", stringify!($variable), "`")]
                pub $field: <$crate::env::declared::$variable as $crate::env::Variable>::Value,
            )+
        }

        impl $crate::env::ProgramEnv for $struct {
            const VARIABLES: &'static [&'static $crate::env::Declared] =
                &[$(<$crate::env::declared::$variable as $crate::env::Variable>::DECLARED,)+];

            fn from_environment(environment: &$crate::env::Environment) -> Result<Self, $crate::Failure> {
                Ok(Self { $($field: environment.get::<$crate::env::declared::$variable>()?,)+ })
            }

            fn pairs(&self) -> Vec<(&'static str, String)> {
                let mut pairs = Vec::new();
                $(
                    if let Some(text) = $crate::value::EnvValue::to_env(&self.$field) {
                        pairs.push((stringify!($variable), text));
                    }
                )+
                pairs
            }
        }
    };
}

pub(crate) use program_environment;

/// A program, by the variables that it reads: there is no way to start one without an `E`.
///
/// ```compile_fail,E0063
/// use stelae_model::env::{Environment, GitEnv, Layers, ProgramEnv};
/// let taken = GitEnv::from_environment(&Environment::resolve(&Layers::default()).unwrap()).unwrap();
/// let lacks_two = GitEnv { terminal_prompt: taken.terminal_prompt, run_id: taken.run_id };
/// ```
#[derive(Debug)]
pub struct Program<E> {
    /// Its label in logs and evidence.
    pub name: &'static str,
    reads: PhantomData<fn(&E)>,
}

impl<E: ProgramEnv> Program<E> {
    /// Declares a program.
    pub const fn new(name: &'static str) -> Self {
        Self { name, reads: PhantomData }
    }

    /// Describes one start of the program: `base`, `env` and its label are its whole environment.
    pub fn invoke(&self, program: Utf8PathBuf, cwd: Utf8PathBuf, base: &super::Base, env: &E) -> Invocation {
        invocation(self.name, program, cwd, base, env)
    }

    /// The same for a program of which several run at once, each under its own name.
    pub fn invoke_named(
        &self,
        name: &str,
        program: Utf8PathBuf,
        cwd: Utf8PathBuf,
        base: &super::Base,
        env: &E,
    ) -> Invocation {
        invocation(&self.label(name), program, cwd, base, env)
    }

    /// The label of the one that runs under `name`: `service:cache`.
    pub fn label(&self, name: &str) -> String {
        format!("{}:{name}", self.name)
    }
}

fn invocation(
    process: &str,
    program: Utf8PathBuf,
    cwd: Utf8PathBuf,
    base: &super::Base,
    env: &impl ProgramEnv,
) -> Invocation {
    let label = (STELAE_PROCESS::DECLARED.name, process.to_owned());
    let pairs = base.pairs().into_iter().chain(env.pairs()).chain([label]);
    let environment: BTreeMap<String, String> = pairs.map(|(name, text)| (name.to_owned(), text)).collect();
    Invocation::new(process, program, cwd, environment)
}
