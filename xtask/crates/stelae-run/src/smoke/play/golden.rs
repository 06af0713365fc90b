//! A run as every run of the same agent gives it: put together stage by stage, kept, compared.

use std::collections::BTreeSet;

use camino::{Utf8Path, Utf8PathBuf};
use stelae_model::expect::Stage;
use stelae_model::golden::{Golden, GoldenStage, Masks, compare};
use stelae_model::stages::STAGES;
use stelae_model::{ExitCode, Failure};

use super::papers::Papers;
use super::verdict::{asked, transcript};
use crate::files::{self, read_regular_text};
use crate::smoke::context::SmokeContext;
use crate::smoke::description::{Compared, Description};

/// Where a root keeps what `--record` gave.
const FOLDER: &str = "config/golden";
/// Version of the schema of a golden run.
const SCHEMA: u32 = 1;
/// More differences than this are another run.
const MOST_SHOWN: usize = 20;

/// The file of the golden run of this name.
///
/// # Errors
/// Exit 2, `golden-name`, for a name that is no plain one.
pub fn golden_file(root: &Utf8Path, name: &str) -> Result<Utf8PathBuf, Failure> {
    let plain = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
    if name.is_empty() || name.starts_with('.') || !name.chars().all(plain) {
        let what = format!("{name:?} is no name for a golden run");
        return Err(Failure::new(ExitCode::Usage, "golden-name", what)
            .hint("letters, digits, `.`, `_` and `-`, as in codex-0.169.0"));
    }
    Ok(root.join(FOLDER).join(format!("{name}.json")))
}

/// Reads the golden run that is compared with: from the commit that is cloned, if that has it; else the one that the user has
/// recorded, and not committed.
///
/// # Errors
/// Exit 40, `golden-missing`, with what records it; `golden-unreadable`.
pub(crate) fn golden_to_compare(
    path: Option<&Utf8Path>,
    in_commit: Option<&str>,
    described: &Description,
) -> Result<Option<Compared>, Failure> {
    let Some(path) = path else { return Ok(None) };
    let hint = format!("cargo xtask smoke --agent AGENT --record {}", path.file_stem().unwrap_or_default());
    if let Some((in_commit, text)) = in_commit.and_then(|path| Some((path, described.find(path)?))) {
        let place = described.place(in_commit);
        let golden = parse_golden(&place, text, &hint)?;
        return Ok(Some(Compared { golden, place, committed: true }));
    }
    let text = read_regular_text(path).map_err(|error| {
        Failure::new(ExitCode::PrerequisiteMissing, "golden-missing", "there is no golden run of this name")
            .on(path.to_string())
            .because(error.to_string())
            .hint(hint.clone())
    })?;
    let golden = parse_golden(path.as_str(), &text, &hint)?;
    Ok(Some(Compared { golden, place: path.to_string(), committed: false }))
}

fn parse_golden(place: &str, text: &str, hint: &str) -> Result<Golden, Failure> {
    let read = serde_json::from_str::<Golden>(text).map_err(|error| error.to_string());
    let read = read.and_then(|golden| match golden.schema {
        SCHEMA => Ok(golden),
        other => Err(format!("its schema is {other}, and this program reads {SCHEMA}")),
    });
    read.map_err(|why| {
        Failure::new(ExitCode::PrerequisiteMissing, "golden-unreadable", "the golden run cannot be read")
            .on(place)
            .because(why)
            .hint(hint)
    })
}

/// Keeps a stage that was as it should be, as far as it is the same in every run.
///
/// # Errors
/// What reading its papers finds.
pub(crate) fn keep_golden(
    cx: &SmokeContext,
    stage: &Stage,
    nonce: &str,
    tools: &BTreeSet<String>,
) -> Result<(), Failure> {
    let papers = Papers::of(cx, &stage.name);
    let transcript = transcript(cx, &papers)?;
    let asked = asked(cx, &papers)?.unwrap_or_default();
    let offered = asked.into_iter().flat_map(|request| request.offered).collect();
    let golden = GoldenStage::new(&stage.name, &transcript, offered, tools.clone(), &masks(cx, nonce));
    cx.keep_json(&papers.named(GOLDEN), &golden);
    Ok(())
}

