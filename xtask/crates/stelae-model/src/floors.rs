//! How many tests each target has to execute at the least: `tests/floors.toml`, compared with what `cargo test` said.
//!
//! A test that is disabled, ignored, filtered out, or that skips itself is not executed. Floors are raised by `cargo xtask docs` and
//! lowered by hand, so that fewer tests are always a change that a person sees.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::stack::parse_toml;
use crate::{ExitCode, Failure};

/// Where the floors are, in a root.
pub const FILE: &str = "tests/floors.toml";

const HEAD: &str = "# So many tests has each target to execute at the least in `cargo xtask ci`: one that is ignored, filtered out or\n\
                    # that skips itself does not count. `cargo xtask docs` raises these numbers to what the last `ci` executed; they are lowered\n\
                    # by hand. After a merge conflict keep the higher number of each line.\n\
                    version = 1\n\n[floors]\n";

/// The whole file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Floors {
    /// Version of this file's shape: 1.
    version: u32,
    /// Executed tests by target, as [`Counted`] names it.
    pub floors: BTreeMap<String, u64>,
}

impl Default for Floors {
    fn default() -> Self {
        Self { version: 1, floors: BTreeMap::new() }
    }
}

impl Floors {
    /// Reads the file.
    ///
    /// # Errors
    /// Exit 20, `test-floors`, with its place.
    pub fn parse(path: &str, text: &str) -> Result<Self, Failure> {
        parse_toml("test-floors", path, text)
    }

    /// The text of the file: a line for each target, sorted.
    pub fn text(&self) -> String {
        let line = |(target, floor): (&String, &u64)| format!("{target:?} = {floor}\n");
        self.floors.iter().map(line).fold(HEAD.to_owned(), |text, line| text + &line)
    }

    /// The same, raised to what was executed; nothing is lowered.
    #[must_use]
    pub fn raised(mut self, counted: &Counted) -> Self {
        for (target, count) in &counted.targets {
            let floor = self.floors.entry(target.clone()).or_default();
            *floor = (*floor).max(count.executed);
        }
        self
    }

    /// That each of these targets has executed as many tests as its floor says.
    ///
    /// # Errors
    /// Exit 10, `tests-below-floor`: fewer, or a target that is missing, or one that has no floor yet.
    pub fn check(&self, counted: &Counted, wanted: Wanted<'_>) -> Result<(), Failure> {
        let mut wrong: Vec<(String, String)> = Vec::new();
        for (target, floor) in self.floors.iter().filter(|(target, _)| wanted.has(target)) {
            match counted.targets.get(target) {
                None => wrong.push((target.clone(), format!("it was not run, and its floor is {floor}"))),
                Some(count) if count.executed < *floor => {
                    wrong.push((target.clone(), format!("{}, and its floor is {floor}", count.told())));
                }
                Some(_) => {}
            }
        }
        let unknown = counted.targets.iter().filter(|(target, _)| !self.floors.contains_key(*target));
        wrong.extend(
            unknown.map(|(target, count)| (target.clone(), format!("{}, and it has no floor", count.told()))),
        );
        if wrong.is_empty() {
            return Ok(());
        }
        let what = "fewer tests were executed than the repository asks for";
        let failure = Failure::new(ExitCode::StepFailed, "tests-below-floor", what);
        let failure = wrong.iter().fold(failure, |failure, (target, why)| {
            failure.on(target.clone()).because(format!("{target}: {why}"))
        });
        Err(failure.hint(format!(
            "a new target gets its floor by: cargo xtask docs; where fewer tests are meant, lower {FILE} by hand"
        )))
    }
}

/// Which targets a command has to run.
#[derive(Clone, Copy, Debug)]
pub enum Wanted<'a> {
    /// Every one that has a floor.
    All,
    /// This one.
    Only(&'a str),
}

impl Wanted<'_> {
    fn has(self, target: &str) -> bool {
        match self {
            Self::All => true,
            Self::Only(only) => only == target,
        }
    }
}

/// What one target has executed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Count {
    /// Tests that passed or failed, without those that said that they skipped themselves.
    pub executed: u64,
    /// Why tests skipped themselves, as they said it.
    pub skipped: Vec<String>,
}

