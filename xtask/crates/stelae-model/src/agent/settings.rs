//! `config/agents.toml`: how each agent CLI is started, and what its settings say. Data, because every name in there is
//! bound to a version of the CLI.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::{Map, Value};

use super::{Agent, Model};
use crate::render::{Names, Source, Syntax, parse_toml, resolve};
use crate::{ExitCode, Failure};

/// How one agent CLI is started.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AgentSettings {
    /// Its arguments; what is filled in may be a path or a whole prompt, and stays one argument.
    args: Vec<String>,
    /// Its settings.
    #[serde(default)]
    settings: Map<String, Value>,
    /// What is added to them where the model is ours.
    #[serde(default)]
    scripted: Map<String, Value>,
    /// What is added to them where the model is its maker's.
    #[serde(default)]
    live: Map<String, Value>,
    /// What they say of an MCP server.
    server: Map<String, Value>,
    /// What is added to that where clients have to show a token.
    #[serde(default)]
    token: Map<String, Value>,
}

/// The whole file.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    version: u32,
    codex: AgentSettings,
    claude: AgentSettings,
}

/// Where the stack is reached, and by whom.
#[derive(Clone, Debug)]
pub struct Reached {
    /// The stack's MCP servers, each under the name by which the agent knows it, with its URL.
    pub servers: BTreeMap<String, String>,
    /// Whether its clients have to show a token.
    pub token: bool,
    /// Whose model it is.
    pub model: Model,
}

/// What is started, with every value in its place.
#[derive(Clone, Debug, PartialEq)]
pub struct Filled {
    /// The arguments.
    pub args: Vec<String>,
    /// The settings, in the agent's own words.
    pub settings: Map<String, Value>,
}

impl Filled {
    /// The file that the settings become, in the agent's home: its name and its text.
    ///
    /// # Errors
    /// Exit 20, `agents-config`, for settings that its format cannot hold.
    pub fn file(&self, agent: Agent) -> Result<(&'static str, String), Failure> {
        let written = match agent {
            Agent::Codex => {
                let text = toml::to_string(&self.settings).map_err(|error| error.to_string());
                text.map(|text| ("config.toml", text))
            }
            _ => {
                let text = serde_json::to_string_pretty(&self.settings).map_err(|error| error.to_string());
                text.map(|text| ("mcp.json", text + "\n"))
            }
        };
        written.map_err(|why| wrong("config/agents.toml", &why))
    }
}

/// The name of a server's URL, which is another one for each.
const SERVER_URL: &str = "SERVER_URL";
/// The name of all tools of all servers, as Claude Code writes it.
const ALLOWED_TOOLS: &str = "ALLOWED_TOOLS";

/// Reads the settings of one agent, and fills them in.
///
/// # Errors
/// Exit 20, `agents-config`, with its place; for a token that says nothing, what [`resolve`] says.
pub fn read_settings(
    agent: Agent,
    path: &str,
    text: &str,
    names: &Names,
    reached: &Reached,
) -> Result<Filled, Failure> {
    let source = Source::new(path, text);
    let file = |names: &Names| -> Result<AgentSettings, Failure> {
        let value = resolve(parse_toml(&source)?, names, Syntax::Braces)?.to_value();
        let file: File = serde_json::from_value(value).map_err(|error| wrong(path, &error.to_string()))?;
        match (file.version, agent) {
            (1, Agent::Codex) => Ok(file.codex),
            (1, Agent::Claude) => Ok(file.claude),
            (1, Agent::Builtin) => Err(Failure::unexpected("the builtin agent has no settings")),
            (version, _) => Err(wrong(path, &format!("its version is {version}, and this program reads 1"))),
        }
    };
    let allowed: Vec<_> = reached.servers.keys().map(|name| format!("mcp__{name}")).collect();
    let names = names.clone().with(ALLOWED_TOOLS, allowed.join(","));
    let mut servers = Map::new();
    let mut filled = None;
    for (name, url) in &reached.servers {
        let settings = file(&names.clone().with(SERVER_URL, url))?;
        let mut server = settings.server.clone();
        if reached.token {
            server.extend(settings.token.clone());
        }
        servers.insert(name.clone(), Value::Object(server));
        filled = Some(settings);
    }
    let filled = filled.ok_or_else(|| Failure::unexpected("an agent without a server"))?;
    let mut settings = filled.settings;
    settings.extend(match reached.model {
        Model::Scripted => filled.scripted,
        Model::Live => filled.live,
    });
    let all = if agent == Agent::Codex { "mcp_servers" } else { "mcpServers" };
    settings.insert(all.to_owned(), Value::Object(servers));
    Ok(Filled { args: filled.args, settings })
}

