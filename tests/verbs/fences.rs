//! Fences around the crates, each with its positive side: a fence that finds nothing anywhere guards nothing.

use std::process::Command;

use stelae_tests::root;

fn depends_on(package: &str, dependency: &str) -> bool {
    let args = ["tree", "--locked", "--package", package, "--edges", "normal,build", "--prefix", "none"];
    let output = Command::new("cargo").args(args).current_dir(root()).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout).unwrap();
    text.lines().any(|line| line.split(' ').next() == Some(dependency))
}

#[test]
fn the_gateway_has_tokio_and_xtask_has_not() {
    for heavy in ["tokio", "rmcp", "axum", "hyper"] {
        assert!(depends_on("stelae-gateway", heavy), "{heavy} is not in the gateway any more");
        assert!(!depends_on("xtask", heavy), "{heavy} is in xtask");
    }
}

#[test]
fn the_model_has_no_effects_below_it() {
    for effect in ["duct", "rustix", "signal-hook", "ureq", "stelae-run"] {
        assert!(
            depends_on("stelae-run", effect) || effect == "stelae-run",
            "{effect} is not in stelae-run any more"
        );
        assert!(!depends_on("stelae-model", effect), "{effect} is in the model");
    }
}
