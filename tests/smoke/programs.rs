//! The programs of a run are those that were built from the clone, from their build to the end of the run.

use stelae_tests::{Source, Xtask};

const STACK: &str = "config/stack.toml";

/// The stack with a service, on which the gateway waits, that carries this out in a shell and then says `changed`.
fn with_changer(script: &str) -> Source {
    let source = Source::of_working_tree();
    source.write("changer.sh", &format!("cd \"$STELAE_BIN_DIR\"\n{script}\nexec sleep 600\n"));
    let service = "[services.changer]\ncommand = \"/bin/sh\"\nargs = [\"<<STELAE_ROOT>>/changer.sh\"]\n\
                   ready_line = \"changed\"\n";
    source.edit(STACK, "[readiness]\n", &format!("{service}\n[readiness]\n"));
    source
}

fn is_found(source: &Source, step: &str, parts: &[&str]) {
    let args = ["--format", "json", "smoke", "--keep", "never"];
    let ended = Xtask::new(source.path(), &args).run();
    assert_eq!(ended.verdict(), (50, "program-changed".to_owned()), "{}", ended.stderr);
    assert_eq!(ended.json()["failed_step"], step, "{}", ended.stderr);
    for part in parts {
        assert!(ended.stderr.contains(part), "no {part:?} in: {}", ended.stderr);
    }
    assert_eq!(ended.left(), Vec::<String>::new());
}

/// Puts a shell script in the gateway's place, which starts it: nothing but the file is another one.
const SWAP: &str = "mv stelae-gateway real\n\
                    printf '#!/bin/sh\\nexec %s/real \"$@\"\\n' \"$PWD\" > stelae-gateway\n\
                    chmod 755 stelae-gateway\n";

#[test]
fn a_gateway_that_was_swapped_before_its_start_is_found() {
    is_found(
        &with_changer(&format!("{SWAP}echo changed")),
        "restart",
        &["bin/stelae-gateway", "sha256 was "],
    );
}

#[test]
fn a_gateway_that_was_swapped_only_for_its_start_is_found() {
    // The script puts the gateway back, and becomes it.
    let script = "mv stelae-gateway real\n\
                  printf '#!/bin/sh\\ncd %s; mv real stelae-gateway; exec ./stelae-gateway \"$@\"\\n' \"$PWD\" > stelae-gateway\n\
                  chmod 755 stelae-gateway\necho changed";
    is_found(&with_changer(script), "restart", &["bin/stelae-gateway", "its content is the same again"]);
}

#[test]
fn a_program_of_the_same_size_and_time_is_another_one() {
    let patch = "touch -r xtask then; printf X | dd of=xtask bs=1 seek=4096 conv=notrunc 2> /dev/null; touch -r then xtask";
    // The running one cannot be written to: a copy takes its place.
    let source = with_changer(&format!("cp -p xtask copy; mv copy xtask; {patch}; rm then; echo changed"));
    is_found(&source, "restart", &["bin/xtask", "sha256 was "]);
}
