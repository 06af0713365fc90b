//! What must not compile does not, and says why in words that help.
//!
//! The texts are rustc's, and of one version of it; on another one these tests are skipped. That the same code does not
//! compile is also held by doc tests, on every version.

#[rustversion::attr(not(stable(1.95)), ignore = "the texts are those of rustc 1.95")]
#[test]
fn what_must_not_compile_does_not() {
    let cases = trybuild::TestCases::new();
    cases.pass("tests/compile_fail/right.rs");
    cases.compile_fail("tests/compile_fail/a_program_without_a_variable_it_reads.rs");
    cases.compile_fail("tests/compile_fail/a_program_with_the_environment_of_another.rs");
    cases.compile_fail("tests/compile_fail/a_step_before_the_step_it_needs.rs");
    cases.compile_fail("tests/compile_fail/a_secret_that_is_printed.rs");
}
