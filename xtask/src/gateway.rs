//! The gateway is in nobody's graph but its own: a verb that needs it has cargo build it.

use std::time::Duration;

use camino::{Utf8Path, Utf8PathBuf};
use stelae_model::Failure;
use stelae_model::env::declared::{PATH, STELAE_BIN_DIR, STELAE_ROOT};
use stelae_model::env::programs::CARGO;
use stelae_model::env::{Base, CargoEnv, Environment, ProgramEnv as _};
use stelae_model::stack::Gateway;
use stelae_model::value::{AbsolutePath, EnvValue as _};
use stelae_run::deadline::Deadline;
use stelae_run::process::{self, Limits};
use stelae_run::programs;
use stelae_run::record::Recorder;
use stelae_run::signals::Interrupt;

use crate::context::MARKER;

/// The program, in the folder of the binaries.
const PROGRAM: &str = "stelae-gateway";
/// How `stack.toml` names it.
const COMMAND: &str = "<<STELAE_BIN_DIR>>/stelae-gateway";
/// A cold build takes a minute or two; this is for a machine that does something else meanwhile.
const LIMIT: Duration = Duration::from_secs(20 * 60);

/// Has cargo build the gateway, or find it fresh, if that is the stack's own (`builtin`) and if the programs lie where cargo
/// puts those of this root. A run's workspace is no such place: there, what was built is what is tested.
///
/// What cargo says is recorded as it comes, and kept in `log`.
///
/// # Errors
/// Exit 10, `command-failed`, with the end of what cargo said; 40 without cargo; 129, 130, 143.
pub(crate) fn ensure_gateway(
    environment: &Environment,
    builtin: &Gateway,
    log: &Utf8Path,
    interrupt: &Interrupt,
    recorder: &Recorder,
) -> Result<(), Failure> {
    if builtin.command != COMMAND {
        return Ok(());
    }
    let Some((target, profile)) = cargo_folder(environment)? else { return Ok(()) };
    let root = environment.get::<STELAE_ROOT>()?.as_path().to_owned();
    let cargo = programs::find("cargo", environment.get::<PATH>()?.as_str())?;
    let target = AbsolutePath::parse(target.as_str()).map_err(Failure::unexpected)?;
    let env = CargoEnv { target_dir: Some(target), ..CargoEnv::from_environment(environment)? };
    let invocation = CARGO
        .invoke(cargo, root, &Base::from_environment(environment)?, &env)
        .args(["build", "--locked", "--package", PROGRAM, "--bin", PROGRAM])
        .args(["--profile", &profile]);
    let limits = Limits { deadline: Deadline::after(LIMIT), interrupt, stdout: log, stderr: log };
    let finished = recorder
        .minding_leaks(process::run(&invocation, &limits, &mut |_, line| recorder.line("cargo", line))?);
    finished.success_or_failure().map(drop)
}

