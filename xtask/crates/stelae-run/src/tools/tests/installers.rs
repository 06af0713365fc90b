//! Each installer: what it needs, what it is given, and that what came is compared before it is executed.

use std::fs;

use stelae_model::{ExitCode, Failure};

use super::{Machine, integrity};
use crate::tools::Outcome;

fn refused(machine: &Machine, failure: &Failure) {
    assert_eq!((failure.exit_code, failure.kind.as_str()), (ExitCode::StepFailed, "integrity-mismatch"));
    machine.assert_nothing();
}

#[test]
fn a_toolchain_that_is_missing_or_too_old_is_named() {
    for (kind, program) in [("npm", "node"), ("pypi", "python3"), ("go", "go"), ("cargo", "cargo")] {
        let machine = Machine::new(kind, "");
        // Nothing of this machine: some of them may be in /usr/bin.
        let bin = machine.path.join("bin").to_string();
        let deadline = crate::deadline::Deadline::after(std::time::Duration::from_secs(60));
        let failure = machine.install_with(&[("PATH", &bin)], deadline).unwrap_err();
        assert_eq!(
            (failure.exit_code, failure.kind.as_str()),
            (ExitCode::PrerequisiteMissing, "toolchain-missing")
        );
        assert!(failure.what.starts_with(program), "{failure}");
        assert!(!machine.path.join("cache").exists());

        machine.program("npm", "exit 1");
        machine.program(program, &format!("echo {program} v1.4.9"));
        let failure = machine.install().unwrap_err();
        assert_eq!(
            (failure.exit_code, failure.kind.as_str()),
            (ExitCode::PrerequisiteMissing, "toolchain-too-old")
        );
        assert_eq!((failure.why[0].as_str(), machine.calls()), ("it is 1.4.9", Vec::new()));
        machine.assert_nothing();
    }
}

#[test]
fn npm_gets_the_users_settings_and_a_cache_of_the_tools_own() {
    let machine = Machine::new("npm", "");
    machine.npm("1.5.0", &integrity("npm"));
    let npm = fs::read_to_string(machine.path.join("bin/npm")).unwrap();
    machine.program("npm", &format!("env > $HOME/env\n{npm}"));
    let more = [
        ("npm_config_registry", "http://127.0.0.1:9/mine"),
        ("https_proxy", "http://127.0.0.1:9"),
        ("NODE_EXTRA_CA_CERTS", "/some/file"),
        ("npm_config_global", "true"),
        ("GOPROXY", "off"),
    ];
    let deadline = crate::deadline::Deadline::after(std::time::Duration::from_secs(60));
    machine.install_with(&more, deadline).unwrap();
    let env = fs::read_to_string(machine.path.join("home/env")).unwrap();
    let of = |name: &str| env.lines().find_map(|line| line.strip_prefix(&format!("{name}=")));
    assert_eq!(of("NPM_CONFIG_REGISTRY"), Some("http://127.0.0.1:9/mine"));
    assert_eq!(of("HTTPS_PROXY"), Some("http://127.0.0.1:9"));
    assert_eq!(of("NODE_EXTRA_CA_CERTS"), Some("/some/file"));
    assert_eq!(of("HOME"), Some(machine.path.join("home").as_str()));
    assert_eq!(of("NPM_CONFIG_CACHE"), Some(machine.path.join("cache/tools/.caches/npm").as_str()));
    assert_eq!((of("npm_config_global"), of("GOPROXY")), (None, None));
}

