use super::*;
use crate::env::declared::REGISTRY;
use crate::env::declared::{PROXY_PORT, PUBLIC_BASE_URL, PUBLIC_PORT, STELAE_BIN_DIR, STELAE_ROOT};
use crate::env::env_file::fallback_pieces;
use crate::env::{GatewayEnv, ProgramEnv};

fn file(text: &str) -> Layers {
    Layers {
        files: vec![EnvFile { layer: Layer::EnvFile, path: ".env".into(), text: text.into() }],
        ..Layers::default()
    }
}

fn process(pairs: &[(&str, &str)]) -> Layers {
    Layers {
        process: pairs.iter().map(|&(name, value)| (name.to_owned(), value.to_owned())).collect(),
        ..Layers::default()
    }
}

fn port(layers: &Layers) -> u16 {
    Environment::resolve(layers).unwrap().get::<PROXY_PORT>().unwrap().number()
}

#[test]
fn every_fallback_parses_and_names_declared_variables() {
    for declared in REGISTRY {
        for fallback in declared.fallbacks {
            for piece in fallback_pieces(fallback).unwrap() {
                if let Piece::Variable(name) = piece {
                    assert!(crate::env::programs::declared(&name).is_some(), "{}: {name}", declared.name);
                }
            }
        }
    }
}

#[test]
fn the_port_falls_back_to_public_port_then_9090() {
    assert_eq!(port(&Layers::default()), 9090);
    assert_eq!(port(&file("PUBLIC_PORT=81")), 81);
    assert_eq!(port(&file("PUBLIC_PORT=81\nPROXY_PORT=82")), 82);
}

#[test]
fn stronger_layers_win_and_the_weaker_ones_are_remembered() {
    let mut layers = file("PROXY_PORT=1");
    layers.files.push(EnvFile {
        layer: Layer::LocalFile,
        path: ".env.local".into(),
        text: "PROXY_PORT=2".into(),
    });
    assert_eq!(port(&layers), 2);
    layers.process = vec![("PROXY_PORT".into(), "3".into())];
    assert_eq!(port(&layers), 3);
    layers.command_line = vec![("PROXY_PORT".into(), "4".into())];
    let environment = Environment::resolve(&layers).unwrap();
    let resolved = environment.resolved("PROXY_PORT").unwrap();
    assert_eq!(resolved.origin.layer, Layer::CommandLine);
    let weaker: Vec<_> = resolved.overridden.iter().map(|origin| origin.layer).collect();
    assert_eq!(weaker, [Layer::Process, Layer::LocalFile, Layer::EnvFile]);
    assert_eq!(resolved.overridden[1].place, Some(Place { file: ".env.local".into(), line: 1, column: 1 }));
}

#[test]
fn derived_values_follow_what_they_are_derived_from() {
    let environment = Environment::resolve(&file("PROXY_HOST=127.0.0.2\nPROXY_PORT=81")).unwrap();
    assert_eq!(environment.get::<PUBLIC_BASE_URL>().unwrap().as_str(), "http://127.0.0.2:81");
    let resolved = environment.resolved("PUBLIC_BASE_URL").unwrap();
    assert_eq!(resolved.origin.made_from.as_deref(), Some("http://${PROXY_HOST}:${PROXY_PORT}"));
}

#[test]
fn a_derived_variable_of_the_process_must_agree() {
    let agreeing = process(&[("PROXY_PORT", "81"), ("PUBLIC_BASE_URL", "http://127.0.0.1:81")]);
    assert!(Environment::resolve(&agreeing).is_ok());
    let differing = process(&[("PROXY_PORT", "81"), ("PUBLIC_BASE_URL", "http://127.0.0.1:82")]);
    assert_eq!(Environment::resolve(&differing).unwrap_err().kind, "not-settable");
    assert_eq!(Environment::resolve(&file("PUBLIC_BASE_URL=http://x")).unwrap_err().kind, "not-settable");
}

#[test]
fn an_unknown_name_is_an_error_with_place_and_suggestion() {
    let failure = Environment::resolve(&file("\nPROXY_PROT=81")).unwrap_err();
    assert_eq!(failure.exit_code, ExitCode::Environment);
    assert_eq!(failure.on, [".env:2:1"]);
    assert!(failure.hint.unwrap().contains("did you mean PROXY_PORT?"));
    assert!(Environment::resolve(&process(&[("STELAE_ROTO", "/")])).is_err());
    assert!(Environment::resolve(&process(&[("EDITOR", "vi")])).is_ok());
}

#[test]
fn bad_values_name_the_line_and_never_quote_a_secret() {
    for bad in ["0", "70000", "http"] {
        let failure = Environment::resolve(&file(&format!("PROXY_PORT={bad}"))).unwrap_err();
        assert_eq!((failure.kind.as_str(), failure.on[0].as_str()), ("bad-value", ".env:1:12"));
        assert!(failure.why[0].contains(bad));
    }
    let failure = Environment::resolve(&process(&[("STELAE_MCP_TOKEN", "hunter2\n")])).unwrap_err();
    assert!(!failure.to_string().contains("hunter2"), "{failure}");
}

