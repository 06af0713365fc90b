//! The stage of one witness: a root with a stack, and homes, temporary files and a port of its own.

use std::fs;
use std::io;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt as _;
use std::time::Duration;

use camino::{Utf8Path, Utf8PathBuf};
use serde_json::json;
use stelae_model::env::declared::{STELAE_CACHE_HOME, STELAE_ROOT};
use stelae_model::env::programs::XTASK;
use stelae_model::env::{Base, CargoEnv, Environment, Invocation, ProgramEnv as _, XtaskEnv};
use stelae_model::value::{AbsolutePath, EnvValue, HttpUrl, Port};
use stelae_model::{ExitCode, Failure};

use super::unusable;
use super::witness::Scene;
use crate::deadline::Deadline;
use crate::files::{Readable, read_regular_text, replace};
use crate::git::Git;
use crate::ports::{self, Placeholder};
use crate::process::{Limits, tree};
use crate::record::Recorder;
use crate::signals::Interrupt;

/// What all stages are built with.
#[derive(Debug)]
pub(super) struct Host<'a> {
    pub(super) environment: &'a Environment,
    pub(super) program: &'a Utf8Path,
    pub(super) interrupt: &'a Interrupt,
}

/// What is in the place of the gateway.
#[derive(Clone, Copy, Debug)]
pub(super) struct Gateway {
    pub(super) command: &'static str,
    pub(super) args: &'static [&'static str],
    /// How long it may be silent.
    pub(super) idle_ms: u64,
}

impl Gateway {
    /// The workspace's own, which answers, and has no tools. So long it is asked for one: long enough for a machine that is
    /// starved to get so far that it answers at all.
    pub(super) fn of_the_workspace() -> Self {
        Self {
            command: "<<STELAE_BIN_DIR>>/stelae-gateway",
            args: &["serve", "--config", "<<STELAE_CONFIG_HOME>>/proxy.json"],
            idle_ms: 2_500,
        }
    }

    /// One that has the socket and never says anything.
    pub(super) fn silent(idle_ms: u64) -> Self {
        Self { command: "sleep", args: &["60"], idle_ms }
    }

    /// `stack.toml`.
    pub(super) fn stack(&self) -> String {
        let Self { command, args, idle_ms } = self;
        format!(
            "version = 1\n[gateway]\ncommand = {command:?}\nargs = {args:?}\nsocket = \"passed\"\ngrace_ms = 500\n\
             [readiness]\nidle_ms = {idle_ms}\nceiling_ms = 60000\nceiling_ci_ms = 60000\nmcp_path = \"/mcp\"\n\
             health_path = \"/healthz\"\nready_path = \"/readyz\"\nrequired_tools = [\"selftest_no_such_tool\"]\n\
             canary = {{ tool = \"selftest_no_such_tool\", arguments = {{}}, result = [{{ contains = \"x\" }}] }}\n"
        )
    }
}

/// A folder, and everything in it.
#[derive(Debug)]
pub(super) struct Stage<'a> {
    folder: Utf8PathBuf,
    pub(super) host: &'a Host<'a>,
    held: Placeholder,
}

impl<'a> Stage<'a> {
    /// Makes the folders, a stack that nobody has started, and its rendered configuration.
    pub(super) fn build(folder: &Utf8Path, host: &'a Host<'a>) -> Result<Self, Failure> {
        let held = Placeholder::hold([127, 0, 0, 1].into(), 0)
            .map_err(|taken| taken.failure("the port of a witness"))?;
        let stage = Self { folder: folder.to_owned(), host, held };
        for folder in ["root/config", "config", "state", "cache", "tmp", "kept"] {
            let folder = stage.path(folder);
            fs::create_dir_all(&folder).map_err(|error| unusable(&folder, &error))?;
        }
        let address = stage.address();
        let proxy = json!({ "mcpProxy":
            { "name": "selftest", "addr": address, "baseURL": format!("http://{address}") } });
        stage.write("root/config/proxy.template.json", &format!("{proxy:#}\n"))?;
        stage.write("config/proxy.json", &format!("{proxy:#}\n"))?;
        stage.gateway(&Gateway::silent(30_000))?;
        Ok(stage)
    }

    /// Puts a gateway into the stack.
    pub(super) fn gateway(&self, gateway: &Gateway) -> Result<(), Failure> {
        self.write("root/config/stack.toml", &gateway.stack())
    }

    pub(super) fn path(&self, name: &str) -> Utf8PathBuf {
        self.folder.join(name)
    }

    /// Writes a file of the stage.
    pub(super) fn write(&self, name: &str, text: &str) -> Result<(), Failure> {
        let path = self.path(name);
        replace(&path, text.as_bytes(), Readable::ByAnyone).map_err(|error| unusable(&path, &error))
    }

    /// The address of the stack; nobody else gets it.
    pub(super) fn address(&self) -> SocketAddr {
        self.held.address()
    }

