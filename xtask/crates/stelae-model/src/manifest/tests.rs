use super::*;

fn entry(what: What) -> Entry {
    Entry { what, mode: 0o644, owner: (0, 0) }
}

fn file(digest: &str) -> Entry {
    let digest = Digest([digest.as_bytes()[0]; 32]);
    entry(What::File { bytes: 1, content: Content::Sha256(digest) })
}

fn manifest(entries: &[(&str, Entry)]) -> Manifest {
    let entries = entries.iter().map(|(place, entry)| ((*place).to_owned(), entry.clone())).collect();
    Manifest { entries, ..Manifest::default() }
}

/// The same with an index that says this of one name.
fn with_index(bytes: u64, says: &[(&str, &str)]) -> Manifest {
    let index = entry(What::File { bytes, content: Content::Index });
    let tracked = says.iter().map(|(name, says)| ((*name).to_owned(), (*says).to_owned())).collect();
    Manifest { tracked: Arc::new(tracked), ..manifest(&[(INDEX, index)]) }
}

fn lines(was: &[(&str, Entry)], is: &[(&str, Entry)]) -> Vec<String> {
    compare(&manifest(was), &manifest(is)).iter().map(ToString::to_string).collect()
}

fn declared(patterns: &[&str]) -> Declared {
    let patterns: Vec<String> = patterns.iter().map(|&pattern| pattern.to_owned()).collect();
    Declared::read(&patterns).unwrap_or_else(|fault| panic!("{fault:?}"))
}

#[test]
fn two_names_are_never_one_place() {
    let names: [&[u8]; 8] =
        [b"a", b"\\xff", b"\xff", b"a\xffb", b"a\\xffb", "a\u{202e}b".as_bytes(), b"a\nb", "é".as_bytes()];
    let places: std::collections::BTreeSet<String> =
        names.iter().map(|name| place_in("repo:", name)).collect();
    assert_eq!(places.len(), names.len());
    assert_eq!(place_in("repo:", b"\xff\n\\"), "repo:\\xff\\x0a\\\\");
    assert_eq!(place_in("repo:a", "é".as_bytes()), "repo:a/é");
    assert!(place_in("repo:", "a\u{202e}".as_bytes()).is_ascii());
}

#[test]
fn each_kind_of_difference_is_named() {
    let one = |was: Entry, is: Entry| lines(&[("repo:a", was)], &[("repo:a", is)]);
    assert_eq!(one(file("1"), file("1")), [""; 0]);
    assert_eq!(one(file("1"), file("2")), ["changed (content): repo:a"]);
    assert_eq!(one(file("1"), Entry { mode: 0o755, ..file("1") }), ["changed (mode: 0644 -> 0755): repo:a"]);
    let both = Entry { mode: 0o755, owner: (0, 7), ..file("2") };
    assert_eq!(one(file("1"), both), ["changed (content, mode: 0644 -> 0755, owner: 0:0 -> 0:7): repo:a"]);
    assert_eq!(one(file("1"), entry(What::Fifo)), ["changed (type: file -> fifo): repo:a"]);
    let link = |to: &str| entry(What::Link(to.to_owned()));
    assert_eq!(one(link("x"), link("y")), ["changed (link: x -> y): repo:a"]);
    assert_eq!(one(entry(What::Device(1)), entry(What::Device(2))), ["changed (content): repo:a"]);
    assert_eq!(one(entry(What::Folder), entry(What::Mount)), ["changed (type: folder -> mount): repo:a"]);
    let unread = || entry(What::File { bytes: 1, content: Content::Unread("denied".to_owned()) });
    assert_eq!(one(file("1"), unread()), ["changed (content: denied): repo:a"]);
    assert_eq!(one(unread(), unread()), ["changed (content: denied): repo:a"]);
    assert_eq!(lines(&[], &[("repo:a", file("1"))]), ["added (file): repo:a"]);
    assert_eq!(lines(&[("repo:a", entry(What::Socket))], &[]), ["removed (socket): repo:a"]);
}

#[test]
fn what_an_index_says_is_compared_and_not_its_bytes() {
    let lines =
        |was: &Manifest, is: &Manifest| compare(was, is).iter().map(ToString::to_string).collect::<Vec<_>>();
    let was = with_index(1, &[("a/b", "x"), ("c", "y")]);
    assert_eq!(lines(&was, &with_index(2, &[("a/b", "x"), ("c", "y")])), [""; 0]);
    assert_eq!(
        lines(&was, &with_index(1, &[("a/b", "x skip-worktree"), ("d", "z")])),
        [
            "changed (index: x -> x skip-worktree): repo:.git/index: a/b",
            "changed (index: y -> nothing): repo:.git/index: c",
            "changed (index: nothing -> z): repo:.git/index: d",
        ]
    );
    let broken = manifest(&[(INDEX, file("1"))]);
    assert_eq!(lines(&was, &broken), ["changed (content): repo:.git/index"]);
    assert_eq!(lines(&was, &manifest(&[])), ["removed (file): repo:.git/index"]);
    let declared = declared(&[INDEX]);
    let flagged = compare(&was, &with_index(1, &[("a/b", "x"), ("c", "y assume-unchanged")]));
    assert!(flagged.iter().all(|difference| !difference.is_declared(&declared)), "none is meant by that");
}

