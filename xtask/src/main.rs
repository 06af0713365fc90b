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
    let outcome = edge::guarded(|| {
        if let Some(guard) = cli.guard() {
            return guard::watch_over(&cli.global, &guard, &printer);
        }
        cli.global.become_inner()?;
        cli.verb.run(&context::Context::new(&cli.global, printer.clone())?)
    });
    let code = printer.finish(outcome);
    guard::ending(code);
    ExitCode::from(code.number())
}
