//! Values in layers: defaults < env file < local file < process < command line, each with its origin.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use serde::{Deserialize, Serialize};

use super::declared::{REGISTRY, STELAE_ROOT};
use super::env_file::Piece;
use super::programs::declared;
use super::resolution::resolve_all;
use super::{Assignment, Declared, Given, SetBy, Variable, nearest, parse_env_file};
use crate::value::{EnvValue, digest};
use crate::{ExitCode, Failure};

/// Where a value can come from, weakest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Layer {
    /// The declaration's own fallback.
    Default,
    /// What only the harness sets.
    Harness,
    /// `.env` in the repository's root, or the file given with `--env-file`.
    EnvFile,
    /// `.env.local` in the repository's root.
    LocalFile,
    /// The environment of this process.
    Process,
    /// `--set NAME=VALUE`.
    CommandLine,
}

impl Layer {
    /// The words used in tables.
    pub const fn words(self) -> &'static str {
        match self {
            Self::Default => "default",
            Self::Harness => "the harness",
            Self::EnvFile => "env file",
            Self::LocalFile => "local file",
            Self::Process => "process",
            Self::CommandLine => "command line",
        }
    }
}

/// A place in a file, for people: counted from 1, columns in characters.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Place {
    /// Path of the file, as it was given.
    pub file: String,
    /// The line.
    pub line: usize,
    /// The character within the line.
    pub column: usize,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}", self.file, self.line, self.column)
    }
}

/// Where a value came from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Origin {
    /// The layer.
    pub layer: Layer,
    /// Where its name stands in a file, if it does.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub place: Option<Place>,
    /// The text it was made from, where that is not the value itself: `http://${PROXY_HOST}:${PROXY_PORT}`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub made_from: Option<String>,
}

/// One env file, read.
#[derive(Debug)]
pub struct EnvFile {
    /// `EnvFile` or `LocalFile`.
    pub layer: Layer,
    /// Its path, for messages.
    pub path: String,
    /// Its text.
    pub text: String,
}

/// Everything that values can come from. Reading it is an effect; deciding between it is not.
#[derive(Debug, Default)]
pub struct Layers {
    /// What the harness gives to variables of its own: its root, its folder of programs, its run. The only layer that they
    /// are taken from.
    pub given: Vec<Given>,
    /// Env files.
    pub files: Vec<EnvFile>,
    /// The environment of this process. Undeclared names are not looked at, unless they begin with `STELAE_`; what only the
    /// harness sets is not taken: `git` sets `GIT_INDEX_FILE` for its hooks, and a stack its own names for its servers.
    pub process: Vec<(String, String)>,
    /// `--set NAME=VALUE`.
    pub command_line: Vec<(String, String)>,
}

/// A variable with its value and origin.
#[derive(Debug)]
pub struct Resolved {
    /// The declaration.
    pub declared: &'static Declared,
    /// The text in canonical form; none when nobody set it and no fallback holds.
    pub value: Option<String>,
    /// Where the value came from.
    pub origin: Origin,
    /// Weaker layers that said something too, strongest first.
    pub overridden: Vec<Origin>,
}

impl Resolved {
    /// The value as it may be printed.
    pub fn shown(&self) -> Option<String> {
        let value = self.value.as_ref()?;
        Some(if self.declared.secret { digest(value) } else { value.clone() })
    }
}

/// All declared variables, resolved.
#[derive(Debug)]
pub struct Environment {
    values: BTreeMap<&'static str, Resolved>,
    not_taken: BTreeSet<&'static str>,
}

impl Environment {
    /// Decides the value of every declared variable.
    ///
    /// # Errors
    /// Exit 20, with file, line and column where there is one: `unknown-variable`, `not-settable`, `bad-value`, `cycle`,
    /// `missing-variable` (a reference to something unset), and what [`parse_env_file`] finds.
    pub fn resolve(layers: &Layers) -> Result<Self, Failure> {
        let said = collect(layers)?;
        let names = layers.process.iter().filter_map(|(name, _)| declared(name));
        let not_taken = names.filter(|declared| declared.set_by.is_harness()).map(|declared| declared.name);
        Ok(Self { values: resolve_all(&said)?, not_taken: not_taken.collect() })
    }

