use super::super::{Descriptor, Manifest, ServerFile};
use super::*;
use crate::render::Source;

fn bundle(version: &str, servers: &[(&str, &str)]) -> Bundle {
    let server = |&(name, command): &(&str, &str)| {
        let text = format!("name = '{name}'\ndescription = ''\ntransport = 'stdio'\ncommand = '{command}'\n");
        let source = Source::new(format!("{name}.toml"), text);
        let descriptor = Descriptor::parse(&source, name).unwrap();
        (name.to_owned(), ServerFile { source, descriptor })
    };
    let manifest = Manifest { name: "b".into(), description: String::new(), version: version.into() };
    Bundle { manifest, servers: servers.iter().map(server).collect() }
}

fn asked(names: &[&str]) -> Vec<String> {
    names.iter().map(|&name| name.to_owned()).collect()
}

fn installed(bundle: &Bundle, names: &[&str]) -> Folder {
    plan_install(bundle, &Folder::default(), &asked(names), Edits::Keep).unwrap().after
}

fn shown(plan: &Plan) -> Vec<String> {
    plan.servers.iter().map(|server| format!("{} {}", server.server, server.action.word())).collect()
}

#[test]
fn the_first_install_adds_and_the_second_has_nothing_to_do() {
    let bundle = bundle("1", &[("a", "x"), ("c", "y")]);
    let plan = plan_install(&bundle, &Folder::default(), &[], Edits::Keep).unwrap();
    assert_eq!((shown(&plan), plan.changes), (asked(&["a add", "c add"]), true));
    let record = plan.after.record.clone().unwrap();
    assert_eq!((record.version.as_str(), record.servers.len(), record.servers["a"].len()), ("1", 2, 64));
    let again = plan_install(&bundle, &plan.after, &[], Edits::Keep).unwrap();
    assert_eq!((shown(&again), again.changes), (asked(&["a up to date", "c up to date"]), false));
}

#[test]
fn a_subset_adds_to_what_is_there() {
    let bundle = bundle("1", &[("a", "x"), ("c", "y"), ("d", "z")]);
    let before = installed(&bundle, &["c"]);
    let plan = plan_install(&bundle, &before, &asked(&["a", "a"]), Edits::Keep).unwrap();
    assert_eq!(shown(&plan), ["a add"]);
    assert_eq!(plan.after.installed().collect::<Vec<_>>(), ["a", "c"]);
}

#[test]
fn a_newer_bundle_updates_adds_and_removes() {
    let before = installed(&bundle("1", &[("a", "x"), ("c", "y")]), &[]);
    let newer = bundle("2", &[("a", "x2"), ("e", "z")]);
    let plan = plan_install(&newer, &before, &[], Edits::Keep).unwrap();
    assert_eq!(shown(&plan), ["a update", "c remove", "e add"]);
    assert_eq!(plan.after.servers.keys().collect::<Vec<_>>(), ["a", "e"]);
    // A subset leaves alone what it does not name, also what the bundle no longer has.
    let plan = plan_install(&newer, &before, &asked(&["e"]), Edits::Keep).unwrap();
    assert_eq!(plan.after.installed().collect::<Vec<_>>(), ["a", "c", "e"]);
}

#[test]
fn a_new_version_of_the_same_servers_is_recorded() {
    let before = installed(&bundle("1", &[("a", "x")]), &[]);
    let plan = plan_install(&bundle("2", &[("a", "x")]), &before, &[], Edits::Keep).unwrap();
    assert_eq!((shown(&plan), plan.changes), (asked(&["a up to date"]), true));
}

