//! On real files.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use camino::Utf8Path;
use stelae_model::bundle::{Action, Edits, ServerState};
use stelae_model::proxy::ServerEntry;

use super::lock::Lock;
use super::*;
use crate::files::await_unlocked;
use crate::render::tests::Stand;
use crate::render::{render_and_write, render_proxy};

mod discovered;
mod refusals;

pub(super) const ALL: Request<'static> = Request { servers: &[], edits: Edits::Keep, apply: Apply::Commit };
const FORCE: Request<'static> = Request { edits: Edits::Overwrite, ..ALL };
const DRY: Request<'static> = Request { apply: Apply::DryRun, ..ALL };

/// A stand with a bundle `b` of two servers in its repository.
fn stand() -> Stand {
    let stand = Stand::new();
    stand.put("root/config/bundles/b/bundle.toml", "name = 'b'\ndescription = 'd'\nversion = '1'\n");
    server(&stand, "one", "1");
    server(&stand, "two", "1");
    stand
}

fn server(stand: &Stand, name: &str, arg: &str) {
    let text = format!(
        "name = '{name}'\ndescription = ''\ntransport = 'stdio'\ncommand = '<<STELAE_BIN_DIR>>/x'\nargs = ['{arg}']\n"
    );
    stand.put(&format!("root/config/bundles/b/servers/{name}.toml"), &text);
}

fn run(stand: &Stand, request: Request<'_>) -> Result<Outcome, Failure> {
    install(&stand.home, &find_bundle(&stand.home, "b")?, request, &mut |_| {})
}

fn text(stand: &Stand, failure: &Failure) -> String {
    failure.to_string().replace(stand.dir.as_str(), "")
}

fn refused(stand: &Stand, request: Request<'_>) -> Failure {
    let before = stand.homes();
    let failure = run(stand, request).unwrap_err();
    assert_eq!(stand.homes(), before, "a refusal touches nothing");
    failure
}

#[test]
fn an_install_is_whole_private_and_told_server_by_server() {
    let stand = stand();
    let mut told = Vec::new();
    let bundle = find_bundle(&stand.home, "b").unwrap();
    let outcome = install(&stand.home, &bundle, ALL, &mut |event| {
        told.push(match event {
            Event::Planned(plan) => format!("{} servers", plan.servers.len()),
            Event::Server(server) => format!("{} {}", server.server, server.action.done()),
            Event::Committed => "committed".to_owned(),
        });
    });
    assert!(outcome.unwrap().changed);
    assert_eq!(told, ["2 servers", "one installed", "two installed", "committed"]);
    let homes = stand.homes();
    let names: Vec<_> = homes.keys().map(String::as_str).collect();
    let folder = "config/bundles/b";
    assert_eq!(
        names,
        [
            &format!("{folder}/installed.json"),
            &format!("{folder}/servers/one.toml"),
            &format!("{folder}/servers/two.toml")
        ]
    );
    for (name, mode) in
        [("", 0o700), ("/servers", 0o700), ("/installed.json", 0o600), ("/servers/one.toml", 0o600)]
    {
        let found = fs::metadata(stand.dir.join(format!("{folder}{name}"))).unwrap();
        assert_eq!(found.permissions().mode() & 0o777, mode, "{name}");
    }
    assert_eq!(render_proxy(&stand.home).unwrap().config.mcp_servers.len(), 2);
}

#[test]
fn the_second_install_touches_nothing() {
    let stand = stand();
    run(&stand, ALL).unwrap();
    let stat = |name: &str| {
        let found = fs::metadata(stand.home.bundles().join(name)).unwrap();
        (found.ino(), found.mtime(), found.mtime_nsec(), found.ctime_nsec())
    };
    let files = ["", "b", "b/servers", "b/installed.json", "b/servers/one.toml"];
    let before = files.map(stat);
    let again = run(&stand, ALL).unwrap();
    assert!(!again.changed && again.plan.servers.iter().all(|server| server.action == Action::UpToDate));
    assert_eq!(files.map(stat), before);
}

#[test]
fn a_dry_run_creates_nothing_at_all() {
    let stand = stand();
    let outcome = run(&stand, DRY).unwrap();
    assert!(outcome.plan.changes && !outcome.changed);
    assert!(!stand.home.config_home.exists());
}

#[test]
fn subsets_add_to_what_is_there() {
    let stand = stand();
    let one = |name: &str| [name.to_owned()];
    run(&stand, Request { servers: &one("two"), ..ALL }).unwrap();
    run(&stand, Request { servers: &one("one"), ..ALL }).unwrap();
    assert_eq!(render_proxy(&stand.home).unwrap().config.mcp_servers.len(), 2);
    let failure = refused(&stand, Request { servers: &one("on"), ..ALL });
    assert_eq!(failure.to_string(), "bundle \"b\" has no server \"on\"\n hint: did you mean one?");
    let removed = remove(&stand.home, "b", Request { servers: &one("one"), ..ALL }, &mut |_| {}).unwrap();
    assert_eq!(removed.plan.servers[0].action, Action::Remove);
    assert_eq!(render_proxy(&stand.home).unwrap().config.mcp_servers.len(), 1);
}