    /// The folder of the workspace of a witness that has one.
    pub(super) fn kept(&self) -> Utf8PathBuf {
        self.path("kept")
    }

    /// A workspace that does not exist yet.
    pub(super) fn workspace(&self) -> Utf8PathBuf {
        self.kept().join("workspace")
    }

    /// From now on nothing can be removed from there.
    pub(super) fn close_kept(&self) -> Result<(), Failure> {
        let kept = self.kept();
        set_mode(&kept, 0o555).map_err(|error| unusable(&kept, &error))
    }

    /// Clones the repository that we work on, with a call more in its smoke run: the first, which nobody can make.
    /// Returns the clone's root.
    pub(super) fn clone_that_expects(&self, call: &str) -> Result<Utf8PathBuf, Failure> {
        const CALL: &str = "[[stage.call]]";
        let Host { environment, interrupt, .. } = self.host;
        let root = environment.get::<STELAE_ROOT>()?;
        let (clone, log) = (self.path("clone"), self.path("git.log"));
        let git = Git::find(environment)?;
        let limits = Limits { deadline: Deadline::after(GIT_LIMIT), interrupt, stdout: &log, stderr: &log };
        let recorder = Recorder::to_listeners(Vec::new());
        let run = |cwd: &Utf8Path, args: &[&str]| git.run(cwd, args, &limits, &recorder).map(drop);
        git.clone_apart(root.as_path(), &clone, &limits, &recorder)?;
        let smoke = clone.join("config/smoke.toml");
        let text = read_regular_text(&smoke).map_err(|error| unusable(&smoke, &error))?;
        let (before, calls) = text.split_once(CALL).ok_or_else(|| {
            Failure::new(ExitCode::Environment, "smoke-config", "the smoke run expects no calls")
                .on(smoke.to_string())
        })?;
        let text = format!("{before}{CALL}\n{call}\n{CALL}{calls}");
        replace(&smoke, text.as_bytes(), Readable::ByAnyone).map_err(|error| unusable(&smoke, &error))?;
        // Nobody's name, key and hooks have anything to do with it.
        let nobody = ["-c", "user.name=selftest", "-c", "user.email=selftest@selftest.invalid"];
        let alone = ["-c", "commit.gpgsign=false", "-c", "core.hooksPath=/dev/null", "-c", "gc.auto=0"];
        let commit = ["commit", "--quiet", "--all", "--message", "an expectation that is not met"];
        run(&clone, &[&nobody[..], &alone, &commit].concat())?;
        Ok(clone)
    }

    /// Whether nobody has built a clone yet, in the folder that runs share.
    pub(super) fn builds_cold(&self) -> Result<bool, Failure> {
        Ok(!self.host.environment.get::<STELAE_CACHE_HOME>()?.join("smoke-build/target").is_dir())
    }

    /// The child, behind a shell that keeps its two outputs apart, and does whatever the scene wants to be done before.
    pub(super) fn invocation(&self, scene: &Scene) -> Result<Invocation, Failure> {
        let environment = self.host.environment;
        // Everyone below the child has this in its environment, whatever else it is given.
        let base = Base {
            tmpdir: Some(value::<AbsolutePath>(self.path("tmp").as_str())?),
            ..Base::from_environment(environment)?
        };
        let root = scene.root.clone().unwrap_or_else(|| self.path("root"));
        let folder = |name: &str| value::<AbsolutePath>(self.path(name).as_str());
        let mut env = XtaskEnv {
            workspace_root: value(root.as_str())?,
            config_home: folder("config")?,
            state_home: folder("state")?,
            supervisor_home: folder("state/supervisor")?,
            proxy_host: value("127.0.0.1")?,
            proxy_port: value::<Port>(&self.address().port().to_string())?,
            public_base_url: value::<HttpUrl>(&format!("http://{}", self.address()))?,
            ..XtaskEnv::from_environment(environment)?
        };
        if !scene.builds {
            env.cache_home = folder("cache")?;
        }
        // Cargo is told where it is by the host, wherever the stage's homes are.
        let cargo = CargoEnv { target_dir: None, ..CargoEnv::from_environment(environment)? };
        let cargo = cargo.pairs().into_iter().map(|(name, text)| (name.to_owned(), text));
        let script = format!("exec 2>\"$0\"; {} \"$@\"", scene.shell);
        let invocation = XTASK.invoke("/bin/sh".into(), root.clone(), &base, &env).own_variables(cargo);
        let words = ["-c".to_owned(), script, self.stderr().to_string(), self.host.program.to_string()];
        Ok(invocation
            .args(words)
            .args(["--format", "json", "--root", root.as_str()])
            .args(scene.args.clone()))
    }

    pub(super) fn stdout(&self) -> Utf8PathBuf {
        self.path("stdout")
    }

    pub(super) fn stderr(&self) -> Utf8PathBuf {
        self.path("stderr")
    }

