//! In which order the processes of a stack are started.

use std::collections::{BTreeMap, BTreeSet};

use super::Stack;
use crate::env::nearest;
use crate::{ExitCode, Failure};

/// The gateway's name among the services; no service can have it.
pub const GATEWAY: &str = "gateway";

/// One process of the plan.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Planned {
    /// A service's name, or [`GATEWAY`].
    pub name: String,
    /// The services that have to be ready before.
    pub needs: BTreeSet<String>,
}

/// Every process of the stack, each after everything that it needs, the gateway last; of those that may change places,
/// in the order of their names.
///
/// # Errors
/// Exit 20: `unknown-service`, with a suggestion; `needs-cycle`, with the circle. `on` has the key without the file.
pub fn plan_start(stack: &Stack) -> Result<Vec<Planned>, Failure> {
    let mut waiting: BTreeMap<&str, BTreeSet<String>> = BTreeMap::new();
    for (name, service) in &stack.services {
        known(stack, &format!("services.{name}.needs"), &service.needs)?;
        waiting.insert(name, service.needs.iter().cloned().collect());
    }
    let mut order = Vec::new();
    while let Some(name) = next(&waiting) {
        let needs = waiting.remove(name.as_str()).unwrap_or_default();
        order.push(Planned { name, needs });
    }
    if let Some(name) = waiting.keys().next() {
        return Err(cycle(&waiting, name));
    }
    let needs = match &stack.gateway.needs {
        Some(needs) => {
            known(stack, "gateway.needs", needs)?;
            needs.iter().cloned().collect()
        }
        None => stack.services.keys().cloned().collect(),
    };
    order.push(Planned { name: GATEWAY.to_owned(), needs });
    Ok(order)
}

/// That every foreign gateway needs services that there are.
///
/// # Errors
/// As [`plan_start`].
pub(super) fn check_foreign_needs(stack: &Stack) -> Result<(), Failure> {
    let mut needs = stack.gateways.iter().filter_map(|(name, gateway)| Some((name, gateway.needs.as_ref()?)));
    needs.try_for_each(|(name, needs)| known(stack, &format!("gateways.{name}.needs"), needs))
}

/// The first of those that wait for none of the others.
fn next(waiting: &BTreeMap<&str, BTreeSet<String>>) -> Option<String> {
    let waits = |needs: &BTreeSet<String>| needs.iter().any(|need| waiting.contains_key(need.as_str()));
    waiting.iter().find(|(_, needs)| !waits(needs)).map(|(name, _)| (*name).to_owned())
}

fn known(stack: &Stack, key: &str, needs: &[String]) -> Result<(), Failure> {
    let Some(unknown) = needs.iter().find(|&need| !stack.services.contains_key(need)) else { return Ok(()) };
    let failure =
        Failure::new(ExitCode::Environment, "unknown-service", format!("there is no service {unknown:?}"))
            .on(key.to_owned());
    if unknown == GATEWAY {
        return Err(failure
            .because("the gateway is started last, so nobody can need it")
            .hint("take it out"));
    }
    let names: Vec<&str> = stack.services.keys().map(String::as_str).collect();
    Err(match nearest(unknown, names.iter().copied()) {
        Some(near) => failure.hint(format!("did you mean {near}?")),
        None if names.is_empty() => {
            failure.hint("there are no services; one is described by [services.NAME]")
        }
        None => failure.hint(format!("the services are: {}", names.join(", "))),
    })
}

/// Everybody in `waiting` needs somebody in it, so whoever goes from need to need comes round.
fn cycle(waiting: &BTreeMap<&str, BTreeSet<String>>, from: &str) -> Failure {
    let mut way = vec![from.to_owned()];
    loop {
        let here = way.last().map_or(from, String::as_str);
        let needs = waiting.get(here).into_iter().flatten();
        let Some(next) = needs.into_iter().find(|need| waiting.contains_key(need.as_str())).cloned() else {
            return Failure::unexpected(format!("{here} needs nobody, and was not planned"));
        };
        if let Some(at) = way.iter().position(|name| *name == next) {
            way.push(next);
            return circle(&way[at..]);
        }
        way.push(next);
    }
}

fn circle(way: &[String]) -> Failure {
    let what = "services need each other in a circle, so none of them can be the first";
    Failure::new(ExitCode::Environment, "needs-cycle", what)
        .on(format!("services.{}.needs", way[0]))
        .because(format!("{}: each needs the next", way.join(" -> ")))
        .hint("take one of these names out of its `needs`")
}

#[cfg(test)]
mod tests {
    use super::super::{parse_stack, tests::GOOD};
    use super::*;

    fn stack(needs: &[(&str, &str)]) -> Result<Stack, Failure> {
        let services = needs
            .iter()
            .map(|(name, needs)| format!("[services.{name}]\ncommand = \"x\"\nneeds = [{needs}]\n"));
        parse_stack("stack.toml", &format!("{GOOD}{}", services.collect::<String>()))
    }

    fn names(order: &[Planned]) -> Vec<&str> {
        order.iter().map(|planned| planned.name.as_str()).collect()
    }

    #[test]
    fn each_comes_after_what_it_needs_and_the_gateway_comes_last() {
        let stack = stack(&[("a", "\"d\""), ("b", ""), ("c", "\"a\", \"b\""), ("d", "")]).unwrap();
        let order = plan_start(&stack).unwrap();
        assert_eq!(names(&order), ["b", "d", "a", "c", "gateway"]);
        assert_eq!(order[4].needs.len(), 4);
    }

    #[test]
    fn the_gateway_needs_all_of_them_or_what_it_says() {
        let mut stack = stack(&[("a", ""), ("b", "")]).unwrap();
        stack.gateway.needs = Some(vec!["b".to_owned()]);
        assert_eq!(plan_start(&stack).unwrap()[2].needs, BTreeSet::from(["b".to_owned()]));
        stack.gateway.needs = Some(Vec::new());
        assert!(plan_start(&stack).unwrap()[2].needs.is_empty());
        stack.gateway.needs = Some(vec!["c".to_owned()]);
        assert_eq!(plan_start(&stack).unwrap_err().on, ["gateway.needs"]);
    }

    #[test]
    fn an_unknown_name_has_a_suggestion() {
        let failure = stack(&[("database", ""), ("cache", "\"databse\"")]).unwrap_err();
        assert_eq!((failure.exit_code, failure.kind.as_str()), (ExitCode::Environment, "unknown-service"));
        assert_eq!(failure.on, ["stack.toml: services.cache.needs"]);
        assert_eq!(failure.hint.as_deref(), Some("did you mean database?"));
        let failure = stack(&[("a", "\"zebra\"")]).unwrap_err();
        assert_eq!(failure.hint.as_deref(), Some("the services are: a"));
        let failure = stack(&[("a", "\"gateway\"")]).unwrap_err();
        assert!(failure.why[0].contains("started last"), "{failure}");
    }

    #[test]
    fn a_circle_is_named_without_those_who_only_wait_for_it() {
        let failure =
            stack(&[("a", "\"c\""), ("b", "\"c\""), ("c", "\"d\""), ("d", "\"b\""), ("e", "")]).unwrap_err();
        assert_eq!((failure.exit_code, failure.kind.as_str()), (ExitCode::Environment, "needs-cycle"));
        assert_eq!(failure.why, ["c -> d -> b -> c: each needs the next"]);
        assert_eq!(failure.on, ["stack.toml: services.c.needs"]);
        assert_eq!(stack(&[("a", "\"a\"")]).unwrap_err().why, ["a -> a: each needs the next"]);
    }
}
