//! The witnesses: for each code the quickest real way to it that was found.

use std::fs;
use std::net::TcpListener;

use camino::Utf8PathBuf;
use rustix::process::Signal;
use signal_hook::consts::SIGHUP;
use stelae_model::{ExitCode, Failure};

use super::stage::{Gateway, Stage};
use super::unusable;
use crate::files::{create_private, random, read_regular_text};
use crate::signals::is_ignored;

/// Who has seen a code.
#[derive(Debug)]
pub struct Witness {
    /// The code.
    pub code: ExitCode,
    /// The kind of the failure on stdout; absent for a pass.
    pub kind: Option<&'static str>,
    /// What is done, for a person.
    pub scenario: &'static str,
    pub(super) scene: fn(&Stage<'_>) -> Result<Scene, Failure>,
}

/// What is prepared and started.
#[derive(Debug)]
pub(super) struct Scene {
    /// The arguments of this program.
    pub(super) args: Vec<String>,
    /// What the shell does in front of them; ends in a word that replaces it.
    pub(super) shell: String,
    /// The root, if it is not the stage's.
    pub(super) root: Option<Utf8PathBuf>,
    /// It builds, in the folder that runs share.
    pub(super) builds: bool,
    pub(super) once_up: Option<OnceUp>,
    /// Whoever else is on the port.
    pub(super) beside: Option<TcpListener>,
    /// What a reader of the report should know.
    pub(super) notes: Vec<String>,
}

/// What comes when the child is where it is wanted.
#[derive(Debug)]
pub(super) struct OnceUp {
    /// The log that says so.
    pub(super) log: Utf8PathBuf,
    pub(super) before: fn(&Stage<'_>) -> Result<(), Failure>,
    pub(super) signal: Signal,
}

impl Scene {
    fn of<I: IntoIterator<Item = S>, S: Into<String>>(args: I) -> Self {
        Self {
            args: args.into_iter().map(Into::into).collect(),
            shell: "exec".to_owned(),
            root: None,
            builds: false,
            once_up: None,
            beside: None,
            notes: Vec::new(),
        }
    }

    fn args<const N: usize>(mut self, args: [&str; N]) -> Self {
        self.args.extend(args.map(str::to_owned));
        self
    }

