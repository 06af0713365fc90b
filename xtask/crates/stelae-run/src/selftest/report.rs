//! What the witnesses came to.

use serde::Serialize;
use stelae_model::terminal::Lines;
use stelae_model::{ExitCode, Failure};

use super::Witness;

/// The whole of it.
#[derive(Debug, Serialize)]
pub struct Report {
    /// Version of this schema: 1.
    pub schema: u32,
    /// One row per code, in ascending order.
    pub rows: Vec<Row>,
}

impl Default for Report {
    fn default() -> Self {
        Self { schema: 1, rows: Vec::new() }
    }
}

/// One code.
#[derive(Clone, Debug, Serialize)]
pub struct Row {
    /// Its number.
    pub code: ExitCode,
    /// Its name.
    pub name: &'static str,
    /// What the witness does; absent for a code that has none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub scenario: Option<&'static str>,
    /// How it came out.
    pub verdict: Verdict,
    /// What was seen instead.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub saw: Vec<String>,
    /// What a reader should know besides.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub notes: Vec<String>,
    /// The feature that is going to end so.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub awaits: Option<&'static str>,
    /// How long that took.
    pub elapsed_ms: u128,
}

/// How it came out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    /// The child ended so, said so, and left nothing.
    Ok,
    /// It did not.
    Failed,
    /// Nothing ends so yet.
    Awaits,
    /// Nobody asked for it.
    LeftOut,
}

impl Row {
    fn of(code: ExitCode, verdict: Verdict) -> Self {
        Self {
            code,
            name: code.name(),
            scenario: None,
            verdict,
            saw: Vec::new(),
            notes: Vec::new(),
            awaits: None,
            elapsed_ms: 0,
        }
    }

    /// That of a witness who is not heard.
    pub(super) fn left_out(witness: &Witness) -> Self {
        Self { scenario: Some(witness.scenario), ..Self::of(witness.code, Verdict::LeftOut) }
    }

    /// That of one who was heard, and saw this instead, if anything.
    pub(super) fn heard(witness: &Witness, saw: Vec<String>, notes: Vec<String>) -> Self {
        let verdict = if saw.is_empty() { Verdict::Ok } else { Verdict::Failed };
        Self { scenario: Some(witness.scenario), saw, notes, ..Self::of(witness.code, verdict) }
    }

    /// That of a code for which there is no witness: fine only if nothing ends so yet.
    pub(super) fn without_witness(code: ExitCode) -> Self {
        match code.awaits() {
            Some(feature) => Self { awaits: Some(feature), ..Self::of(code, Verdict::Awaits) },
            None => Self { saw: vec!["it has no witness".to_owned()], ..Self::of(code, Verdict::Failed) },
        }
    }

    /// For a person: a line, and one more for everything that was seen instead.
    fn lines(&self) -> Lines {
        let scenario = self.scenario.map(|scenario| format!("{scenario}: ")).unwrap_or_default();
        let outcome = match self.verdict {
            Verdict::Ok => format!("ok ({} ms)", self.elapsed_ms),
            Verdict::Failed => "FAILED".to_owned(),
            Verdict::Awaits => format!("awaits: {}", self.awaits.unwrap_or_default()),
            Verdict::LeftOut => "left out".to_owned(),
        };
        let mut first = format!("{:>3}  {:<23}  {scenario}{outcome}", self.code.number(), self.name);
        first.extend(self.notes.iter().map(|note| format!("; {note}")));
        let saw = self.saw.iter().map(|line| format!("     {line}"));
        std::iter::once(first).chain(saw).collect()
    }
}

impl Report {
    /// The codes whose witnesses saw something else.
    pub fn failed(&self) -> Vec<&Row> {
        self.rows.iter().filter(|row| row.verdict == Verdict::Failed).collect()
    }

    /// For a person.
    pub fn lines(&self) -> Lines {
        let mut lines = Lines::default();
        self.rows.iter().for_each(|row| lines.append(&row.lines()));
        lines
    }

    /// That all who were heard saw what they should.
    ///
    /// # Errors
    /// Exit 10, `witness-failed`.
    pub fn check(&self) -> Result<(), Failure> {
        let failed = self.failed();
        if failed.is_empty() {
            return Ok(());
        }
        let what = format!("{} of the exit codes are not what they are said to be", failed.len());
        let failure = Failure::new(ExitCode::StepFailed, "witness-failed", what);
        let only = failed.iter().map(|row| format!(" --only {}", row.code.number())).collect::<String>();
        let failure = failed.iter().fold(failure, |failure, row| {
            failure.on(format!(
                "{} {}: {}",
                row.code.number(),
                row.name,
                row.scenario.unwrap_or("no witness")
            ))
        });
        Err(failure.hint(format!("cargo xtask selftest{only}")))
    }
}
