//! The edge of the process: whatever happens inside, what comes out is in the closed list.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};

use stelae_model::Failure;

use crate::verb::Outcome;

/// Runs a verb; a panic in it becomes the failure that it is, exit code 1, after everything was dropped (and so stopped)
/// on its way. Where it happened, the panic itself has said on stderr.
pub(crate) fn guarded(verb: impl FnOnce() -> Outcome) -> Outcome {
    // Nothing that the verb had in its hands is looked at afterwards, but for the printer, whose locks do not mind.
    catch_unwind(AssertUnwindSafe(verb)).unwrap_or_else(|panic| {
        Err(Failure::unexpected("the harness itself broke off").because(said(panic.as_ref())))
    })
}

fn said(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    let text = text.or_else(|| panic.downcast_ref::<&str>().copied());
    text.map_or_else(|| "a panic without words".to_owned(), |text| format!("panic: {text}"))
}

#[cfg(test)]
mod tests {
    use stelae_model::ExitCode;

    use super::*;

    #[test]
    fn a_panic_is_exit_1_with_its_words_and_a_hint() {
        let none: Option<u8> = None;
        let failure = guarded(|| panic!("no {none:?} here")).unwrap_err();
        assert_eq!((failure.exit_code, failure.kind.as_str()), (ExitCode::Unexpected, "unexpected"));
        assert_eq!(failure.why, ["panic: no None here"]);
        assert!(failure.hint.unwrap().contains("please report it"));
        assert_eq!(guarded(|| panic!("plain")).unwrap_err().why, ["panic: plain"]);
        assert_eq!(guarded(|| Ok(ExitCode::Drift)), Ok(ExitCode::Drift));
    }
}
