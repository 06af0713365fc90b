//! A bench that is killed: its folder is nobody's.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use camino::Utf8PathBuf;
use rustix::process::{Pid, Signal, kill_process};
use stelae_tests::{Source, Xtask, alive, until};

#[test]
fn the_folder_of_a_bench_that_is_killed_is_removed() {
    let source = Source::of_working_tree();
    let xtask = Xtask::new(source.path(), &["--format", "json", "--isolation", "guard", "bench", "gateway"]);
    let (tmp, bin) = (xtask.tmp(), xtask.tmp().with_file_name("bin"));
    // It is built for as long as this test needs.
    fs::create_dir(&bin).unwrap();
    let mark = format!("700.{}", std::process::id());
    fs::write(bin.join("cargo"), format!("#!/bin/sh\nexec /bin/sleep {mark}\n")).unwrap();
    fs::set_permissions(bin.join("cargo"), fs::Permissions::from_mode(0o755)).unwrap();
    let cache = tmp.with_file_name("cache");
    let mut run = xtask.env("PATH", bin.as_str()).env("STELAE_CACHE_HOME", cache.as_str()).start();
    until("the build", || {
        assert!(!run.has_ended(), "{}", run.stderr());
        !alive(&mark).is_empty()
    });
    let workspaces = cache.join("workspaces");
    let folders = || {
        let entries = workspaces.read_dir_utf8().unwrap().map(|entry| entry.unwrap().into_path());
        entries.collect::<Vec<Utf8PathBuf>>()
    };
    assert_eq!(folders().len(), 1);
    kill_process(Pid::from_raw(run.inner()).unwrap(), Signal::KILL).unwrap();
    let ended = run.wait();
    assert_eq!(ended.verdict(), (10, "guardian-killed".to_owned()), "{}", ended.stderr);
    assert_eq!((folders(), alive(&mark)), (vec![], vec![]), "{}", ended.stderr);
}