/// The target folder and the profile, if the programs lie in a folder that cargo builds this root into: its own `target`, or
/// one apart from every root (`CARGO_TARGET_DIR`, `build.target-dir`), and then cargo has just put this program there.
pub(crate) fn cargo_folder(environment: &Environment) -> Result<Option<(Utf8PathBuf, String)>, Failure> {
    let bin_dir = environment.get::<STELAE_BIN_DIR>()?.as_path().to_owned();
    let default = environment.get::<STELAE_ROOT>()?.join("target");
    let (Some(target), Some(profile)) = (bin_dir.parent(), bin_dir.file_name()) else { return Ok(None) };
    let of_another = |folder: &Utf8Path| folder.join(MARKER).is_file();
    let is_ours = target == default || !target.parent().is_some_and(of_another);
    // Only cargo makes this one.
    if !is_ours || !bin_dir.join(".fingerprint").is_dir() {
        return Ok(None);
    }
    let profile = if profile == "debug" { "dev" } else { profile };
    Ok(Some((target.to_owned(), profile.to_owned())))
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt as _;

    use stelae_model::env::{Given, Layers};
    use stelae_model::stack::parse_stack;

    use super::*;

    /// A root with a `cargo` that says what it was asked and builds at once, or fails.
    struct Root {
        _folder: tempfile::TempDir,
        path: Utf8PathBuf,
    }

    impl Root {
        fn new(cargo: &str) -> Self {
            let folder = tempfile::tempdir().unwrap();
            let path = Utf8PathBuf::from_path_buf(folder.path().to_owned()).unwrap();
            fs::create_dir_all(path.join("bin")).unwrap();
            fs::create_dir_all(path.join("target/debug/.fingerprint")).unwrap();
            fs::create_dir_all(path.join("config")).unwrap();
            fs::write(path.join(MARKER), "").unwrap();
            fs::write(path.join("bin/cargo"), format!("#!/bin/sh\n{cargo}\n")).unwrap();
            fs::set_permissions(path.join("bin/cargo"), fs::Permissions::from_mode(0o755)).unwrap();
            Self { _folder: folder, path }
        }

        fn ensure(&self, bin_dir: &str, command: &str) -> Result<(), Failure> {
            let given = vec![
                Given::of::<STELAE_ROOT>(self.path.as_str()),
                Given::of::<STELAE_BIN_DIR>(self.path.join(bin_dir).as_str()),
            ];
            let path = format!("{}:/usr/bin:/bin", self.path.join("bin"));
            let process = vec![("PATH".to_owned(), path), ("HOME".to_owned(), self.path.to_string())];
            let environment = Environment::resolve(&Layers { given, process, ..Layers::default() }).unwrap();
            let text =
                fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../config/stack.toml")).unwrap();
            assert!(text.contains(COMMAND));
            let stack = parse_stack("stack.toml", &text.replace(COMMAND, command)).unwrap();
            let (log, recorder) = (self.path.join("cargo.log"), Recorder::to_listeners(Vec::new()));
            ensure_gateway(&environment, &stack.gateway, &log, &Interrupt::never(), &recorder)
        }

        fn asked(&self) -> String {
            fs::read_to_string(self.path.join("cargo.log")).unwrap_or_default()
        }
    }

    #[test]
    fn cargo_builds_the_gateway_where_this_program_lies() {
        let root = Root::new("echo \"$PWD $CARGO_TARGET_DIR $*\"");
        root.ensure("target/debug", COMMAND).unwrap();
        let args = "build --locked --package stelae-gateway --bin stelae-gateway --profile dev";
        assert_eq!(root.asked(), format!("{0} {0}/target {args}\n", root.path));
    }

    #[test]
    fn nothing_is_built_for_another_gateway_or_in_a_workspace() {
        let root = Root::new("echo \"$*\"");
        root.ensure("target/debug", "/usr/bin/true").unwrap();
        fs::create_dir_all(root.path.join("workspace/bin/.fingerprint")).unwrap();
        root.ensure("workspace/bin", COMMAND).unwrap();
        root.ensure("target/release", COMMAND).unwrap();
        // Built from another root.
        fs::create_dir_all(root.path.join("other/config")).unwrap();
        fs::create_dir_all(root.path.join("other/target/debug/.fingerprint")).unwrap();
        fs::write(root.path.join("other").join(MARKER), "").unwrap();
        root.ensure("other/target/debug", COMMAND).unwrap();
        assert_eq!(root.asked(), "");
    }

    #[test]
    fn a_folder_apart_from_every_root_is_the_one_that_cargo_was_told() {
        let root = Root::new("echo \"$CARGO_TARGET_DIR\"");
        fs::create_dir_all(root.path.join("elsewhere/shared/debug/.fingerprint")).unwrap();
        root.ensure("elsewhere/shared/debug", COMMAND).unwrap();
        assert_eq!(root.asked(), format!("{}/elsewhere/shared\n", root.path));
    }

    #[test]
    fn a_build_that_fails_says_what_cargo_said() {
        let failure =
            Root::new("echo 'no such crate' >&2; exit 101").ensure("target/debug", COMMAND).unwrap_err();
        assert_eq!(failure.kind, "command-failed");
        assert_eq!(failure.log_tail, ["no such crate"]);
    }
}
