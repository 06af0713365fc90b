//! What an agent ends with exit code 0 for, though it is no success: each is found all the same, and named.

use std::fs;

use stelae_tests::Source;

use super::{AGENTS, Cli, SMOKE, misbehave};

/// A fault in a source.
type Fault = fn(&Source);

/// A fault, the code that the agent ends with, and what the verdict says of it.
struct Case {
    what: &'static str,
    fault: Fault,
    exit_code: u8,
    kind: &'static str,
    says: &'static [&'static str],
}

const DEAD: &str = "url = \"http://127.0.0.1:9/mcp\"";
const ALIVE: &str = "url = \"{{ SERVER_URL }}\"";

const A_CALL_FAILED: Case = Case {
    what: "a call failed",
    fault: |source| source.edit(SMOKE, "outcome = \"tool-error\"\n", ""),
    exit_code: 0,
    kind: "call-failed",
    says: &["call 3: workspace_fs_read failed", "leads out of the workspace"],
};

const A_TOOL_WAS_NEVER_CALLED: Case = Case {
    what: "a tool was never called",
    fault: |source| misbehave(source, "{ turn = 1, how = \"ends-early\" }"),
    exit_code: 0,
    kind: "call-missing",
    says: &["call 2 (grep) never happened", "the agent says that it is done"],
};

const ANOTHER_TASK: Case = Case {
    what: "the prompt did not come to the model",
    fault: |source| {
        let text = fs::read_to_string(source.path().join(AGENTS)).unwrap();
        source.write(AGENTS, &text.replace("\"{{ PROMPT }}\"", "\"hello there\""));
    },
    exit_code: 0,
    kind: "prompt-lost",
    says: &["did not tell its model what it was to do", "Read stelae-nonce.txt"],
};

const CODEX: [Case; 7] = [
    A_CALL_FAILED,
    A_TOOL_WAS_NEVER_CALLED,
    ANOTHER_TASK,
    Case {
        what: "the server was missing, and nobody required it",
        fault: |source| {
            source.edit(AGENTS, ALIVE, DEAD);
            source.edit(AGENTS, "required = true\n", "");
        },
        exit_code: 0,
        kind: "server-missing",
        says: &["codex came up without the stack's MCP server", "call 1 (workspace_fs_read) never happened"],
    },
    Case {
        what: "the server was missing, and was required",
        fault: |source| source.edit(AGENTS, ALIVE, DEAD),
        exit_code: 1,
        kind: "server-missing",
        says: &["codex came up without the stack's MCP server", "required MCP servers failed to initialize"],
    },
    Case {
        what: "nobody approved of a tool",
        fault: |source| source.edit(AGENTS, "default_tools_approval_mode = \"approve\"\n", ""),
        exit_code: 0,
        kind: "approval-refused",
        says: &["nobody approved of it", "manage_stelae"],
    },
    Case {
        what: "the model called a tool that there is not",
        fault: |source| misbehave(source, "{ turn = 0, how = \"unknown-tool\" }"),
        exit_code: 0,
        kind: "unsupported-call",
        says: &["codex was told to call", "no_such_tool", "unsupported call: "],
    },
];

const CLAUDE: [Case; 7] = [
    A_CALL_FAILED,
    A_TOOL_WAS_NEVER_CALLED,
    ANOTHER_TASK,
    Case {
        what: "the server was missing",
        fault: |source| source.edit(AGENTS, ALIVE, DEAD),
        exit_code: 0,
        kind: "server-missing",
        says: &[
            "claude came up without the stack's MCP server",
            "it says that the server stelae is \"failed\"",
        ],
    },
    Case {
        what: "nobody approved of a tool",
        fault: |source| source.edit(AGENTS, ", \"--allowedTools\", \"{{ ALLOWED_TOOLS }}\"", ""),
        exit_code: 0,
        kind: "approval-refused",
        says: &["nobody approved of it", "workspace_fs_read"],
    },
    Case {
        what: "the model called a tool that there is not",
        fault: |source| misbehave(source, "{ turn = 0, how = \"unknown-tool\" }"),
        exit_code: 0,
        kind: "unsupported-call",
        says: &["claude was told to call", "no_such_tool", "No such tool available"],
    },
    Case {
        what: "an error was called a success",
        fault: |source| misbehave(source, "{ turn = 1, how = { status = 401 } }"),
        exit_code: 1,
        kind: "model-failed",
        says: &["the model answered with status 401 at turn 2", "claude says: success: "],
    },
];

fn every_one_is_found(test: &str, agent: &'static str, cases: &[Case]) {
    let Some(cli) = Cli::need(test, agent) else { return };
    for case in cases {
        let source = Source::of_working_tree();
        (case.fault)(&source);
        let failed = cli.fails(&source);
        failed.is(case.what, case.kind, case.says);
        assert_eq!(failed.exit_code_of_agent(), case.exit_code, "{}: {}", case.what, failed.text);
    }
}

#[test]
fn codex_ends_well_and_has_not_done_it() {
    every_one_is_found("unseen::codex_ends_well_and_has_not_done_it", "codex", &CODEX);
}

#[test]
fn claude_ends_well_and_has_not_done_it() {
    every_one_is_found("unseen::claude_ends_well_and_has_not_done_it", "claude", &CLAUDE);
}