#[test]
fn what_an_installer_leaves_among_temporary_files_goes_with_its_stage() {
    let machine = Machine::new("npm", "");
    machine.npm("1.5.0", &integrity("npm"));
    let npm = fs::read_to_string(machine.path.join("bin/npm")).unwrap();
    let leaves = "echo $TMPDIR > $HOME/tmpdir; mkdir -p $TMPDIR/pip-x; echo x > $TMPDIR/pip-x/left";
    machine.program("npm", &format!("{leaves}\n{npm}"));
    let outside = machine.path.join("tmp");
    fs::create_dir(&outside).unwrap();
    let install = |seconds| {
        let deadline = crate::deadline::Deadline::after(std::time::Duration::from_secs(seconds));
        machine.install_with(&[("TMPDIR", outside.as_str())], deadline)
    };
    let empty = || outside.read_dir_utf8().unwrap().count() == 0;
    install(60).unwrap();
    let said = fs::read_to_string(machine.path.join("home/tmpdir")).unwrap();
    let stage = machine.path.join("cache/tools/judge/.stage-1.0.0");
    assert!(said.trim_end().starts_with(stage.as_str()), "{said}");
    assert!(empty() && !machine.path.join("cache/tools/judge/1.0.0/.tmp").exists());
    assert_eq!(machine.entries(), [".content-1.0.0", ".lock", "1.0.0"]);
    // One that fails, and one that was killed with its installer: the next start finds its stage.
    fs::remove_dir_all(machine.path.join("cache/tools/judge/1.0.0")).unwrap();
    machine.program("npm", &format!("{leaves}\nexit 1"));
    install(60).unwrap_err();
    machine.assert_nothing();
    fs::create_dir_all(stage.join(".tmp/pip-x")).unwrap();
    install(60).unwrap_err();
    machine.assert_nothing();
    assert!(empty());
}

#[test]
fn npm_runs_a_package_only_after_its_content_was_compared() {
    let machine = Machine::new("npm", "install_script = true");
    machine.npm("1.5.0", &integrity("npm"));
    assert_eq!(machine.install(), Ok(Outcome::Installed));
    let calls = machine.calls();
    assert!(calls[0].starts_with("npm install ") && calls[0].contains("--ignore-scripts"), "{calls:?}");
    assert!(calls[1].starts_with("npm rebuild judge "), "{calls:?}");

    let machine = Machine::new("npm", "install_script = true");
    machine.npm("1.5.0", &integrity("npm").replace('A', "D"));
    refused(&machine, &machine.install().unwrap_err());
    assert_eq!(machine.calls().len(), 1, "{:?}", machine.calls());
}

#[test]
fn npm_runs_a_package_only_after_the_content_of_its_parts_was_compared() {
    let (own, part) = (integrity("npm"), integrity("npm").replace('A', "D"));
    let pinned = format!(
        "install_script = true\nparts = {{ \"@j/udge-linux\" = \"{part}\", \"@j/udge-mac\" = \"{part}\" }}"
    );
    let of = |packages: &[(&str, &str)]| {
        let machine = Machine::new("npm", &pinned);
        machine.npm_of("1.5.0", packages);
        machine
    };
    let whole = [("judge", own.as_str()), ("@j/udge-linux", &part), ("@j/udge-mac", &part)];
    let machine = of(&whole);
    assert_eq!(machine.install(), Ok(Outcome::Installed));
    assert_eq!(machine.calls().len(), 2, "{:?}", machine.calls());

    // One has another content; one did not come.
    let other = [whole[0], whole[1], ("@j/udge-mac", own.as_str())];
    for (packages, on) in [(&other[..], "@j/udge-mac, "), (&[whole[0], whole[2]], "@j/udge-linux, ")] {
        let machine = of(packages);
        let failure = machine.install().unwrap_err();
        assert!(failure.on[0].starts_with(on), "{failure}");
        refused(&machine, &failure);
        assert_eq!(machine.calls().len(), 1, "{:?}", machine.calls());
    }
}

/// A python that makes an environment in which it is itself, and downloads a wheel with this content.
fn python(machine: &Machine, wheel: &str) {
    let script = format!(
        "case \"$*\" in --version) echo Python 1.5.0;;\n\
         '-m venv venv') mkdir -p venv/bin; cp $0 venv/bin/python; echo \"command = $PWD/venv\" > venv/pyvenv.cfg;;\n\
         '-m pip download '*) mkdir wheel; printf '{wheel}' > wheel/judge-1.0.0-py3-none-any.whl;;\n\
         '-m pip install '*) printf '#!%s/venv/bin/python\\n' \"$PWD\" > venv/bin/judge; chmod +x venv/bin/judge;;\n\
         esac"
    );
    machine.program("python3", &script);
}