/// The name of the paper.
const GOLDEN: &str = "golden.json";

fn masks(cx: &SmokeContext, nonce: &str) -> Masks {
    let (sandbox, plan) = (&cx.sandbox, &cx.plan);
    Masks::new([
        (sandbox.repo().to_string(), "REPO"),
        (sandbox.workspace.to_string(), "WORKSPACE"),
        (cx.folder.path().to_string(), "EVIDENCE"),
        (sandbox.endpoint().to_string(), "GATEWAY"),
        (super::prepare::model_address(sandbox.endpoint()).to_string(), "MODEL"),
        (sandbox.address.to_string(), "ADDRESS"),
        (plan.head.clone(), "COMMIT"),
        (plan.run.clone(), "RUN"),
        (nonce.to_owned(), "NONCE"),
    ])
}

/// What the stages of the run came to together.
fn golden(cx: &SmokeContext) -> Result<Golden, Failure> {
    let stage = |name: &str| -> Result<GoldenStage, Failure> {
        let path = Papers::of(cx, name).named(GOLDEN);
        cx.folder.read_json(&path).map_err(|error| {
            Failure::new(ExitCode::StepFailed, "golden-incomplete", "a stage has left no golden part")
                .on(cx.folder.join(&path).to_string())
                .because(error.to_string())
        })
    };
    let stages = STAGES.into_iter().map(stage).collect::<Result<_, _>>()?;
    let version = cx.plan.agent_program.as_ref().map(|program| program.version.said.clone());
    Ok(Golden { schema: SCHEMA, agent: cx.plan.agent, model: cx.plan.model, version, stages })
}

/// Does with the whole run what `--record` and `--compare` ask for.
///
/// # Errors
/// Exit 11, `golden-differs`, with what changed; 10, `golden-unwritable`.
pub(crate) fn conclude_golden(cx: &SmokeContext) -> Result<(), Failure> {
    if let Some(Compared { golden: was, place: path, .. }) = &cx.described.golden {
        let is = golden(cx)?;
        let differences = compare(was, &is);
        let version =
            |golden: &Golden| golden.version.clone().unwrap_or_else(|| "without a version".to_owned());
        let versions = format!("{} {}, then {}", is.agent, version(was), version(&is));
        if !differences.is_empty() {
            let what = "the run is not what the golden run was";
            let failure = Failure::new(ExitCode::ExpectationNotMet, "golden-differs", what)
                .on(path.to_string())
                .because(versions);
            let failure = differences.iter().take(MOST_SHOWN).cloned().fold(failure, Failure::because);
            let failure = match differences.len().saturating_sub(MOST_SHOWN) {
                0 => failure,
                more => failure.because(format!("and {more} differences more")),
            };
            return Err(failure.hint("if this is what you want, record it anew: --record"));
        }
        cx.recorder.note(format!("the same as the golden run {path} ({versions})"));
    }
    if let Some(path) = &cx.plan.record {
        let unwritable = |error: std::io::Error| {
            Failure::new(ExitCode::StepFailed, "golden-unwritable", "the golden run cannot be written")
                .on(path.to_string())
                .because(error.to_string())
        };
        if let Some(folder) = path.parent() {
            std::fs::create_dir_all(folder).map_err(unwritable)?;
        }
        let text = serde_json::to_string_pretty(&golden(cx)?).map_err(|error| unwritable(error.into()))?;
        files::replace(path, (text + "\n").as_bytes(), files::Readable::ByAnyone).map_err(unwritable)?;
        cx.recorder.note(format!("recorded as {path}"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_golden_run_has_a_plain_name() {
        let file = |name| golden_file(Utf8Path::new("/r"), name).map_err(|failure| failure.kind);
        assert_eq!(
            file("codex-0.169.0").as_deref(),
            Ok(Utf8Path::new("/r/config/golden/codex-0.169.0.json"))
        );
        for name in ["", ".", "../x", "a/b", "a b"] {
            assert_eq!(file(name), Err("golden-name".to_owned()), "{name}");
        }
    }
}