#[test]
fn edits_are_kept_and_shown_and_lost_by_force_only() {
    let stand = stand();
    run(&stand, ALL).unwrap();
    let file = stand.home.bundles().join("b/servers/one.toml");
    let mine = fs::read_to_string(&file).unwrap().replace("'1'", "'mine'");
    fs::write(&file, &mine).unwrap();
    server(&stand, "two", "2");
    let failure = refused(&stand, ALL);
    assert_eq!((failure.exit_code, failure.kind.as_str()), (ExitCode::Bundle, "edited"));
    assert_eq!(
        text(&stand, &failure),
        "server \"one\" of bundle \"b\" was edited, and the edit would be lost
   on: /config/bundles/b/servers/one.toml
  log:
    | --- edited
    | +++ bundle
    | @@ -2,4 +2,4 @@
    |  description = ''
    |  transport = 'stdio'
    |  command = '<<STELAE_BIN_DIR>>/x'
    | -args = ['mine']
    | +args = ['1']
 hint: repeat with --force to lose the edit; nothing was changed"
    );
    assert_eq!(refused(&stand, DRY).kind, "edited");
    // The edit takes part in rendering meanwhile.
    assert_eq!(render_proxy(&stand.home).unwrap().config.mcp_servers["one"].args, ["mine"]);
    let actions: Vec<_> =
        run(&stand, FORCE).unwrap().plan.servers.iter().map(|server| server.action).collect();
    assert_eq!(actions, [Action::Overwrite, Action::Update]);
    assert_eq!(render_proxy(&stand.home).unwrap().config.mcp_servers["two"].args, ["2"]);
}

#[test]
fn foreign_files_survive_installs_and_removals() {
    let stand = stand();
    run(&stand, ALL).unwrap();
    stand.put("config/bundles/b/notes/mine.txt", "mine");
    stand.put("config/bundles/b/servers/own.toml", "not even a descriptor");
    server(&stand, "one", "2");
    run(&stand, ALL).unwrap();
    assert_eq!(render_proxy(&stand.home).unwrap().config.mcp_servers.len(), 2);
    let status = status(&stand.home, "b").unwrap();
    assert_eq!(status.foreign, ["notes/mine.txt"]);
    assert_eq!(status.servers[1].state, ServerState::Foreign);
    remove(&stand.home, "b", ALL, &mut |_| {}).unwrap();
    assert_eq!(
        stand.homes().keys().collect::<Vec<_>>(),
        ["config/bundles/b/notes/mine.txt", "config/bundles/b/servers/own.toml"]
    );
    assert_eq!(remove(&stand.home, "b", ALL, &mut |_| {}).unwrap_err().kind, "not-installed");
}

#[test]
fn a_removal_takes_the_folder() {
    let stand = stand();
    run(&stand, ALL).unwrap();
    remove(&stand.home, "b", DRY, &mut |_| {}).unwrap();
    assert!(!stand.homes().is_empty());
    remove(&stand.home, "b", ALL, &mut |_| {}).unwrap();
    assert!(stand.homes().is_empty() && !stand.home.bundles().join("b").exists());
}

#[test]
fn bundles_are_listed_with_their_state() {
    let stand = stand();
    let shown = |stand: &Stand| {
        let bundles = list(&stand.home).unwrap();
        let one = bundles.into_iter().find(|bundle| bundle.bundle == "b").unwrap();
        let states: Vec<_> = one.servers.iter().map(|server| server.state).collect();
        (one.available, one.installed, states)
    };
    let version = || Some("1".to_owned());
    assert_eq!(shown(&stand), (version(), None, vec![ServerState::Available; 2]));
    run(&stand, ALL).unwrap();
    assert_eq!(shown(&stand), (version(), version(), vec![ServerState::UpToDate; 2]));
    server(&stand, "one", "2");
    fs::remove_file(stand.home.bundles().join("b/servers/two.toml")).unwrap();
    assert_eq!(shown(&stand).2, [ServerState::Outdated, ServerState::Missing]);
    fs::remove_dir_all(stand.home.available_bundles().join("b")).unwrap();
    assert_eq!(shown(&stand).2, [ServerState::Orphaned, ServerState::Missing]);
    assert_eq!(status(&stand.home, "c").unwrap_err().kind, "unknown-bundle");
}

