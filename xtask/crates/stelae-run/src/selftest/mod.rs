//! A live witness for every exit code: a short scenario in which this very program, started as a child, really ends so.
//!
//! A witness is believed for what it does: its status, and the failure that it prints on stdout. What it leaves behind is
//! looked for from outside, by what the kernel says.

mod child;
mod report;
mod stage;
mod witness;

use std::fs;
use std::time::Instant;

use camino::{Utf8Path, Utf8PathBuf};
use stelae_model::env::Environment;
use stelae_model::stack::{Stack, parse_stack};
use stelae_model::{ExitCode, Failure};

pub use child::BUILDS_WITHIN;
pub use report::{Report, Row, Verdict};
pub use witness::{WITNESSES, Witness};

use crate::signals::Interrupt;
use stage::{Gateway, Host, Stage};

/// What is to be shown.
#[derive(Debug)]
pub struct Selftest {
    /// The codes whose witnesses are heard; all of them when empty.
    pub only: Vec<ExitCode>,
    /// A folder of its own, which is removed by whoever made it.
    pub folder: Utf8PathBuf,
    /// The program: this one.
    pub program: Utf8PathBuf,
}

impl Selftest {
    /// Whether the witness for a code is going to be heard.
    pub fn hears(&self, code: ExitCode) -> bool {
        self.only.is_empty() || self.only.contains(&code)
    }

    /// Hears the witnesses, in the order of the codes. `progress` is told before each of them.
    ///
    /// # Errors
    /// 129, 130, 143 when a signal comes; 40, `selftest-folder`. What a witness saw instead is no error here: see
    /// [`Report::failed`].
    pub fn carry_out(
        &self,
        environment: &Environment,
        interrupt: &Interrupt,
        progress: &mut dyn FnMut(&Witness),
    ) -> Result<Report, Failure> {
        fs::create_dir_all(&self.folder).map_err(|error| unusable(&self.folder, &error))?;
        let host = Host { environment, program: &self.program, interrupt };
        let mut report = Report::default();
        for &code in ExitCode::ALL {
            let row = match WITNESSES.iter().find(|witness| witness.code == code) {
                None => Row::without_witness(code),
                Some(witness) if !self.hears(code) => Row::left_out(witness),
                Some(witness) => {
                    progress(witness);
                    self.row(witness, &host)
                }
            };
            // A witness that was cut short has seen nothing.
            interrupt.bail("the selftest")?;
            report.rows.push(row);
        }
        Ok(report)
    }

    fn row(&self, witness: &Witness, host: &Host<'_>) -> Row {
        let begun = Instant::now();
        let folder = self.folder.join(witness.code.number().to_string());
        let heard = Stage::build(&folder, host).and_then(|stage| hear(witness, &stage));
        let (saw, notes) =
            heard.unwrap_or_else(|failure| (vec![failure.to_string().replace('\n', "; ")], Vec::new()));
        Row { elapsed_ms: begun.elapsed().as_millis(), ..Row::heard(witness, saw, notes) }
    }
}

/// Has one play its scenario. Returns what was seen that it did not say, and what a reader should know besides.
fn hear(witness: &Witness, stage: &Stage<'_>) -> Result<(Vec<String>, Vec<String>), Failure> {
    let mut scene = (witness.scene)(stage)?;
    let ended = child::play(&scene, stage)?;
    // Ours: it may hold the port.
    scene.beside = None;
    let mut saw = ended.differs_from(witness);
    saw.extend(stage.left().into_iter().map(|left| format!("left: {left}")));
    Ok((saw, scene.notes))
}

/// The stack that a witness starts with the workspace's own gateway, which has to be built before.
///
/// # Errors
/// None that anybody has seen: exit 20.
pub fn gateway_stack() -> Result<Stack, Failure> {
    parse_stack("stack.toml", &Gateway::of_the_workspace().stack())
}

fn unusable(folder: &Utf8Path, error: &std::io::Error) -> Failure {
    Failure::new(ExitCode::PrerequisiteMissing, "selftest-folder", "the selftest has no folder to work in")
        .on(folder.to_string())
        .because(error.to_string())
        .hint("make room, or name another folder: cargo xtask --set STELAE_CACHE_HOME=PATH selftest")
}
