//! What it means to declare a variable.

use crate::value::EnvValue;

/// Who may give a variable its value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SetBy {
    /// Env files, the process environment and the command line.
    Anyone,
    /// The machine: only the process environment.
    Host,
    /// The harness itself, for the processes it starts; not settable in files.
    Harness,
    /// Nobody: it is computed from other variables.
    Derived,
}

impl SetBy {
    /// The words used in `docs/ENV.md`.
    pub const fn words(self) -> &'static str {
        match self {
            Self::Anyone => "env files, process, command line",
            Self::Host => "process (the machine)",
            Self::Harness => "the harness",
            Self::Derived => "nobody: derived",
        }
    }
}

/// The declaration of one variable, with its type erased: what registries and reports go through.
#[derive(Debug)]
pub struct Declared {
    /// Its name.
    pub name: &'static str,
    /// What it is for: one or two sentences.
    pub doc: &'static str,
    /// The name of its type.
    pub type_name: &'static str,
    /// Whether its value must never be printed.
    pub secret: bool,
    /// Who may set it.
    pub set_by: SetBy,
    /// What stands in when nobody set it: tried in order, each a text with `${VAR}`; one whose variables are not all
    /// set is passed over.
    pub fallbacks: &'static [&'static str],
    /// Checks a text, and gives the form in which it is handed on; `None` leaves the variable out.
    pub canonical: fn(&str) -> Result<Option<String>, String>,
}

/// Declarations are one per name: that is their identity.
impl PartialEq for Declared {
    fn eq(&self, other: &Self) -> bool {
        self.name == other.name
    }
}

impl Eq for Declared {}

impl PartialOrd for Declared {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Declared {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.name.cmp(other.name)
    }
}

/// A variable as a type: what lets a struct field *be* a variable.
pub trait Variable {
    /// The type of its value; `Option<_>` when a process may be without it.
    type Value: EnvValue;
    /// Its declaration.
    const DECLARED: &'static Declared;
}

/// Declares the variables, each a type of its own, and the registry of all of them.
macro_rules! variables {
    ($(
        $(#[doc = $doc:literal])+
        $name:ident: $type:ty, $set_by:ident, [$($fallback:literal),*];
    )+) => {
        $(
            $(#[doc = $doc])+
            #[allow(non_camel_case_types, reason = "a variable's type has the variable's name")]
            pub struct $name;

            impl $crate::env::Variable for $name {
                type Value = $type;
                const DECLARED: &'static $crate::env::Declared = &$crate::env::Declared {
                    name: stringify!($name),
                    doc: concat!($($doc,)+).trim_ascii(),
                    type_name: <$type as $crate::value::EnvValue>::TYPE,
                    secret: <$type as $crate::value::EnvValue>::SECRET,
                    set_by: $crate::env::SetBy::$set_by,
                    fallbacks: &[$($fallback),*],
                    canonical: |text| {
                        <$type as $crate::value::EnvValue>::parse(text)
                            .map(|value| $crate::value::EnvValue::to_env(&value))
                    },
                };
            }
        )+

        /// Every variable that any process of the stack or the harness reads, in the order of their declaration.
        pub const REGISTRY: &[&$crate::env::Declared] =
            &[$(<$name as $crate::env::Variable>::DECLARED,)+];
    };
}

pub(crate) use variables;