    /// Whether the calling process has a variable of this name that was not taken, because only the harness sets it.
    pub fn not_taken(&self, name: &str) -> bool {
        self.not_taken.contains(name)
    }

    /// The typed value of a variable.
    ///
    /// # Errors
    /// Exit 20, `missing-variable`, when it has none and its type is not `Option`.
    pub fn get<V: Variable>(&self) -> Result<V::Value, Failure> {
        let name = V::DECLARED.name;
        let text = self.text(name).unwrap_or("");
        // Set values were checked when they were resolved; what fails here is an unset one that may not be.
        V::Value::parse(text).map_err(|_| {
            Failure::new(ExitCode::Environment, "missing-variable", format!("{name} has no value"))
                .because(V::DECLARED.doc.to_owned())
                .hint(format!("cargo xtask env explain {name}"))
        })
    }

    /// The text of a variable, by name.
    pub fn text(&self, name: &str) -> Option<&str> {
        self.values.get(name)?.value.as_deref()
    }

    /// A variable with its origin.
    pub fn resolved(&self, name: &str) -> Option<&Resolved> {
        self.values.get(name)
    }

    /// All variables, in the order of their declaration.
    pub fn iter(&self) -> impl Iterator<Item = &Resolved> {
        REGISTRY.iter().filter_map(|declared| self.values.get(declared.name))
    }
}

/// Reads an env file of a program's own: any names, values may refer to variables of the stack.
///
/// # Errors
/// Exit 20: what [`parse_env_file`] finds, and a reference to what is unknown or unset.
pub fn expand_env_file(
    path: &str,
    text: &str,
    environment: &Environment,
) -> Result<BTreeMap<String, String>, Failure> {
    let mut values = BTreeMap::new();
    for Assignment { name, value, line, value_column, .. } in parse_env_file(path, text)? {
        let mut expanded = String::new();
        for piece in value {
            match piece {
                Piece::Text(literal) => expanded.push_str(&literal),
                Piece::Variable(other) => expanded.push_str(environment.text(&other).ok_or_else(|| {
                    Failure::new(ExitCode::Environment, "missing-variable", format!("{other} has no value"))
                        .on(format!("{path}:{line}:{value_column}"))
                        .because(format!("{name} refers to it"))
                        .hint("cargo xtask env show lists what there is")
                })?),
            }
        }
        values.insert(name, expanded);
    }
    Ok(values)
}

/// One thing that a layer says about a variable.
#[derive(Clone, Debug)]
pub(super) struct Said {
    pub(super) pieces: Vec<Piece>,
    pub(super) origin: Origin,
    /// Where the value itself stands: what is wrong with a value is not wrong with its name.
    pub(super) value_place: Option<Place>,
}

/// What all layers say, per variable, strongest first.
pub(super) type AllSaid = BTreeMap<&'static str, Vec<Said>>;

