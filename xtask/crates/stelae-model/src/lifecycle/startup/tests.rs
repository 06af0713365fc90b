use super::*;

const fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

fn start(rungs: &[Rung]) -> Startup {
    Startup::new(Patience { idle: ms(100), ceiling: ms(1000) }, rungs.to_vec())
}

fn ready(rung: Rung) -> Event {
    Event::Rung(rung, Standing::Ready)
}

fn not_yet(rung: Rung, status: &str) -> Event {
    Event::Rung(rung, Standing::not_yet(status))
}

fn lacking(missing: &str) -> Lacking {
    Lacking { missing: vec![missing.to_owned()], ..Lacking::default() }
}

#[test]
fn climbs_in_order_whatever_order_was_asked_for() {
    let mut start = start(&[Rung::Initialize, Rung::Listening, Rung::Http]);
    assert_eq!(start.observe(ms(1), ready(Rung::Listening)), None);
    assert_eq!(start.observe(ms(2), ready(Rung::Listening)), None, "again: it is behind us");
    assert_eq!(start.observe(ms(3), ready(Rung::Http)), None);
    assert_eq!(start.observe(ms(4), ready(Rung::Initialize)), Some(Verdict::Ready));
    assert_eq!(start.reached()[&Rung::Listening], ms(1));
}

#[test]
fn an_early_answer_counts_when_its_rung_is_reached() {
    let mut start = start(&[Rung::Announced, Rung::Listening, Rung::Http]);
    assert_eq!(start.observe(ms(1), not_yet(Rung::Listening, "refused")), None);
    assert_eq!(start.observe(ms(2), ready(Rung::Listening)), None);
    assert_eq!(start.observe(ms(3), not_yet(Rung::Http, "answered 404")), None);
    assert_eq!(start.stands_on().0, Rung::Announced);
    assert_eq!(start.observe(ms(4), ready(Rung::Announced)), None);
    assert_eq!(start.stands_on(), (Rung::Http, "answered 404".to_owned()));
    assert_eq!(start.observe(ms(5), ready(Rung::Http)), Some(Verdict::Ready));
}

#[test]
fn silence_ends_at_the_idle_window_with_the_last_status() {
    let mut start = start(&[Rung::Listening, Rung::Http]);
    assert_eq!(start.observe(ms(10), ready(Rung::Listening)), None);
    assert_eq!(start.observe(ms(20), not_yet(Rung::Http, "answered 404")), None);
    assert_eq!(start.observe(ms(109), Event::Tick), None, "the new rung opened the window at 10 ms");
    let late = Verdict::TooLate { limit: WhichLimit::Idle, rung: Rung::Http, status: "answered 404".into() };
    assert_eq!(start.observe(ms(110), Event::Tick), Some(late));
}

#[test]
fn a_service_that_nobody_has_looked_at_is_not_called_silent() {
    let mut start = start(&[Rung::Listening, Rung::Http]);
    assert_eq!(start.observe(ms(500), Event::Tick), None);
    assert_eq!(start.observe(ms(501), ready(Rung::Listening)), None);
    assert_eq!(start.observe(ms(700), Event::Tick), None, "nobody has asked it anything");
    assert!(matches!(
        start.observe(ms(701), not_yet(Rung::Http, "refused")),
        Some(Verdict::TooLate { limit: WhichLimit::Idle, .. })
    ));
    let mut start = self::start(&[Rung::Listening]);
    let verdict = start.observe(ms(1000), Event::Tick);
    assert!(matches!(verdict, Some(Verdict::TooLate { limit: WhichLimit::Ceiling, .. })), "{verdict:?}");
}

#[test]
fn a_status_that_changes_is_no_sign_of_life() {
    let mut start = start(&[Rung::Http]);
    assert_eq!(start.observe(ms(50), not_yet(Rung::Http, "refused")), None);
    assert!(start.observe(ms(100), not_yet(Rung::Http, "reset")).is_some());
}

#[test]
fn chatter_is_ended_by_the_ceiling() {
    let mut start = start(&[Rung::Listening]);
    for at in 1..1000 {
        assert_eq!(start.observe(ms(at), Event::Output), None, "{at}");
    }
    let verdict = start.observe(ms(1000), Event::Output);
    assert!(matches!(verdict, Some(Verdict::TooLate { limit: WhichLimit::Ceiling, .. })), "{verdict:?}");
}

#[test]
fn a_service_that_answers_without_the_tools_is_incomplete_not_late() {
    let mut start = start(&[Rung::Tools]);
    let standing = Standing::NotYet { status: "2 of 3".into(), lacking: Some(lacking("grep")) };
    assert_eq!(start.observe(ms(5), Event::Rung(Rung::Tools, standing)), None);
    let verdict = start.observe(ms(100), Event::Tick);
    assert!(
        matches!(&verdict, Some(Verdict::Incomplete { lacking, .. }) if lacking.missing == ["grep"]),
        "{verdict:?}"
    );
}

#[test]
fn a_list_that_is_not_answered_any_more_is_late_not_incomplete() {
    let mut start = start(&[Rung::Tools]);
    let standing = Standing::NotYet { status: "2 of 3".into(), lacking: Some(lacking("grep")) };
    assert_eq!(start.observe(ms(5), Event::Rung(Rung::Tools, standing)), None);
    assert_eq!(start.observe(ms(6), not_yet(Rung::Tools, "no answer")), None);
    assert!(matches!(start.observe(ms(100), Event::Tick), Some(Verdict::TooLate { .. })));
}

#[test]
fn what_cannot_come_any_more_is_said_at_once() {
    let standing = Standing::Failed { why: "server x failed".into(), lacking: Some(lacking("x_tool")) };
    let verdict = start(&[Rung::Tools]).observe(ms(1), Event::Rung(Rung::Tools, standing));
    assert!(matches!(verdict, Some(Verdict::Incomplete { .. })));
}

#[test]
fn an_exit_with_status_0_is_still_an_exit() {
    let verdict = start(&[Rung::Listening]).observe(ms(1), Event::Exited(Ended::Status(0)));
    assert_eq!(verdict, Some(Verdict::Exited(Ended::Status(0))));
}

#[test]
fn interrupt_stranger_and_budget_end_it_at_once() {
    let ends = |event| start(&[Rung::Http]).observe(ms(1), event);
    assert_eq!(ends(Event::Stranger), Some(Verdict::PortTaken));
    let code = ExitCode::Interrupted;
    assert_eq!(ends(Event::Interrupted(code)), Some(Verdict::Interrupted(code)));
    assert!(matches!(ends(Event::BudgetPassed), Some(Verdict::BudgetPassed { rung: Rung::Http, .. })));
}

#[test]
fn the_next_limit_is_the_sooner_one() {
    let mut start = start(&[Rung::Http]);
    assert_eq!(start.until_next_limit(ms(30)), ms(970), "nobody has looked yet");
    assert_eq!(start.observe(ms(20), not_yet(Rung::Http, "refused")), None);
    assert_eq!(start.until_next_limit(ms(30)), ms(70));
    assert_eq!(start.observe(ms(90), Event::Output), None);
    assert_eq!(start.until_next_limit(ms(90)), ms(100));
    start.seen_alive = ms(950);
    assert_eq!(start.until_next_limit(ms(980)), ms(20));
}