    fn behind(self, shell: &str) -> Self {
        Self { shell: shell.to_owned(), ..self }
    }
}

const fn pass(scenario: &'static str, scene: fn(&Stage<'_>) -> Result<Scene, Failure>) -> Witness {
    Witness { code: ExitCode::Pass, kind: None, scenario, scene }
}

const fn fails(
    code: ExitCode,
    kind: &'static str,
    scenario: &'static str,
    scene: fn(&Stage<'_>) -> Result<Scene, Failure>,
) -> Witness {
    Witness { code, kind: Some(kind), scenario, scene }
}

/// All of them, in the order of the codes.
pub const WITNESSES: &[Witness] = &[
    pass("a configuration is rendered", |_| Ok(Scene::of(["render-proxy"]))),
    fails(ExitCode::Unexpected, "unexpected", "no descriptors are left for signal handlers", no_descriptors),
    fails(ExitCode::Usage, "usage", "a flag that does not exist", |_| {
        Ok(Scene::of(["render-proxy", "--no-such-flag"]))
    }),
    fails(
        ExitCode::StepFailed,
        "command-failed",
        "cargo is to build a gateway where there is none",
        cargo_fails,
    ),
    fails(
        ExitCode::ExpectationNotMet,
        "call-failed",
        "a smoke run of a clone that expects a call of no tool",
        unmet,
    ),
    fails(
        ExitCode::Environment,
        "unknown-variable",
        "an env file with a variable that nobody declared",
        env_file,
    ),
    fails(ExitCode::Render, "unknown-name", "a template with a name that nobody declared", template),
    fails(ExitCode::Bundle, "unknown-bundle", "a bundle that does not exist is installed", |_| {
        Ok(Scene::of(["bundle", "install", "no-such-bundle"]))
    }),
    fails(ExitCode::ExitedBeforeReady, "exited-before-ready", "a gateway that ends at once", |stage| {
        restart(stage, Gateway { command: "false", args: &[], idle_ms: 30_000 })
    }),
    fails(ExitCode::NotReadyInTime, "idle", "a gateway that is silent", |stage| {
        restart(stage, Gateway::silent(300))
    }),
    fails(ExitCode::ReadyButIncomplete, "tools-missing", "a gateway without a required tool", |stage| {
        restart(stage, Gateway::of_the_workspace())
    }),
    fails(ExitCode::PortTaken, "port-taken", "the selftest itself listens on the port", port_taken),
    fails(
        ExitCode::Survivor,
        "workspace-survived",
        "a workspace in a folder that became unwritable",
        survivor,
    ),
    fails(ExitCode::PrerequisiteMissing, "program-missing", "a gateway that is not there", |stage| {
        restart(stage, Gateway { command: "selftest-no-such-program", args: &[], idle_ms: 30_000 })
    }),
    fails(ExitCode::Drift, "drift", "a configuration that was changed after it was rendered", drift),
    fails(ExitCode::BudgetExhausted, "budget-exhausted", "a silent gateway, and 0.3 s", |stage| {
        let mut scene = restart(stage, Gateway::silent(30_000))?;
        scene.args.extend(["--budget-s".to_owned(), "0.3".to_owned()]);
        Ok(scene)
    }),
    fails(ExitCode::Hangup, "interrupted", "SIGHUP to a lifecycle that is up", |stage| {
        let scene = held(stage, Signal::HUP);
        // Ours may be ignored (`nohup`), and children inherit that.
        Ok(if is_ignored(SIGHUP) { scene.behind("exec env --default-signal=HUP") } else { scene })
    }),
    fails(ExitCode::Interrupted, "interrupted", "SIGINT to a lifecycle that is up", |stage| {
        Ok(held(stage, Signal::INT))
    }),
    fails(ExitCode::Terminated, "interrupted", "SIGTERM to a lifecycle that is up", |stage| {
        Ok(held(stage, Signal::TERM))
    }),
];

/// Enough for the loader, and too few for three pairs of sockets.
fn no_descriptors(_: &Stage<'_>) -> Result<Scene, Failure> {
    Ok(Scene::of(["restart", "--attached"]).behind("ulimit -n 6; exec"))
}

/// A folder that looks like one of cargo's, below a root that is no cargo project.
fn cargo_fails(stage: &Stage<'_>) -> Result<Scene, Failure> {
    let bin_dir = stage.path("root/target/debug");
    let made = bin_dir.join(".fingerprint");
    fs::create_dir_all(&made).map_err(|error| unusable(&made, &error))?;
    let mut scene = restart(stage, Gateway::of_the_workspace())?;
    // A workspace without that package; without one cargo would look for one in the folders above.
    let manifest = stage.path("root/Cargo.toml");
    create_private(&manifest, b"[workspace]\n").map_err(|error| unusable(&manifest, &error))?;
    scene.args.splice(0..0, ["--bin-dir".to_owned(), bin_dir.to_string()]);
    Ok(scene)
}

/// Whatever the stack is: the tool does not exist, and the call of it is expected to succeed.
fn unmet(stage: &Stage<'_>) -> Result<Scene, Failure> {
    const CALL: &str = "tool = \"selftest_no_such_tool\"\narguments = {}\n";
    let cold = stage.builds_cold()?;
    let root = stage.clone_that_expects(CALL)?;
    Ok(Scene {
        root: Some(root),
        builds: true,
        notes: if cold { vec!["with a cold build".to_owned()] } else { Vec::new() },
        ..Scene::of(["smoke", "--keep", "never"])
    })
}

fn env_file(stage: &Stage<'_>) -> Result<Scene, Failure> {
    stage.write("bad.env", "SELFTEST_NO_SUCH_VARIABLE=1\n")?;
    Ok(Scene::of(["--env-file".to_owned(), stage.path("bad.env").to_string(), "render-proxy".to_owned()]))
}

fn template(stage: &Stage<'_>) -> Result<Scene, Failure> {
    stage.write(
        "root/config/proxy.template.json",
        "{ \"mcpProxy\": { \"name\": \"<<SELFTEST_NO_SUCH_NAME>>\" } }\n",
    )?;
    Ok(Scene::of(["render-proxy"]))
}

fn restart(stage: &Stage<'_>, gateway: Gateway) -> Result<Scene, Failure> {
    stage.gateway(&gateway)?;
    Ok(Scene::of(["restart", "--attached"]))
}

fn port_taken(stage: &Stage<'_>) -> Result<Scene, Failure> {
    let listener = TcpListener::bind(stage.address()).map_err(|error| {
        Failure::new(ExitCode::PortTaken, "port-taken", "the port of a witness cannot be listened on")
            .on(stage.address().to_string())
            .because(error.to_string())
    })?;
    Ok(Scene { beside: Some(listener), ..restart(stage, Gateway::silent(30_000))? })
}

/// What is in the workspace goes, and the workspace itself cannot. Root is not held up by a folder's mode, until it gives up
/// its capabilities; nor could it make a namespace then.
fn survivor(stage: &Stage<'_>) -> Result<Scene, Failure> {
    const GIVES_UP: &str =
        "[ \"$(id -u)\" != 0 ] || set -- setpriv --bounding-set=-all --inh-caps=-all \"$@\"; exec";
    let mut scene = held(stage, Signal::TERM).behind(GIVES_UP);
    scene.args.splice(0..0, ["--isolation".to_owned(), "guard".to_owned()]);
    scene.once_up = scene.once_up.map(|once_up| OnceUp { before: |stage| stage.close_kept(), ..once_up });
    Ok(scene)
}

fn drift(stage: &Stage<'_>) -> Result<Scene, Failure> {
    let path = stage.path("config/proxy.json");
    let text = read_regular_text(&path).map_err(|error| unusable(&path, &error))?;
    stage.write("config/proxy.json", &text.replace("\"selftest\"", "\"somebody else\""))?;
    Ok(Scene::of(["render-proxy", "--check"]))
}

/// One lifecycle of `soak`, which stays up until it gets the signal.
fn held(stage: &Stage<'_>, signal: Signal) -> Scene {
    let workspace = stage.workspace();
    let mark = format!("600.{:09}", random() % 1_000_000_000);
    let once_up = OnceUp { log: workspace.join("service.log"), before: |_| Ok(()), signal };
    let scene = Scene::of(["soak-cycle", "--run", "selftest", "--shape", "plain", "--mark", &mark]).args([
        "--workspace",
        workspace.as_str(),
        "--grace-ms",
        "200",
        "--hold-ms",
        "60000",
    ]);
    Scene { once_up: Some(once_up), ..scene }
}