#[test]
fn edits_are_kept_unless_told_otherwise() {
    let bundle = bundle("1", &[("a", "x"), ("c", "y")]);
    let mut before = installed(&bundle, &[]);
    before.servers.get_mut("a").unwrap().extend(b"# mine\n");
    let plan = plan_install(&bundle, &before, &[], Edits::Keep).unwrap();
    assert_eq!(shown(&plan), ["a conflict", "c up to date"]);
    assert_eq!(
        plan.refuse_conflicts("/home/bundles/b").unwrap_err().to_string(),
        "server \"a\" of bundle \"b\" was edited, and the edit would be lost
   on: /home/bundles/b/servers/a.toml
  log:
    | --- edited
    | +++ bundle
    | @@ -2,4 +2,3 @@
    |  description = ''
    |  transport = 'stdio'
    |  command = 'x'
    | -# mine
 hint: repeat with --force to lose the edit; nothing was changed"
    );
    let forced = plan_install(&bundle, &before, &[], Edits::Overwrite).unwrap();
    assert_eq!(shown(&forced), ["a overwrite", "c up to date"]);
    assert!(forced.refuse_conflicts("").is_ok());
    // An edit of one server does not stop a subset without it.
    assert!(
        plan_install(&bundle, &before, &asked(&["c"]), Edits::Keep).unwrap().refuse_conflicts("").is_ok()
    );
}

#[test]
fn a_file_that_we_did_not_install_is_an_edit_too() {
    let bundle = bundle("1", &[("a", "x")]);
    let before = Folder { servers: [("a".to_owned(), vec![0xff])].into(), ..Folder::default() };
    assert_eq!(shown(&plan_install(&bundle, &before, &[], Edits::Keep).unwrap()), ["a conflict"]);
    // One that happens to be the same is no conflict, and becomes ours.
    let before = Folder { record: None, ..installed(&bundle, &[]) };
    let plan = plan_install(&bundle, &before, &[], Edits::Keep).unwrap();
    assert_eq!((shown(&plan), plan.changes), (asked(&["a up to date"]), true));
}

#[test]
fn a_deleted_file_comes_back() {
    let bundle = bundle("1", &[("a", "x")]);
    let mut before = installed(&bundle, &[]);
    before.servers.clear();
    assert_eq!(shown(&plan_install(&bundle, &before, &[], Edits::Keep).unwrap()), ["a add"]);
}

#[test]
fn removal_keeps_edits_and_foreign_files() {
    let bundle = bundle("1", &[("a", "x"), ("c", "y")]);
    let mut before = installed(&bundle, &[]);
    before.foreign.insert("notes.txt".into(), b"mine".to_vec());
    let one = plan_remove("b", &before, &asked(&["a"]), Edits::Keep).unwrap();
    assert_eq!((shown(&one), one.after.record.is_some()), (asked(&["a remove"]), true));
    let all = plan_remove("b", &before, &[], Edits::Keep).unwrap();
    assert_eq!((shown(&all), all.after.record.is_none()), (asked(&["a remove", "c remove"]), true));
    assert!(!all.after.is_empty() && all.after.servers.is_empty());
    before.servers.get_mut("a").unwrap().push(b'#');
    let plan = plan_remove("b", &before, &[], Edits::Keep).unwrap();
    assert!(plan.refuse_conflicts("").is_err());
    assert_eq!(shown(&plan_remove("b", &before, &[], Edits::Overwrite).unwrap()), ["a remove", "c remove"]);
}

#[test]
fn unknown_servers_and_bundles_are_refused() {
    let bundle = bundle("1", &[("stelae", "x"), ("c", "y")]);
    let text = |result: Result<Plan, Failure>| result.unwrap_err().to_string();
    assert_eq!(
        text(plan_install(&bundle, &Folder::default(), &asked(&["stela"]), Edits::Keep)),
        "bundle \"b\" has no server \"stela\"\n hint: did you mean stelae?"
    );
    assert_eq!(
        text(plan_remove("b", &installed(&bundle, &[]), &asked(&["../x"]), Edits::Keep)),
        "bundle \"b\" has no server \"../x\"\n hint: its servers: c, stelae"
    );
    assert_eq!(
        text(plan_remove("b", &Folder::default(), &[], Edits::Keep)),
        "bundle \"b\" is not installed\n hint: cargo xtask bundle list"
    );
}