#[test]
fn references_expand_and_circles_are_reported() {
    let layers = file("STELAE_STATE_HOME=/s\nSTELAE_CACHE_HOME=\"${STELAE_STATE_HOME}/c\"");
    assert_eq!(Environment::resolve(&layers).unwrap().text("STELAE_CACHE_HOME"), Some("/s/c"));
    let circle = file("STELAE_STATE_HOME=${STELAE_CACHE_HOME}\nSTELAE_CACHE_HOME=${STELAE_STATE_HOME}");
    let failure = Environment::resolve(&circle).unwrap_err();
    assert_eq!(failure.kind, "cycle");
    assert_eq!(failure.why, ["STELAE_STATE_HOME -> STELAE_CACHE_HOME -> STELAE_STATE_HOME"]);
    assert_eq!(failure.on, [".env:1:19"]);
    assert_eq!(
        Environment::resolve(&file("PROXY_PORT=${PUBLIC_PORT}")).unwrap_err().kind,
        "missing-variable"
    );
    assert_eq!(
        Environment::resolve(&file("PROXY_PORT=${PUBLIC_PROT}")).unwrap_err().kind,
        "unknown-variable"
    );
}

#[test]
fn host_and_harness_variables_are_not_set_in_files() {
    assert_eq!(Environment::resolve(&file("PATH=/bin")).unwrap_err().kind, "not-settable");
    assert_eq!(Environment::resolve(&file("STELAE_RUN_ID=x")).unwrap_err().kind, "not-settable");
}

#[test]
fn a_program_takes_its_own_variables_and_misses_what_has_no_value() {
    let environment = Environment::resolve(&Layers::default()).unwrap();
    assert_eq!(environment.get::<PUBLIC_PORT>().unwrap(), None);
    assert_eq!(environment.get::<STELAE_ROOT>().unwrap_err().kind, "missing-variable");
    assert_eq!(GatewayEnv::from_environment(&environment).unwrap_err().kind, "missing-variable");
    let given = vec![Given::of::<STELAE_ROOT>("/r"), Given::of::<STELAE_BIN_DIR>("/b")];
    let environment = Environment::resolve(&Layers { given, ..Layers::default() }).unwrap();
    let pairs = GatewayEnv::from_environment(&environment).unwrap().pairs();
    assert!(pairs.contains(&("STELAE_WORKSPACE_ROOT", "/r".to_owned())));
    assert!(!pairs.iter().any(|(name, _)| *name == "STELAE_CONTROL_TOKEN"));
}

/// Every variable that only the harness sets, with a value that each type takes.
fn poisoned() -> Vec<(String, String)> {
    let harness = REGISTRY.iter().filter(|declared| declared.set_by.is_harness());
    harness.map(|declared| (declared.name.to_owned(), "/poison".to_owned())).collect()
}

#[test]
fn what_only_the_harness_sets_is_not_taken_from_the_calling_process() {
    let poisoned = poisoned();
    for name in ["GIT_INDEX_FILE", "CARGO_TARGET_DIR", "STELAE_RUN_ID", "STELAE_CALLS", "GIT_TERMINAL_PROMPT"]
    {
        assert!(poisoned.iter().any(|(other, _)| other == name), "{name}");
    }
    let clean = Environment::resolve(&Layers::default()).unwrap();
    let environment =
        Environment::resolve(&Layers { process: poisoned.clone(), ..Layers::default() }).unwrap();
    for resolved in environment.iter() {
        let name = resolved.declared.name;
        assert_eq!(environment.text(name), clean.text(name), "{name}");
        assert_eq!(environment.not_taken(name), resolved.declared.set_by.is_harness(), "{name}");
    }
    // What the harness gives is what counts, whatever the caller has.
    let given = vec![Given::of::<STELAE_ROOT>("/r")];
    let environment =
        Environment::resolve(&Layers { given, process: poisoned, ..Layers::default() }).unwrap();
    assert_eq!(environment.text("STELAE_ROOT"), Some("/r"));
}

#[test]
fn what_only_the_harness_sets_is_an_error_where_the_user_writes_it() {
    for pair in poisoned() {
        let text = format!("{}={}\n", pair.0, pair.1);
        assert_eq!(Environment::resolve(&file(&text)).unwrap_err().kind, "not-settable", "{}", pair.0);
        let set = Layers { command_line: vec![pair.clone()], ..Layers::default() };
        let failure = Environment::resolve(&set).unwrap_err();
        assert_eq!((failure.exit_code, failure.kind.as_str()), (ExitCode::Environment, "not-settable"));
    }
    let set = Layers { command_line: vec![("STELAE_ROOT".into(), "/r".into())], ..Layers::default() };
    assert!(Environment::resolve(&set).unwrap_err().hint.unwrap().contains("--root PATH"));
}
