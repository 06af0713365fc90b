use super::*;
use crate::ExitCode;

fn map(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    pairs.iter().map(|&(name, text)| (name.to_owned(), text.to_owned())).collect()
}

fn observed(pairs: &[(&str, &str)]) -> Observed {
    Observed {
        pid: 7,
        command: "gateway serve".into(),
        origin: Origin::Unrecorded,
        memory: Memory::Environment(map(pairs)),
    }
}

/// A process whose start is recorded, with these variables, as the gateway's.
fn started(given: &[(&str, &str)], memory: Memory) -> Observed {
    Observed { origin: Origin::Recorded(Box::new(start(given))), memory, ..observed(&[]) }
}

fn start(given: &[(&str, &str)]) -> StartRecord {
    StartRecord {
        process: "gateway".into(),
        pid: 7,
        started: 7,
        by: 1,
        by_started: 1,
        program: "/p".into(),
        executed: None,
        image: Some("first".into()),
        environment: BTreeMap::new(),
        environment_bytes: 0,
    }
    .with_environment(given.iter().copied())
}

fn bytes(pairs: &[(&str, &str)]) -> Vec<u8> {
    pairs.iter().map(|(name, text)| format!("{name}={text}\0")).collect::<String>().into_bytes()
}

fn declarations() -> BTreeMap<String, Declaration> {
    let must_have = map(&[
        ("STELAE_PROCESS", "gateway"),
        ("PROXY_PORT", "1"),
        ("HTTPS_PROXY", "hunter2"),
        ("OWN_KEY", "hunter2"),
    ]);
    let must_be_set = ["STELAE_CONTROL_TOKEN".to_owned()].into();
    let may_have = ["LISTEN_FDS".to_owned()].into();
    BTreeMap::from([(
        "gateway".to_owned(),
        Declaration { must_have, must_be_set, may_have, may_be_absent: false },
    )])
}

const GOOD: [(&str, &str); 5] = [
    ("STELAE_PROCESS", "gateway"),
    ("PROXY_PORT", "1"),
    ("HTTPS_PROXY", "hunter2"),
    ("STELAE_CONTROL_TOKEN", "hunter2"),
    ("OWN_KEY", "hunter2"),
];

fn one_difference(pairs: &[(&str, &str)]) -> Difference {
    let attestation = attest(&declarations(), &[observed(pairs)]);
    assert_eq!(attestation.differences.len(), 1, "{:?}", attestation.differences);
    assert!(!format!("{attestation:?}").contains("hunter2"));
    attestation.differences[0].clone()
}

#[test]
fn only_what_need_not_be_alive_may_be_absent() {
    let mut declarations = declarations();
    assert_eq!(attest(&declarations, &[]).differences.len(), 1);
    declarations.get_mut("gateway").unwrap().may_be_absent = true;
    assert_eq!(attest(&declarations, &[]).differences, []);
}

#[test]
fn agreement_is_silent() {
    let attestation = attest(&declarations(), &[observed(&GOOD)]);
    assert_eq!(attestation.verdict(), Ok(()));
    assert_eq!(attestation.processes[0].environment["STELAE_CONTROL_TOKEN"], "sha256:f52fbd32b2b3");
}

#[test]
fn each_kind_of_difference_is_found() {
    let with = |name, value| {
        let mut pairs = GOOD.to_vec();
        pairs.retain(|&(other, _)| other != name);
        pairs.push((name, value));
        pairs
    };
    let text = one_difference(&with("PROXY_PORT", "2")).to_string();
    assert_eq!(text, "gateway (pid 7): PROXY_PORT is \"2\", declared is \"1\"");
    assert!(
        matches!(one_difference(&with("CARGO", "x")), Difference::Leaked { variable, .. } if variable == "CARGO")
    );
    let without = |name| GOOD.iter().copied().filter(|&(other, _)| other != name).collect::<Vec<_>>();
    assert_eq!(
        one_difference(&without("PROXY_PORT")).to_string(),
        "gateway (pid 7): PROXY_PORT is missing, declared is \"1\""
    );
    assert!(matches!(one_difference(&with("HTTPS_PROXY", "other")), Difference::Differs { .. }));
    assert!(attest(&declarations(), &[observed(&with("LISTEN_FDS", "1"))]).differences.is_empty());
    assert!(attest(&declarations(), &[observed(&with("STELAE_CONTROL_TOKEN", "x"))]).differences.is_empty());
    for token in [&without("STELAE_CONTROL_TOKEN"), &with("STELAE_CONTROL_TOKEN", "")] {
        let text = one_difference(token).to_string();
        assert_eq!(text, "gateway (pid 7): STELAE_CONTROL_TOKEN is missing");
    }
}

#[test]
fn a_variable_of_the_base_that_was_not_declared_here_is_a_leak() {
    let mut pairs = GOOD.to_vec();
    pairs.push(("LC_ALL", "C"));
    assert!(matches!(one_difference(&pairs), Difference::Leaked { variable, .. } if variable == "LC_ALL"));
}

#[test]
fn what_nobody_declared_is_shown_as_a_digest_whatever_it_is_called() {
    let mut pairs = GOOD.to_vec();
    pairs[4].1 = "hunter3";
    let text = one_difference(&pairs).to_string();
    assert!(text.contains("OWN_KEY is \"sha256:") && !text.contains("hunter3"), "{text}");
    pairs.push(("AWS_ACCESS_KEY_ID", "hunter3"));
    let attestation = attest(&declarations(), &[observed(&pairs)]);
    let text = serde_json::to_string(&attestation).unwrap();
    assert!(!text.contains("hunter") && text.contains("\"PROXY_PORT\":\"1\""), "{text}");
}

