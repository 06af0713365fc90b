//! One server of a bundle: `servers/<name>.toml`.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::proxy::{is_yes, is_zero, yes};
use crate::render::{Key, Node, Source, Tree, parse_toml};
use crate::server_name;
use crate::{ExitCode, Failure};

/// How a server is spoken to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Transport {
    /// A program that is started, on its standard input and output.
    Stdio,
    /// A streamable-HTTP endpoint that is there already.
    Http,
}

/// A server as its bundle describes it. Strings may hold `<<NAME>>`; `control` and the limits mean what they mean in
/// `proxy.json`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Descriptor {
    /// The server's name: that of the file.
    pub name: String,
    /// What it is for, in one line.
    pub description: String,
    /// How it is spoken to; decides which of the fields below are asked for.
    pub transport: Transport,
    /// stdio: the program.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub command: Option<String>,
    /// stdio: its arguments.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub args: Vec<String>,
    /// stdio: its working directory.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cwd: Option<String>,
    /// http: the endpoint.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub url: Option<String>,
    /// Readiness of the gateway waits for it.
    #[serde(default = "yes", skip_serializing_if = "is_yes")]
    pub required: bool,
    /// It may ask the gateway to reload.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub control: bool,
    /// Limit for its start, in milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub start_timeout_ms: Option<u64>,
    /// Limit for one call, in milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub call_timeout_ms: Option<u64>,
    /// So often may it die while a run looks at it; more deaths fail the run.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub allowed_deaths: u32,
    /// stdio: variables of its own. Last, because TOML wants tables after plain values.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub env: BTreeMap<String, String>,
}

impl Descriptor {
    /// Reads the descriptor of the server `name`.
    ///
    /// # Errors
    /// `bad-descriptor` (exit 22), with the place of what is wrong.
    pub fn parse(source: &Source, name: &str) -> Result<Self, Failure> {
        let fault = |at: usize, what: String| {
            Failure::new(ExitCode::Bundle, "bad-descriptor", what).on(source.place(at).to_string())
        };
        let descriptor: Self = toml::from_str(&source.text).map_err(|error| {
            let at = error.span().map_or(0, |span| span.start);
            fault(at, format!("server {name:?} is badly described"))
                .because(crate::render::one_line(error.message()))
        })?;
        descriptor.check(name).map_err(|(key, cause)| {
            let root = parse_toml(source).ok();
            let at = root.and_then(|root| root.get(key).map(|node| node.span.start));
            fault(at.unwrap_or(0), format!("server {name:?} is badly described")).because(cause)
        })?;
        Ok(descriptor)
    }

    /// The text of a descriptor file.
    ///
    /// # Errors
    /// Never for a descriptor that passes its check; a bug otherwise.
    pub fn to_toml(&self) -> Result<String, Failure> {
        toml::to_string(self).map_err(|error| {
            Failure::unexpected("a descriptor cannot be written as TOML").because(error.to_string())
        })
    }

    /// What the types cannot say. The error is the key that is wrong, and why.
    pub(super) fn check(&self, name: &str) -> Result<(), (&'static str, String)> {
        server_name::check(&self.name).map_err(|cause| ("name", cause))?;
        if self.name != name {
            return Err(("name", format!("it calls itself {:?}, and its file {name:?}", self.name)));
        }
        match self.transport {
            Transport::Stdio if self.command.as_deref().unwrap_or_default().is_empty() => {
                return Err(("transport", "transport stdio needs a `command`".into()));
            }
            Transport::Stdio if self.url.is_some() => {
                return Err(("url", "transport stdio has no `url`".into()));
            }
            Transport::Http if self.url.as_deref().unwrap_or_default().is_empty() => {
                return Err(("transport", "transport http needs a `url`".into()));
            }
            Transport::Http if self.is_program() => {
                return Err(("transport", "transport http has no `command`, `args`, `cwd` or `env`".into()));
            }
            _ => {}
        }
        for (key, limit) in
            [("start_timeout_ms", self.start_timeout_ms), ("call_timeout_ms", self.call_timeout_ms)]
        {
            if limit == Some(0) {
                return Err((key, format!("{key} is 0: nothing ends in no time")));
            }
        }
        self.check_environment()
    }

    fn is_program(&self) -> bool {
        self.command.is_some() || self.cwd.is_some() || !self.args.is_empty() || !self.env.is_empty()
    }

    /// What the operating system would refuse when the program is started.
    fn check_environment(&self) -> Result<(), (&'static str, String)> {
        if let Some(name) = self.env.keys().find(|name| !is_variable_name(name)) {
            return Err(("env", format!("{name:?} is not the name of a variable")));
        }
        let texts = [("command", &self.command), ("cwd", &self.cwd), ("url", &self.url)];
        let texts = texts.into_iter().filter_map(|(key, text)| Some((key, text.as_ref()?)));
        let texts = texts
            .chain(self.args.iter().map(|text| ("args", text)))
            .chain(self.env.values().map(|text| ("env", text)));
        match texts.into_iter().find(|(_, text)| text.contains('\0')) {
            Some((key, _)) => Err((key, format!("`{key}` contains a NUL byte"))),
            None => Ok(()),
        }
    }
}