    /// What is left of a child that has ended: processes, temporary files, its entry among those that run, a listener.
    pub(super) fn left(&self) -> Vec<String> {
        let mut left = self.processes();
        for folder in ["tmp", "cache/live", "cache/workspaces"] {
            let entries = self.path(folder).read_dir_utf8().into_iter().flatten().flatten();
            left.extend(entries.map(|entry| entry.path().to_string()));
        }
        left.extend(
            ports::listeners_on(self.address()).iter().map(|socket| format!("port {}", socket.address)),
        );
        left
    }

    /// Everyone who has the stage's folder in the environment or in the command line.
    fn processes(&self) -> Vec<String> {
        let mark = format!("{}/", self.folder);
        let knows = |pid: i32| {
            let environ = tree::environ(pid).unwrap_or_default();
            environ.iter().any(|(_, text)| text.contains(&mark))
                || tree::command_line(pid).is_some_and(|line| line.contains(&mark))
        };
        let rows = match tree::table() {
            Ok(rows) => rows,
            // Where nobody can be seen, nobody can be said to be gone.
            Err(error) => return vec![format!("the process table cannot be read: {error}")],
        };
        let known = rows.iter().map(|row| row.pid).filter(|&pid| knows(pid));
        known.map(|pid| format!("pid {pid}: {}", tree::command_line(pid).unwrap_or_default())).collect()
    }
}

impl Drop for Stage<'_> {
    fn drop(&mut self) {
        // Whoever removes the stage has to be able to; most have no such folder.
        set_mode(&self.kept(), 0o755).ok();
    }
}

fn set_mode(folder: &Utf8Path, mode: u32) -> io::Result<()> {
    fs::set_permissions(folder, fs::Permissions::from_mode(mode))
}

/// A clone of a repository on the same machine.
const GIT_LIMIT: Duration = Duration::from_secs(120);

fn value<T: EnvValue>(text: &str) -> Result<T, Failure> {
    T::parse(text).map_err(Failure::unexpected)
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use stelae_model::env::declared::STELAE_BIN_DIR;
    use stelae_model::env::{Given, Layers};

    use super::*;
    use crate::process::{Service, Session, Stdin};

    fn until(what: &str, holds: &dyn Fn() -> bool) {
        let deadline = Deadline::after(GIT_LIMIT);
        while !holds() {
            assert!(!deadline.passed(), "never: {what}");
            Interrupt::never().wait(Duration::from_millis(1));
        }
    }

    #[test]
    fn whatever_is_left_is_found() {
        let temporary = tempfile::tempdir().unwrap();
        let folder = Utf8Path::from_path(temporary.path()).unwrap().join("stage");
        let given = vec![Given::of::<STELAE_ROOT>("/"), Given::of::<STELAE_BIN_DIR>("/bin")];
        let environment = Environment::resolve(&Layers { given, ..Layers::default() }).unwrap();
        let interrupt = Interrupt::never();
        let host =
            Host { environment: &environment, program: Utf8Path::new("/bin/true"), interrupt: &interrupt };
        let stage = Stage::build(&folder, &host).unwrap();
        assert_eq!(stage.left(), Vec::<String>::new());

        let sleep = |args: [&str; 2], env: &[(&str, &str)]| {
            let invocation = Invocation::for_test("left", "/bin/sh".into(), "/".into(), env);
            // Its child is there before it says so: one that is forked while the shell is killed is for a family, too.
            let script = format!("sleep 600 & echo up; wait # {}", args[1]);
            let log = stage.path(args[0]);
            let service =
                Service::start(&invocation.args(["-c", &script]), &log, Stdin::Null, Session::Ours).unwrap();
            // Before that it is still us, by its command line and environment.
            until("it is up", &|| fs::read_to_string(&log).unwrap().contains("up"));
            service
        };
        let mark = format!("{folder}/x");
        let mut processes =
            [sleep(["by-words.log", &mark], &[]), sleep(["by-env.log", ""], &[("MARK", &mark)])];
        fs::create_dir(stage.path("cache/live")).unwrap();
        stage.write("tmp/file", "").unwrap();
        stage.write("cache/live/file", "").unwrap();
        let listener = std::net::TcpListener::bind(stage.address()).unwrap();
        let left = stage.left().join("\n");
        for process in &mut processes {
            assert!(left.contains(&format!("pid {}: /bin/sh", process.pid())), "{left}");
            assert!(process.stop(stelae_model::lifecycle::StopLimits::at_once(), &interrupt).check().is_ok());
        }
        let port = format!("port {}", stage.address());
        for what in [stage.path("tmp/file").as_str(), stage.path("cache/live/file").as_str(), &port] {
            assert!(left.contains(what), "{left}");
        }
        drop(listener);
        fs::remove_file(stage.path("tmp/file")).unwrap();
        fs::remove_file(stage.path("cache/live/file")).unwrap();
        // A child that was killed with its parent falls to nobody who would wait for its death: a test has no family.
        until("nothing is left", &|| stage.left().is_empty());
    }
}
