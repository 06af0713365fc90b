//! What it means to declare a variable.

use crate::value::EnvValue;

/// Who may give a variable its value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SetBy {
    /// Env files, the process environment and the command line.
    Anyone,
    /// The machine: only the process environment.
    Host,
    /// Only the harness, for the processes that it starts. What the calling process has under that name is not taken: see
    /// [`Given`].
    Harness,
    /// The harness, always to the value that the declaration says. What the calling process has is not taken either.
    Fixed,
    /// No layer: it is computed from other variables.
    Derived,
}

impl SetBy {
    /// The words used in `docs/ENV.md`.
    pub const fn words(self) -> &'static str {
        match self {
            Self::Anyone => "env files, process, command line",
            Self::Host => "process (the machine)",
            Self::Harness => "only the harness",
            Self::Fixed => "only the harness, always this",
            Self::Derived => "no layer: derived",
        }
    }

    /// Whether only the harness sets it, so that what the calling process has under its name is meant for another
    /// program.
    pub const fn is_harness(self) -> bool {
        matches!(self, Self::Harness | Self::Fixed)
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

/// A variable that only the harness sets. Declaring one as `Harness` is what implements this: no other place can.
pub trait HarnessVariable: Variable {}

/// A value that the harness gives to a variable of its own. There is no other way to give one: no layer that the user, the
/// calling process or a file can write is asked for such a variable.
#[derive(Clone, Debug)]
pub struct Given {
    declared: &'static Declared,
    text: String,
}

impl Given {
    /// Gives a value to the variable `V`; it is checked when the environment is resolved.
    pub fn of<V: HarnessVariable>(text: impl Into<String>) -> Self {
        Self { declared: V::DECLARED, text: text.into() }
    }

    pub(super) fn declared(&self) -> &'static Declared {
        self.declared
    }

    pub(super) fn text(&self) -> &str {
        &self.text
    }
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

            $crate::env::variable::mark_harness_variable! { $set_by $name }
        )+

        /// Every variable that any process of the stack or the harness reads, in the order of their declaration.
        pub const REGISTRY: &[&$crate::env::Declared] =
            &[$(<$name as $crate::env::Variable>::DECLARED,)+];
    };
}

/// Implements [`HarnessVariable`] for what is declared as `Harness`, and for nothing else.
macro_rules! mark_harness_variable {
    (Harness $name:ident) => {
        impl $crate::env::HarnessVariable for $name {}
    };
    ($set_by:ident $name:ident) => {};
}

pub(crate) use mark_harness_variable;
pub(crate) use variables;