/// Dies at each event, which is each step, of an install and of an update: what is there is the old or the new folder,
/// whole, and the next install puts everything right.
#[test]
fn dying_at_any_step_leaves_the_old_or_the_new() {
    for update in [false, true] {
        for step in 0..4 {
            let stand = stand();
            if update {
                run(&stand, ALL).unwrap();
                server(&stand, "one", "2");
                server(&stand, "two", "2");
            }
            let old = stand.homes();
            let bundle = find_bundle(&stand.home, "b").unwrap();
            let mut seen = 0;
            let dies = catch_unwind(AssertUnwindSafe(|| {
                install(&stand.home, &bundle, ALL, &mut |_| {
                    assert!(seen < step, "dies here");
                    seen += 1;
                })
            }));
            assert!(dies.is_err());
            let visible = |stand: &Stand| -> Vec<_> {
                stand.homes().into_iter().filter(|(name, _)| name.starts_with("config/bundles/b/")).collect()
            };
            let after = visible(&stand);
            let committed = step == 3;
            assert_eq!(after == old.into_iter().collect::<Vec<_>>(), !committed, "step {step}");
            let args = if committed && update { "2" } else { "1" };
            if committed || update {
                let config = render_proxy(&stand.home).unwrap().config;
                assert!(config.mcp_servers.values().all(|server| server.args == [args]), "step {step}");
            }
            assert_eq!(run(&stand, ALL).unwrap().changed, !committed);
            assert_eq!(stand.homes().into_iter().collect::<Vec<_>>(), visible(&stand), "no leftovers");
        }
    }
}

#[test]
fn one_change_at_a_time() {
    let stand = stand();
    let dir = stand.home.bundles();
    fs::create_dir_all(&dir).unwrap();
    assert!(Lock::share(&dir, Duration::ZERO).unwrap().is_none());
    // One that is there and cannot be opened may be held.
    symlink(".lock", dir.join(".lock")).unwrap();
    assert_eq!(Lock::share(&dir, Duration::ZERO).unwrap_err().kind, "lock-unusable");
    fs::remove_file(dir.join(".lock")).unwrap();
    let held = Lock::take(&dir, Duration::ZERO).unwrap();
    let failure = Lock::take(&dir, Duration::from_millis(20)).unwrap_err();
    assert_eq!(
        text(&stand, &failure),
        format!(
            "another process is changing the installed bundles\n   on: /config/bundles/.lock\n  why: pid {} held the lock for 20 ms\n hint: try again when it is done",
            std::process::id()
        )
    );
    assert_eq!(Lock::share(&dir, Duration::ZERO).unwrap_err().kind, "bundles-locked");
    drop(held);
    await_unlocked(&dir.join(".lock"));
    let reader = Lock::share(&dir, Duration::ZERO).unwrap();
    assert!(Lock::share(&dir, Duration::ZERO).unwrap().is_some());
    assert!(Lock::take(&dir, Duration::ZERO).is_err());
    drop(reader);
    await_unlocked(&dir.join(".lock"));
    assert!(Lock::take(&dir, Duration::ZERO).is_ok());
}

/// Installs and readers at once: every one succeeds, and nobody reads half a folder.
#[test]
fn concurrent_installs_and_readers_see_whole_folders() {
    let stand = stand();
    let old = find_bundle(&stand.home, "b").unwrap();
    server(&stand, "one", "2");
    server(&stand, "two", "2");
    let new = find_bundle(&stand.home, "b").unwrap();
    install(&stand.home, &old, ALL, &mut |_| {}).unwrap();
    let whole = |servers: BTreeMap<String, ServerEntry>| {
        assert_eq!((servers.len(), &servers["one"].args), (2, &servers["two"].args));
    };
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                // In turns, so that every install changes something. Few enough for a disk on which each takes half a
                // second: whoever waits for the lock asks for it again and again, and need not be the next.
                for bundle in [&new, &old].into_iter().cycle().take(10) {
                    install(&stand.home, bundle, ALL, &mut |_| {}).unwrap();
                }
            });
        }
        scope.spawn(|| {
            for _ in 0..40 {
                whole(render_proxy(&stand.home).unwrap().config.mcp_servers);
            }
        });
        scope.spawn(|| {
            for _ in 0..10 {
                whole(render_and_write(&stand.home).unwrap().0.config.mcp_servers);
            }
        });
    });
}

#[test]
fn bundles_are_found_by_path_too() {
    let stand = stand();
    let path = stand.home.available_bundles().join("b");
    assert_eq!(find_bundle(&stand.home, path.as_str()), find_bundle(&stand.home, "b"));
}

#[test]
fn the_real_core_bundle_installs_and_renders() {
    let root = Utf8Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(3).unwrap();
    let mut stand = Stand::new();
    stand.home.root = root.to_owned();
    stand.home.template = root.join("config/proxy.template.json");
    install(&stand.home, &find_bundle(&stand.home, "core").unwrap(), ALL, &mut |_| {}).unwrap();
    let config = render_proxy(&stand.home).unwrap().config;
    let server = &config.mcp_servers["stelae"];
    assert_eq!(server.command.as_deref(), Some("/opt/bin/stelae-gateway"));
    assert!(server.required && server.control && server.args == ["server"]);
}