#[test]
fn pip_installs_the_wheel_that_was_compared_and_its_scripts_find_their_python() {
    // sha256 of `wheel`, by sha256sum.
    let digest = "sha256:ba59926159d2aa256eb8739b8da7e2b574b960e1202c6d624cbe981cef996c91";
    let machine = Machine::pinning("pypi", digest, "");
    python(&machine, "wheel");
    assert_eq!(machine.install(), Ok(Outcome::Installed));
    let folder = machine.path.join("cache/tools/judge/1.0.0");
    let read = |file: &str| fs::read_to_string(folder.join("venv").join(file)).unwrap();
    assert_eq!(read("bin/judge"), format!("#!{folder}/venv/bin/python\n"));
    assert_eq!(read("pyvenv.cfg"), format!("command = {folder}/venv\n"));
    let calls = machine.calls();
    assert!(
        calls.iter().any(|call| call.contains("pip download --no-deps") && call.contains("judge==1.0.0"))
    );
    assert!(calls.last().unwrap().contains("wheel/judge-1.0.0-py3-none-any.whl"), "{calls:?}");
    assert!(!folder.join("wheel").exists());

    let machine = Machine::pinning("pypi", digest, "");
    python(&machine, "another wheel");
    refused(&machine, &machine.install().unwrap_err());
    assert!(!machine.calls().iter().any(|call| call.contains("pip install")), "{:?}", machine.calls());
}

#[test]
fn a_python_without_venv_is_a_missing_toolchain() {
    let machine = Machine::new("pypi", "");
    machine.program("python3", "[ $1 = -c ] && exit 1; echo Python 1.5.0");
    let failure = machine.install().unwrap_err();
    assert_eq!(
        (failure.exit_code, failure.kind.as_str()),
        (ExitCode::PrerequisiteMissing, "toolchain-missing")
    );
    machine.assert_nothing();
}

#[test]
fn go_builds_the_module_that_was_compared_and_compares_it_again() {
    let go = |sum: &str| {
        format!(
            "case \"$*\" in version) echo go version go1.5.0 linux/amd64;;\n\
             'mod download '*) echo '{{\"Sum\": \"{sum}\"}}';;\n\
             install*) cp go.mod go.sum $HOME; mkdir $GOBIN; cp /bin/true $GOBIN/judge; env > $HOME/env;; esac"
        )
    };
    let machine = Machine::new("go", "");
    machine.program("go", &go(&integrity("go")));
    assert_eq!(machine.install(), Ok(Outcome::Installed));
    let read = |file: &str| fs::read_to_string(machine.path.join("home").join(file)).unwrap();
    assert!(read("go.mod").ends_with("require judge 1.0.0\n"));
    assert_eq!(read("go.sum"), format!("judge 1.0.0 {}\n", integrity("go")));
    let caches = machine.path.join("cache/tools/.caches/go");
    for line in [
        format!("GOMODCACHE={caches}/modules"),
        format!("GOCACHE={caches}/builds"),
        format!("XDG_CONFIG_HOME={caches}"),
        format!("GOENV={}/.config/go/env", machine.path.join("home")),
    ] {
        assert!(read("env").lines().any(|there| there == line), "{line}");
    }

    let machine = Machine::new("go", "");
    machine.program("go", &go(&integrity("go").replace('B', "D")));
    refused(&machine, &machine.install().unwrap_err());
    assert!(!machine.calls().iter().any(|call| call.contains("install")), "{:?}", machine.calls());
}

#[test]
fn cargo_builds_the_crate_whose_index_entry_was_compared() {
    let cargo = |digit: &str| {
        let entry = format!(
            "[[package]]\\nname = \"judge\"\\nversion = \"1.0.0\"\\nchecksum = \"{}\"",
            digit.repeat(64)
        );
        format!(
            "case \"$*\" in --version) echo cargo 1.5.0;;\n\
             generate-lockfile) printf '{entry}' > Cargo.lock; cp Cargo.toml $HOME;;\n\
             install*) mkdir ../bin ../target; cp /bin/true ../bin/judge;; esac"
        )
    };
    let machine = Machine::new("cargo", "profile = \"dev\"");
    machine.program("cargo", &cargo("c"));
    assert_eq!(machine.install(), Ok(Outcome::Installed));
    let calls = machine.calls();
    let installed = calls.last().unwrap();
    for part in ["install judge --version =1.0.0 --locked", "--profile dev", "--root "] {
        assert!(installed.contains(part), "{installed}");
    }
    let folder = machine.path.join("cache/tools/judge/1.0.0");
    assert!(!folder.join("target").exists() && !folder.join("probe").exists());

    let machine = Machine::new("cargo", "");
    machine.program("cargo", &cargo("d"));
    refused(&machine, &machine.install().unwrap_err());
    assert!(!machine.calls().iter().any(|call| call.contains("install")), "{:?}", machine.calls());
}