fn collect(layers: &Layers) -> Result<AllSaid, Failure> {
    let mut said = AllSaid::new();
    let mut add = |name: &'static str, pieces, layer, places: Option<(Place, Place)>| {
        let (place, value_place) = places.unzip();
        let origin = Origin { layer, place, made_from: None };
        said.entry(name).or_default().insert(0, Said { pieces, origin, value_place });
    };
    for given in &layers.given {
        add(given.declared().name, vec![Piece::Text(given.text().to_owned())], Layer::Harness, None);
    }
    for file in &layers.files {
        for assignment in parse_env_file(&file.path, &file.text)? {
            let at = |column| Place { file: file.path.clone(), line: assignment.line, column };
            let (place, value_place) = (at(assignment.column), at(assignment.value_column));
            let name = settable(&assignment.name, file.layer, Some(&place))?.name;
            add(name, assignment.value, file.layer, Some((place, value_place)));
        }
    }
    for (name, value) in &layers.process {
        if declared(name).is_none() && !name.starts_with("STELAE_") {
            continue;
        }
        if declared(name).is_some_and(|declared| declared.set_by == SetBy::Derived) {
            agree_with_derived(name, value, layers)?;
            continue;
        }
        // Not an error: it was set for another program (git's hooks), or for another run.
        if declared(name).is_some_and(|declared| declared.set_by.is_harness()) {
            continue;
        }
        add(
            settable(name, Layer::Process, None)?.name,
            vec![Piece::Text(value.clone())],
            Layer::Process,
            None,
        );
    }
    for (name, value) in &layers.command_line {
        let name = settable(name, Layer::CommandLine, None)?.name;
        add(name, vec![Piece::Text(value.clone())], Layer::CommandLine, None);
    }
    Ok(said)
}

/// A process started by the harness is handed derived variables too: they must be what this one derives.
fn agree_with_derived(name: &str, value: &str, layers: &Layers) -> Result<(), Failure> {
    let without = layers.process.iter().filter(|(other, _)| !is_derived(other)).cloned().collect();
    let again = Layers {
        given: layers.given.clone(),
        files: layers.files.iter().map(EnvFile::copy).collect(),
        process: without,
        command_line: layers.command_line.clone(),
    };
    let derived = Environment::resolve(&again)?;
    match derived.text(name) {
        Some(text) if text == value => Ok(()),
        other => Err(Failure::new(
            ExitCode::Environment,
            "not-settable",
            format!("{name} is derived, and differs"),
        )
        .because(format!("the process has {value:?}, derived is {:?}", other.unwrap_or("nothing")))
        .hint(format!("unset {name}; see: cargo xtask env explain {name}"))),
    }
}

fn is_derived(name: &str) -> bool {
    declared(name).is_some_and(|declared| declared.set_by == SetBy::Derived)
}

impl EnvFile {
    fn copy(&self) -> Self {
        Self { layer: self.layer, path: self.path.clone(), text: self.text.clone() }
    }
}

/// The declaration of `name`, if `layer` may set it.
fn settable(name: &str, layer: Layer, place: Option<&Place>) -> Result<&'static Declared, Failure> {
    let at = |failure: Failure| match place {
        Some(place) => failure.on(place.to_string()),
        None => failure.on(format!("{}: {name}", layer.words())),
    };
    let Some(declared) = declared(name) else {
        let unknown = at(Failure::new(
            ExitCode::Environment,
            "unknown-variable",
            format!("{name} is not a variable of this stack"),
        ));
        let known = REGISTRY.iter().map(|declared| declared.name);
        return Err(match nearest(name, known) {
            Some(near) => unknown.hint(format!("did you mean {near}? see: cargo xtask env explain {near}")),
            None => unknown.hint("cargo xtask env show lists what there is"),
        });
    };
    let allowed = match declared.set_by {
        SetBy::Anyone => true,
        SetBy::Host => matches!(layer, Layer::Process | Layer::CommandLine),
        SetBy::Harness | SetBy::Fixed | SetBy::Derived => false,
    };
    if allowed {
        return Ok(declared);
    }
    Err(at(Failure::new(
        ExitCode::Environment,
        "not-settable",
        format!("{name} cannot be set in this place ({})", layer.words()),
    ))
    .because(format!("it is set by: {}", declared.set_by.words()))
    .hint(instead_of_setting(declared)))
}

/// What a user types who wanted to set a variable that is not settable.
fn instead_of_setting(declared: &Declared) -> String {
    match declared.name {
        name if name == STELAE_ROOT::DECLARED.name => "name the root of a repository: --root PATH".to_owned(),
        name => format!("cargo xtask env explain {name}"),
    }
}

#[cfg(test)]
mod tests;