fn is_variable_name(name: &str) -> bool {
    let mut bytes = name.bytes();
    bytes.next().is_some_and(|byte| byte.is_ascii_alphabetic() || byte == b'_')
        && bytes.all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
}

/// The keys of a descriptor that go into `proxy.json`, in this order, with their names there.
const ENTRY: [(&str, &str); 10] = [
    ("command", "command"),
    ("args", "args"),
    ("env", "env"),
    ("cwd", "cwd"),
    ("url", "url"),
    ("required", "required"),
    ("control", "control"),
    ("start_timeout_ms", "startTimeoutMs"),
    ("call_timeout_ms", "callTimeoutMs"),
    ("allowed_deaths", "allowedDeaths"),
];

/// The entry of `proxy.json` that a descriptor file stands for, with places in that file and tokens not yet resolved.
///
/// # Errors
/// `template-syntax` if the file is not TOML.
pub fn server_entry(source: &Source) -> Result<Node<'_>, Failure> {
    let Node { tree, source, span } = parse_toml(source)?;
    let Tree::Object(mut members) = tree else {
        return Err(Failure::unexpected("a TOML document is not a table"));
    };
    let entry = ENTRY.iter().filter_map(|(key, name)| {
        let index = members.iter().position(|(member, _)| member.text == *key)?;
        let (Key { span, .. }, node) = members.swap_remove(index);
        Some((Key { text: (*name).to_owned(), span }, node))
    });
    Ok(Node { tree: Tree::Object(entry.collect()), source, span })
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEAD: &str = "name = \"s\"\ndescription = \"d\"\n";

    fn failure(rest: &str) -> String {
        let source = Source::new("servers/s.toml", format!("{HEAD}{rest}"));
        let failure = Descriptor::parse(&source, "s").unwrap_err();
        assert_eq!((failure.exit_code, failure.kind.as_str()), (ExitCode::Bundle, "bad-descriptor"));
        failure.to_string()
    }

    #[test]
    fn a_descriptor_becomes_an_entry() {
        let text = format!(
            "{HEAD}transport = 'stdio'\nargs = ['a']\ncommand = '<<B>>/c'\ncontrol = true\nstart_timeout_ms = 5\nallowed_deaths = 2\n[env]\nA = '1'\n"
        );
        let source = Source::new("s.toml", text);
        let descriptor = Descriptor::parse(&source, "s").unwrap();
        assert!(descriptor.required && descriptor.control);
        assert_eq!(
            server_entry(&source).unwrap().to_value().to_string(),
            r#"{"command":"<<B>>/c","args":["a"],"env":{"A":"1"},"control":true,"startTimeoutMs":5,"allowedDeaths":2}"#
        );
        let written = Source::new("s.toml", descriptor.to_toml().unwrap());
        assert_eq!(Descriptor::parse(&written, "s").unwrap(), descriptor);
    }

    #[test]
    fn each_fault_is_placed() {
        for (rest, place, cause) in [
            ("transport = 'sse'", "3:13", "unknown variant `sse`, expected `stdio` or `http`"),
            ("transport = 'stdio'", "3:13", "transport stdio needs a `command`"),
            ("transport = 'http'", "3:13", "transport http needs a `url`"),
            ("transport = 'stdio'\ncommand = 'x'\nurl = 'http://x'", "5:7", "transport stdio has no `url`"),
            ("transport = 'http'\nurl = 'http://x'\ncwd = '/'", "3:13", "transport http has no `command`"),
            ("transport = 'stdio'\ncommand = 'x'\ncolour = 1", "5:1", "unknown field `colour`"),
            ("transport = 'stdio'\ncommand = 7", "4:11", "invalid type: integer `7`, expected a string"),
            ("transport = 'stdio'\ncommand = \"x\\u0000\"", "4:11", "`command` contains a NUL byte"),
            ("transport = 'stdio'\ncommand = 'x'\ncall_timeout_ms = 0", "5:19", "call_timeout_ms is 0"),
            (
                "transport = 'stdio'\ncommand = 'x'\nallowed_deaths = -1",
                "5:18",
                "invalid value: integer `-1`",
            ),
            ("transport = 'stdio'\ncommand = 'x'\nenv = { 'A=B' = '' }", "5:7", "\"A=B\" is not the name"),
            ("transport = ", "3:13", "string values must be quoted"),
        ] {
            let failure = failure(rest);
            let start =
                format!("server \"s\" is badly described\n   on: servers/s.toml:{place}\n  why: {cause}");
            assert!(failure.starts_with(&start), "{failure}\n---\n{start}");
        }
    }

    #[test]
    fn the_name_is_that_of_the_file() {
        let source = Source::new("t.toml", format!("{HEAD}transport = 'stdio'\ncommand = 'x'\n"));
        assert_eq!(
            Descriptor::parse(&source, "t").unwrap_err().to_string(),
            "server \"t\" is badly described\n   on: t.toml:1:8\n  why: it calls itself \"s\", and its file \"t\""
        );
    }
}
