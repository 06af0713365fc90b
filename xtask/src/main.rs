//! `cargo xtask`: parse, run, print, exit.

mod cli;
mod context;
mod edge;
mod gateway;
mod print;
mod verb;

use std::process::ExitCode;

fn main() -> ExitCode {
    let cli = match cli::parse() {
        Ok(cli) => cli,
        Err(answer) => return answer,
    };
    let printer = print::Printer::new(cli.global.format, context::colour(&cli.global));
    let outcome = edge::guarded(|| cli.verb.run(&context::Context::new(&cli.global, printer.clone())?));
    printer.finish(outcome)
}
