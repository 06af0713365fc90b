//! `cargo xtask`: parse, run, print, exit.

mod cli;
mod context;
mod print;
mod verb;

use std::process::ExitCode;

fn main() -> ExitCode {
    let cli = match cli::parse() {
        Ok(cli) => cli,
        Err(answer) => return answer,
    };
    let printer = print::Printer::new(cli.global.format);
    let outcome = context::Context::new(&cli.global, printer).and_then(|context| cli.verb.run(&context));
    printer.finish(outcome)
}