#[test]
fn a_summary_tells_a_folder_once_and_counts_the_rest() {
    let folder = || entry(What::Folder);
    let (was, is) = (
        manifest(&[("repo:b", file("1"))]),
        manifest(&[
            ("repo:a", folder()),
            ("repo:a/x", file("1")),
            ("repo:a/y", folder()),
            ("repo:a/y/z", file("1")),
            ("repo:b", file("2")),
            ("repo:c", file("1")),
        ]),
    );
    let all = compare(&was, &is);
    assert_eq!(
        summary(&all, 2),
        [
            "added (folder): repo:a",
            "changed (content): repo:b",
            "and 1 more",
            "and 3 below folders that came or went"
        ]
    );
    assert_eq!(summary(&[], 10), [""; 0]);
}

#[test]
fn a_declaration_means_what_it_says() {
    for (pattern, fits, differs) in [
        ("config:a.toml", "config:a.toml", "repo:a.toml"),
        ("config:a/*.toml", "config:a/b.toml", "config:a/b/c.toml"),
        ("config:a/*.toml", "config:a/.toml", "config:a/b.tomlx"),
        ("repo:target/**", "repo:target/a/b", "repo:target"),
        ("repo:target/**", "repo:target/a", "repo:targets/a"),
        ("repo:a/**/z", "repo:a/z", "repo:a/b/y"),
        ("repo:a/**/z", "repo:a/b/c/z", "repo:z"),
        ("repo:*a*b", "repo:xaxb", "repo:xbxa"),
        ("repo:**/log", "repo:a/log", "repo:.git/log"),
        ("repo:*/config", "repo:a/config", "repo:.git/config"),
        ("repo:.git/index", "repo:.git/index//a/b", "repo:.git/indexes"),
        ("repo:.git/refs/**", "repo:.git/refs/heads/x", "repo:.git/HEAD"),
    ] {
        let declared = declared(&[pattern]);
        assert!(declared.covers(fits), "{pattern} {fits}");
        assert!(!declared.covers(differs), "{pattern} {differs}");
    }
    let reaches = |pattern: &str, folder: &str| declared(&[pattern]).reaches_below(folder);
    assert!(reaches("repo:a/b/*.c", "repo:a") && reaches("repo:a/b/*.c", "repo:a/b"));
    assert!(reaches("repo:a/**", "repo:a/b/c") && reaches("repo:a", "repo:"));
    assert!(!reaches("repo:a/b/*.c", "repo:a/b/c") && !reaches("repo:a/b", "repo:x"));
    assert!(!reaches("config:a/b", "repo:a") && !reaches("repo:**/x", "repo:.git"));
}

#[test]
fn a_declaration_that_is_none_is_refused() {
    let fault = |patterns: &[&str]| {
        let patterns: Vec<String> = patterns.iter().map(|&pattern| pattern.to_owned()).collect();
        Declared::read(&patterns).map(drop)
    };
    for bad in [
        "a.toml",
        "state:a",
        "confg:a",
        ":a",
        "config:",
        "config:/a",
        "config:a/",
        "config:a//b",
        "config:../a",
        "config:./a",
        "config:**",
        "repo:*",
        "repo:*/**",
        "repo:***",
        "repo:a**/b",
        "repo:a/**/**",
    ] {
        assert!(fault(&[bad]).is_err(), "{bad}");
    }
    assert_eq!(fault(&["confg:a"]).unwrap_err().2.as_deref(), Some("config:a"));
    assert_eq!(fault(&["a"]).unwrap_err().2.as_deref(), Some("config:a"));
    assert_eq!(fault(&["repo:a", "repo:a"]).unwrap_err().1, "it is declared twice");
}