impl Count {
    fn told(&self) -> String {
        let skipped = match self.skipped.as_slice() {
            [] => String::new(),
            why => format!(" ({} skipped: {})", why.len(), why.join("; ")),
        };
        format!("it executed {}{skipped}", self.executed)
    }
}

/// What `cargo test` has executed, by target: `stelae_model src/lib.rs`, `smoke smoke/main.rs`, `doc-tests stelae_run`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Counted {
    /// By target.
    pub targets: BTreeMap<String, Count>,
}

impl Counted {
    /// Reads what `cargo test` and the tests wrote to both of their outputs. A target that did not come to its result counts
    /// as one that executed nothing. Of two targets with one name the numbers are added up.
    pub fn read(output: &str) -> Self {
        let (mut counted, mut current) = (Self::default(), None::<(String, Count)>);
        for line in output.lines() {
            if let Some(target) = target(line) {
                counted.add(current.replace((target, Count::default())));
            } else if let Some((target, count)) = &mut current {
                if let Some(executed) = result(line) {
                    // rustdoc says two results: of the examples that it merged into one program, and of the others. Any other target
                    // says one, after whatever the tests themselves have printed.
                    let before = if target.starts_with(DOC_TESTS) { count.executed } else { 0 };
                    count.executed = before.saturating_add(executed);
                } else if let Some(why) = line.trim_start().strip_prefix("skipped: ") {
                    count.skipped.push(why.to_owned());
                }
            }
        }
        counted.add(current);
        counted
    }

    fn add(&mut self, target: Option<(String, Count)>) {
        let Some((target, count)) = target else { return };
        let skipped = u64::try_from(count.skipped.len()).unwrap_or(u64::MAX);
        let all = self.targets.entry(target).or_default();
        all.executed += count.executed.saturating_sub(skipped);
        all.skipped.extend(count.skipped);
    }
}

/// What the name of a target of examples begins with.
const DOC_TESTS: &str = "doc-tests ";

/// The target of cargo's line before its tests: `Running unittests src/lib.rs (target/debug/deps/stelae_model-0123abc)`,
/// `Running tests/it/main.rs (…/it-0123abc)`, `Doc-tests stelae_model`.
fn target(line: &str) -> Option<String> {
    let line = line.trim();
    if let Some(name) = line.strip_prefix("Doc-tests ") {
        return Some(format!("{DOC_TESTS}{name}"));
    }
    let (source, program) = line.strip_prefix("Running ")?.strip_suffix(')')?.rsplit_once(" (")?;
    let (_, file) = program.rsplit_once(['/', '\\'])?;
    let (name, hash) = file.strip_suffix(".exe").unwrap_or(file).rsplit_once('-')?;
    let is_hash = hash.len() == 16 && hash.bytes().all(|byte| byte.is_ascii_hexdigit());
    let source = source.strip_prefix("unittests ").unwrap_or(source);
    is_hash.then(|| format!("{name} {source}"))
}

/// Passed and failed of libtest's last line: `test result: ok. 12 passed; 0 failed; 1 ignored; 0 measured; 3 filtered out; …`.
fn result(line: &str) -> Option<u64> {
    let (_, counts) = line.strip_prefix("test result: ")?.split_once(". ")?;
    let count = |word: &str| {
        let part = counts.split("; ").find_map(|part| part.strip_suffix(word))?;
        part.trim().parse::<u64>().ok()
    };
    Some(count(" passed")? + count(" failed")?)
}

#[cfg(test)]
mod tests {
    use super::*;

    const OUTPUT: &str = "   Compiling stelae-model v0.1.0
    Finished `test` profile [unoptimized + debuginfo] target(s) in 2.50s
     Running unittests src/lib.rs (target/debug/deps/stelae_model-00c0ffee00c0ffee)

running 4 tests
test a ... ok
test b ... FAILED
test c ... ignored
Running away (is/no-target)
test d ... ok

failures:
test result: FAILED. 2 passed; 1 failed; 1 ignored; 0 measured; 7 filtered out; finished in 0.01s

error: test failed, to rerun pass `-p stelae-model --lib`
     Running tests/it/main.rs (target/debug/deps/it-0123456789abcdef)

running 3 tests
skipped: no namespaces on this machine
test result: ok. 3 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.00s

