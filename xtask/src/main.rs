//! `cargo xtask`: parse, guard, run, print, exit.

mod cli;
mod context;
mod edge;
mod gateway;
mod guard;
mod print;
mod verb;

use std::process::ExitCode;

fn main() -> ExitCode {
    // Before anything that might start a thread.
    if let Some(status) = stelae_run::process::launch(std::env::args_os()) {
        return ExitCode::from(status);
    }
    stelae_run::report::show_panics();
    let cli = match cli::parse() {
        Ok(cli) => cli,
        Err(answer) => return answer,
    };
    let printer = print::Printer::new(cli.global.format, context::colour(&cli.global));
    if let Some(guard) = cli.guard() {
        let outcome = edge::guarded(|| guard::watch_over(&cli.global, &guard, &printer));
        return ExitCode::from(printer.finish_after_worker(outcome).number());
    }
    let outcome = edge::guarded(|| {
        cli.global.become_inner()?;
        cli.verb.run(&context::Context::new(&cli.global, printer.clone())?)
    });
    let code = printer.finish(&outcome);
    guard::ending(code);
    ExitCode::from(code.number())
}