fn wrong(path: &str, why: &str) -> Failure {
    let what = "the settings of the agents are not what they should be";
    Failure::new(ExitCode::Environment, "agents-config", what).on(path).because(why)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    const REAL: &str = include_str!("../../../../../config/agents.toml");

    fn names() -> Names {
        Names::new([
            ("PROMPT", Some("say \"hi\" {{ x }}")),
            ("REPO", Some("/w/repo")),
            ("AGENT_HOME", Some("/w/agent")),
            ("MODEL_URL", Some("http://127.0.0.9:2")),
        ])
    }

    fn reached(model: Model, token: bool) -> Reached {
        let servers = [("stelae".to_owned(), "http://127.0.0.9:1/mcp".to_owned())].into();
        Reached { servers, token, model }
    }

    fn filled(agent: Agent, reached: &Reached) -> Result<Filled, Failure> {
        read_settings(agent, "agents.toml", REAL, &names(), reached)
    }

    #[test]
    fn a_prompt_stays_one_argument_whatever_it_holds() {
        for agent in [Agent::Codex, Agent::Claude] {
            let filled = filled(agent, &reached(Model::Scripted, false)).unwrap();
            assert!(filled.args.contains(&"say \"hi\" {{ x }}".to_owned()), "{:?}", filled.args);
        }
    }

    #[test]
    fn the_model_is_ours_only_where_it_is_scripted() {
        let scripted = filled(Agent::Codex, &reached(Model::Scripted, false)).unwrap().settings;
        assert_eq!(scripted["model_providers"]["scripted"]["base_url"], "http://127.0.0.9:2/v1");
        let live = filled(Agent::Codex, &reached(Model::Live, false)).unwrap().settings;
        assert!(!live.contains_key("model_providers") && !live.contains_key("model_provider"), "{live:?}");
    }

    #[test]
    fn a_token_is_shown_by_its_variable_and_never_stands_there() {
        let server = |agent, token| {
            let settings = filled(agent, &reached(Model::Scripted, token)).unwrap().settings;
            let all = if agent == Agent::Codex { "mcp_servers" } else { "mcpServers" };
            settings[all]["stelae"].clone()
        };
        assert_eq!(server(Agent::Codex, true)["bearer_token_env_var"], "STELAE_MCP_TOKEN");
        assert_eq!(server(Agent::Claude, true)["headers"]["Authorization"], "Bearer ${STELAE_MCP_TOKEN}");
        assert!(server(Agent::Codex, false).get("bearer_token_env_var").is_none());
        assert!(server(Agent::Claude, false).get("headers").is_none());
    }

    #[test]
    fn each_server_has_its_own_url() {
        let servers = [("a", "http://x/a/mcp"), ("b", "http://x/b/mcp")];
        let servers = servers.map(|(name, url)| (name.to_owned(), url.to_owned())).into();
        let reached = Reached { servers, token: false, model: Model::Scripted };
        let Filled { args, settings } = filled(Agent::Claude, &reached).unwrap();
        assert!(args.contains(&"mcp__a,mcp__b".to_owned()), "{args:?}");
        assert_eq!(settings["mcpServers"]["a"]["url"], "http://x/a/mcp");
        assert_eq!(settings["mcpServers"]["b"], json!({"type": "http", "url": "http://x/b/mcp"}));
    }

    #[test]
    fn each_agent_reads_the_settings_in_its_own_format() {
        let codex = filled(Agent::Codex, &reached(Model::Scripted, true)).unwrap();
        let (name, text) = codex.file(Agent::Codex).unwrap();
        assert_eq!(name, "config.toml");
        assert_eq!(toml::from_str::<Map<String, Value>>(&text).unwrap(), codex.settings);
        let claude = filled(Agent::Claude, &reached(Model::Scripted, true)).unwrap();
        let (name, text) = claude.file(Agent::Claude).unwrap();
        assert_eq!(name, "mcp.json");
        assert_eq!(serde_json::from_str::<Map<String, Value>>(&text).unwrap(), claude.settings);
    }

    #[test]
    fn what_is_wrong_has_its_place() {
        let read = |text: &str| {
            read_settings(Agent::Codex, "agents.toml", text, &names(), &reached(Model::Live, false))
                .unwrap_err()
        };
        let failure = read(&REAL.replacen("version = 1", "version = 2", 1));
        assert_eq!((failure.exit_code, failure.kind.as_str()), (ExitCode::Environment, "agents-config"));
        assert_eq!(read(&REAL.replacen("[codex]", "[codex]\nargv = []", 1)).kind, "agents-config");
        let failure = read(&REAL.replacen("{{ PROMPT }}", "{{ PROMTP }}", 1));
        assert_eq!(failure.kind, "unknown-name");
        assert!(failure.on[0].starts_with("agents.toml:"), "{failure}");
    }
}