     Running unittests src/main.rs (/elsewhere/deps/dead-fedcba9876543210)

running 9 tests
   Doc-tests stelae_model

running 4 tests

test result: ok. 4 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.00s


running 3 tests

test result: ok. 3 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.11s

all doctests ran in 0.75s; merged doctests compilation took 0.62s
   Doc-tests stelae_run

running 0 tests

test result: ok. 0 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.00s
";

    fn floors(text: &str) -> Floors {
        Floors::parse("f", &format!("version = 1\n[floors]\n{text}")).unwrap()
    }

    #[test]
    fn what_was_executed_is_read_from_the_output() {
        let counted = Counted::read(OUTPUT);
        let executed: Vec<_> =
            counted.targets.iter().map(|(target, count)| (target.as_str(), count.executed)).collect();
        assert_eq!(
            executed,
            [
                ("dead src/main.rs", 0),
                ("doc-tests stelae_model", 7),
                ("doc-tests stelae_run", 0),
                ("it tests/it/main.rs", 2),
                ("stelae_model src/lib.rs", 3)
            ]
        );
        assert_eq!(counted.targets["it tests/it/main.rs"].skipped, ["no namespaces on this machine"]);
        assert_eq!(Counted::read("no cargo at all"), Counted::default());
    }

    #[test]
    fn each_target_has_to_reach_its_floor() {
        let counted = Counted::read(OUTPUT);
        let good = Floors::default().raised(&counted);
        assert_eq!(good.check(&counted, Wanted::All), Ok(()));
        let fails = |floors: &Floors, wanted: Wanted<'_>, why: &str| {
            let failure = floors.check(&counted, wanted).unwrap_err();
            assert_eq!(
                (failure.exit_code, failure.kind.as_str()),
                (ExitCode::StepFailed, "tests-below-floor")
            );
            assert_eq!(failure.why, [why]);
        };
        let with = |target: &str, floor: u64| {
            let mut floors = good.clone();
            floors.floors.insert(target.to_owned(), floor);
            floors
        };
        let below = "stelae_model src/lib.rs: it executed 3, and its floor is 4";
        fails(&with("stelae_model src/lib.rs", 4), Wanted::All, below);
        let skipped = "it tests/it/main.rs: it executed 2 (1 skipped: no namespaces on this machine), and its floor is 3";
        fails(&with("it tests/it/main.rs", 3), Wanted::All, skipped);
        let gone = with("gone src/lib.rs", 1);
        fails(&gone, Wanted::All, "gone src/lib.rs: it was not run, and its floor is 1");
        assert_eq!(gone.check(&counted, Wanted::Only("dead src/main.rs")), Ok(()));
        let mut new = good;
        new.floors.remove("stelae_model src/lib.rs");
        fails(&new, Wanted::All, "stelae_model src/lib.rs: it executed 3, and it has no floor");
    }

    #[test]
    fn floors_are_raised_and_never_lowered_and_read_back() {
        let counted = Counted::read(OUTPUT);
        let raised =
            floors("\"stelae_model src/lib.rs\" = 9\n\"it tests/it/main.rs\" = 1\n").raised(&counted);
        assert_eq!((raised.floors["stelae_model src/lib.rs"], raised.floors["it tests/it/main.rs"]), (9, 2));
        assert_eq!(Floors::parse("f", &raised.text()).unwrap(), raised);
        assert!(raised.text().contains("\n\"it tests/it/main.rs\" = 2\n"), "{}", raised.text());
    }

    #[test]
    fn a_file_that_cannot_be_meant_is_refused() {
        for text in
            ["", "version = 2\n[floors]\n", "version = 1\n[floors]\na = -1\n", "version = 1\n[floor]\n"]
        {
            let failure = Floors::parse("f", text).unwrap_err();
            assert_eq!((failure.exit_code, failure.kind.as_str()), (ExitCode::Environment, "test-floors"));
        }
    }
}