#[test]
fn a_stack_of_which_nothing_was_seen_is_no_agreement() {
    let failure = attest(&declarations(), &[]).verdict().unwrap_err();
    assert!(failure.why[0].contains("no live process"), "{failure}");
    let unlabelled = attest(&declarations(), &[observed(&GOOD), observed(&[("PATH", "/bin")])]);
    assert!(matches!(unlabelled.differences[..], [Difference::Undeclared { process: None, .. }]));
}

fn with(name: &'static str, value: &'static str) -> Vec<(&'static str, &'static str)> {
    GOOD.iter().copied().filter(|&(other, _)| other != name).chain([(name, value)]).collect()
}

#[test]
fn what_is_whole_and_differs_is_what_the_process_has() {
    for (other, image) in [(with("PROXY_PORT", "2"), "second"), (with("CARGO", "x"), "second")] {
        let memory = Memory::of(&bytes(&other), Some(&start(&GOOD)), Some(image));
        assert_eq!(memory, Memory::Environment(map(&other)));
        let attestation = attest(&declarations(), &[started(&GOOD, memory)]);
        assert_eq!(attestation.differences.len(), 1, "{attestation:?}");
    }
    // Started anew with nothing at all.
    let memory = Memory::of(&[], Some(&start(&GOOD)), Some("second"));
    assert!(attest(&declarations(), &[started(&GOOD, memory)]).verdict().is_err());
    // With holes, but not in what it was given.
    let mut other = bytes(&with("CARGO", "x"));
    other[3] = 0;
    let memory = Memory::of(&other, Some(&start(&GOOD)), Some("second"));
    assert!(attest(&declarations(), &[started(&GOOD, memory)]).verdict().is_err());
}

#[test]
fn memory_that_the_process_wrote_over_says_nothing() {
    let start = start(&GOOD);
    let whole = bytes(&GOOD);
    let zeroed = vec![0; whole.len()];
    let mut titled = whole.clone();
    titled[..18].copy_from_slice(b"nginx: worker\0\0\0\0\0");
    let mut padded = whole.clone();
    padded.fill(b' ');
    for bytes in [&zeroed, &titled, &padded] {
        assert!(matches!(Memory::of(bytes, Some(&start), Some("unseen")), Memory::Rewritten(_)));
    }
    // Moved elsewhere, to any content: the image is the one that was seen with what it was given.
    for bytes in [&[][..], b"ELSE=1\0", b"x"] {
        assert!(matches!(Memory::of(bytes, Some(&start), Some("first")), Memory::Rewritten(_)));
    }
    // Nothing is known of its start.
    assert!(matches!(Memory::of(&titled, None, Some("first")), Memory::Environment(_)));
    assert_eq!(Memory::of(&whole, Some(&start), None), Memory::Environment(map(&GOOD)));
}

#[test]
fn a_process_that_wrote_over_its_memory_is_judged_by_what_it_was_given() {
    let rewritten = || Memory::Rewritten("so".into());
    let attestation = attest(&declarations(), &[started(&GOOD, rewritten())]);
    assert_eq!(attestation.verdict(), Ok(()));
    let process = &attestation.processes[0];
    assert_eq!((process.judged_by, process.why.as_deref()), (JudgedBy::Start, Some("so")));
    assert_eq!(process.environment["OWN_KEY"], "sha256:f52fbd32b2b3");
    for (name, value, part) in [
        ("PROXY_PORT", "2", "PROXY_PORT is \"sha256:"),
        ("OWN_KEY", "other", "OWN_KEY is \"sha256:"),
        ("CARGO", "x", "CARGO is there"),
        ("STELAE_CONTROL_TOKEN", "", "STELAE_CONTROL_TOKEN is missing"),
    ] {
        let attestation = attest(&declarations(), &[started(&with(name, value), rewritten())]);
        let failure = attestation.verdict().unwrap_err();
        assert_eq!(failure.kind, "environment-differs");
        assert!(failure.why[0].contains(part), "{failure}");
    }
}

#[test]
fn a_memory_that_was_put_right_does_not_hide_what_was_given() {
    let memory = Memory::Environment(map(&GOOD));
    let attestation = attest(&declarations(), &[started(&with("PROXY_PORT", "2"), memory)]);
    assert_eq!(attestation.differences.len(), 1);
    assert!(attestation.verdict().is_err());
}

#[test]
fn what_may_not_be_read_is_a_failure_of_its_own() {
    let unreadable = || Memory::Unreadable("not permitted".into());
    for observed in [started(&GOOD, unreadable()), Observed { memory: unreadable(), ..observed(&[]) }] {
        let attestation = attest(&declarations(), &[observed]);
        let failure = attestation.verdict().unwrap_err();
        assert_eq!(
            (failure.exit_code, failure.kind.as_str()),
            (ExitCode::Environment, "environment-unreadable")
        );
    }
}

#[test]
fn a_label_is_no_proof_of_a_process_whose_start_is_not_recorded() {
    let copied = Observed { origin: Origin::Descendant(Some("server:a".into())), ..observed(&GOOD) };
    let attestation = attest(&declarations(), &[copied]);
    assert!(matches!(attestation.differences[..], [Difference::NoProcess { .. }]));
    assert_eq!(attestation.not_compared.len(), 1);
    // And one that has lost its label is still the process that was started.
    let without: Vec<_> = GOOD.iter().copied().filter(|&(name, _)| name != "STELAE_PROCESS").collect();
    let attestation = attest(&declarations(), &[started(&GOOD, Memory::Environment(map(&without)))]);
    assert_eq!(
        attestation.differences.iter().map(ToString::to_string).collect::<Vec<_>>(),
        ["gateway (pid 7): STELAE_PROCESS is missing, declared is \"gateway\""]
    );
}
