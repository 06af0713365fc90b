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
    let cli = match cli::parse() {
        Ok(cli) => cli,
        Err(answer) => return answer,
    };
    let printer = print::Printer::new(cli.global.format, context::colour(&cli.global));
    if let Some(guard) = cli.guard() {
        let outcome = edge::guarded(|| guard::watch_over(&cli.global, &guard, &printer));
        return ExitCode::from(guard::finish(&printer, outcome).number());
    }
    let outcome = edge::guarded(|| {
        cli.global.become_inner()?;
        cli.verb.run(&context::Context::new(&cli.global, printer.clone())?)
    });
    let code = printer.finish(outcome);
    guard::ending(code);
    ExitCode::from(code.number())
}
