//! From what the layers say to one value per variable: references followed, circles found, types checked.

use std::collections::{BTreeMap, BTreeSet};

use super::declared::REGISTRY;
use super::env_file::{Piece, fallback_pieces};
use super::environment::{AllSaid, Layer, Origin, Resolved};
use super::programs::declared;
use super::{Declared, nearest};
use crate::{ExitCode, Failure};

/// The value of every declared variable.
///
/// # Errors
/// Exit 20: `bad-value`, `cycle`, `unknown-variable`, `missing-variable`.
pub(super) fn resolve_all(said: &AllSaid) -> Result<BTreeMap<&'static str, Resolved>, Failure> {
    let mut resolution = Resolution { said, done: BTreeMap::new(), under_way: Vec::new() };
    for declared in REGISTRY {
        resolution.resolve(declared)?;
    }
    Ok(resolution.done)
}

struct Resolution<'a> {
    said: &'a AllSaid,
    done: BTreeMap<&'static str, Resolved>,
    under_way: Vec<&'static str>,
}

impl Resolution<'_> {
    fn resolve(&mut self, declared: &'static Declared) -> Result<Option<String>, Failure> {
        if let Some(resolved) = self.done.get(declared.name) {
            return Ok(resolved.value.clone());
        }
        if let Some(start) = self.under_way.iter().position(|&name| name == declared.name) {
            let mut circle = self.under_way[start..].to_vec();
            circle.push(declared.name);
            return Err(self.located(
                declared,
                Failure::new(ExitCode::Environment, "cycle", "variables refer to each other in a circle")
                    .because(circle.join(" -> "))
                    .hint("give one of them a value of its own"),
            ));
        }
        self.under_way.push(declared.name);
        let (value, origin) = self.decide(declared)?;
        self.under_way.pop();
        let said = self.said.get(declared.name).map_or(&[][..], Vec::as_slice);
        let overridden = said.iter().skip(1).map(|said| said.origin.clone()).collect();
        self.done.insert(declared.name, Resolved { declared, value: value.clone(), origin, overridden });
        Ok(value)
    }

    fn decide(&mut self, declared: &'static Declared) -> Result<(Option<String>, Origin), Failure> {
        if let Some(said) = self.said.get(declared.name).and_then(|said| said.first()) {
            let text = self.expand(declared, &said.pieces)?;
            return Ok((self.checked(declared, &text)?, said.origin.clone()));
        }
        let default = |made_from| Origin { layer: Layer::Default, place: None, made_from };
        for &fallback in declared.fallbacks {
            let pieces = fallback_pieces(fallback).map_err(Failure::unexpected)?;
            let known: BTreeSet<_> = pieces.iter().filter_map(referenced).collect();
            let mut all_set = true;
            for name in known {
                all_set &= self.resolve(name)?.is_some();
            }
            if all_set {
                let text = self.expand(declared, &pieces)?;
                let made_from = fallback.contains("${").then(|| fallback.to_owned());
                return Ok((self.checked(declared, &text)?, default(made_from)));
            }
        }
        Ok((None, default(None)))
    }

    fn expand(&mut self, declared: &'static Declared, pieces: &[Piece]) -> Result<String, Failure> {
        let mut text = String::new();
        for piece in pieces {
            let name = match piece {
                Piece::Text(literal) => {
                    text.push_str(literal);
                    continue;
                }
                Piece::Variable(name) => name,
            };
            let missing = |kind: &str, what: String| {
                Failure::new(ExitCode::Environment, kind, what)
                    .because(format!("{} refers to it", declared.name))
            };
            let Some(referred) = super::programs::declared(name) else {
                let near = nearest(name, REGISTRY.iter().map(|declared| declared.name));
                let failure = missing("unknown-variable", format!("{name} is not a variable of this stack"));
                let hint = near.map_or("cargo xtask env show lists what there is".to_owned(), |near| {
                    format!("did you mean ${{{near}}}?")
                });
                return Err(self.located(declared, failure.hint(hint)));
            };
            match self.resolve(referred)? {
                Some(value) => text.push_str(&value),
                None => {
                    let failure = missing("missing-variable", format!("{name} has no value"));
                    return Err(
                        self.located(declared, failure.hint(format!("cargo xtask env explain {name}")))
                    );
                }
            }
        }
        Ok(text)
    }

    fn checked(&self, declared: &'static Declared, text: &str) -> Result<Option<String>, Failure> {
        (declared.canonical)(text).map_err(|why| {
            let shown = if declared.secret { "its value".to_owned() } else { format!("{text:?}") };
            self.located(
                declared,
                Failure::new(
                    ExitCode::Environment,
                    "bad-value",
                    format!("{} is not a valid {}", declared.name, declared.type_name),
                )
                .because(format!("{shown} {why}"))
                .hint(format!("cargo xtask env explain {}", declared.name)),
            )
        })
    }

    /// Says where the value that is to blame was given.
    fn located(&self, declared: &'static Declared, failure: Failure) -> Failure {
        let Some(said) = self.said.get(declared.name).and_then(|said| said.first()) else { return failure };
        match &said.value_place {
            Some(place) => failure.on(place.to_string()),
            None => failure.on(format!("{}: {}", said.origin.layer.words(), declared.name)),
        }
    }
}

fn referenced(piece: &Piece) -> Option<&'static Declared> {
    match piece {
        Piece::Variable(name) => declared(name),
        Piece::Text(_) => None,
    }
}