#[test]
fn a_declaration_covers_plain_files_and_nothing_that_is_odd() {
    let all = declared(&["repo:a"]);
    let covered = |was: &[(&str, Entry)], is: &[(&str, Entry)]| {
        compare(&manifest(was), &manifest(is)).iter().all(|difference| difference.is_declared(&all))
    };
    let a = |entry: Entry| [("repo:a", entry)];
    assert!(
        covered(&[], &a(file("1"))) && covered(&a(file("1")), &[]) && covered(&a(file("1")), &a(file("2")))
    );
    assert!(covered(&[], &a(entry(What::Folder))));
    assert!(!covered(&[], &a(entry(What::Fifo))) && !covered(&[], &a(entry(What::Link("x".to_owned())))));
    assert!(!covered(&[], &a(Entry { mode: 0o666, ..file("1") })));
    assert!(!covered(&[], &a(Entry { mode: 0o4755, ..file("1") })));
    assert!(!covered(&a(file("1")), &a(Entry { mode: 0o600, ..file("2") })));
    assert!(!covered(&a(file("1")), &a(entry(What::Folder))));
    assert_eq!(declared(&["repo:a", "repo:b"]).unused(&["repo:a"].into_iter()), ["repo:b"]);
}

#[test]
fn a_manifest_reads_back_and_is_changed() {
    let kinds = [
        ("config:", entry(What::Folder)),
        ("config:f", file("1")),
        ("config:l", entry(What::Link("x".to_owned()))),
    ];
    let all = manifest(&kinds).with(with_index(1, &[("a", "x")]));
    let text = serde_json::to_string(&all).unwrap();
    assert_eq!(serde_json::from_str::<Manifest>(&text).unwrap(), all);
    assert_eq!(all.of_root("config").entries.len(), 3);
    assert_eq!(all.of_root("repo").with(all.of_root("config")), all);
    let changes = Changes::from([("config:f".to_owned(), None), ("config:g".to_owned(), Some(file("2")))]);
    let changed = all.changed_by(&changes);
    assert!(changed.get("config:f").is_none() && changed.get("config:g") == Some(&file("2")));
}

/// An index as git 2.53 writes it, version by version: `README` and `dir/é`.
fn index(version: u32) -> Vec<u8> {
    let mut bytes = b"DIRC".to_vec();
    bytes.extend(version.to_be_bytes());
    bytes.extend(2_u32.to_be_bytes());
    let mut last: &[u8] = b"";
    for (name, flags, extended) in
        [(&b"README"[..], 0x8000_u16, None), ("dir/é".as_bytes(), 0x4000, Some(0x4000_u16))]
    {
        let begun = bytes.len();
        bytes.extend([7; 24]);
        bytes.extend(0o100_644_u32.to_be_bytes());
        bytes.extend([7; 12]);
        bytes.extend([0xab; 20]);
        let extended = extended.filter(|_| version > 2);
        let flags = if extended.is_some() || flags != 0x4000 { flags } else { 0 };
        bytes.extend((flags | u16::try_from(name.len()).unwrap()).to_be_bytes());
        bytes.extend(extended.into_iter().flat_map(u16::to_be_bytes));
        if version == 4 {
            bytes.push(u8::try_from(last.len()).unwrap());
            bytes.extend(name);
            bytes.push(0);
        } else {
            bytes.extend(name);
            bytes.extend(vec![0; 8 - (bytes.len() - begun) % 8]);
        }
        last = name;
    }
    bytes.extend(b"TREE\0\0\0\x02xx");
    bytes.extend([0xcd; 20]);
    bytes
}

#[test]
fn an_index_is_read_in_all_its_versions() {
    let object = "ab".repeat(20);
    for version in 2..=4 {
        let says: Vec<_> =
            read_index(&index(version)).unwrap_or_else(|| panic!("{version}")).into_iter().collect();
        let skip = if version > 2 { " skip-worktree" } else { "" };
        assert_eq!(
            says,
            [
                (b"README".to_vec(), format!("100644 {object} assume-unchanged")),
                ("dir/é".as_bytes().to_vec(), format!("100644 {object}{skip}")),
            ]
        );
    }
}

#[test]
fn what_only_makes_git_faster_says_nothing_and_what_else_is_there_does() {
    let with = |kind: &[u8]| {
        let mut bytes = index(2);
        let end = bytes.len() - 20;
        bytes.splice(end..end, [kind, &[0, 0, 0, 1, 9]].concat());
        read_index(&bytes).unwrap()
    };
    assert_eq!(with(b"UNTR"), read_index(&index(2)).unwrap());
    assert!(with(b"link").contains_key(&b"/link"[..]));
}

#[test]
fn no_bytes_can_make_the_reader_of_an_index_panic() {
    for version in 2..=4 {
        let good = index(version);
        for end in 0..good.len() {
            drop(read_index(&good[..end]));
            for wrong in [0, 0x7f, 0x80, 0xff] {
                let mut bytes = good.clone();
                bytes[end] = wrong;
                drop(read_index(&bytes));
            }
        }
    }
    assert_eq!(read_index(b""), None);
    assert_eq!(read_index(b"DIRC"), None);
}
