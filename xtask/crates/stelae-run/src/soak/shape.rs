//! The ways in which a service gets away from whoever started it, as shell scripts: every machine has what they need.

use std::fmt;

/// One way.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Shape {
    /// Two plain children.
    Plain,
    /// Children in process groups of their own.
    OwnGroup,
    /// Children in sessions of their own.
    Setsid,
    /// Daemons, whose parents are gone.
    DoubleFork,
    /// Daemons with an empty environment: nobody's id is in it.
    ClearedEnv,
    /// The service itself ends, its daemons stay.
    MainExits,
    /// All of them ignore SIGTERM.
    IgnoresTerm,
    /// Daemons with an empty environment that ignore SIGTERM.
    ClearedIgnoresTerm,
    /// On SIGTERM it starts more, and ends.
    ForksWhileDying,
    /// Each process starts the next one, in a new session, and ends.
    Relay,
    /// A child that was stopped by a signal.
    Stopped,
}

impl Shape {
    /// All of them.
    pub const ALL: [Self; 11] = [
        Self::Plain,
        Self::OwnGroup,
        Self::Setsid,
        Self::DoubleFork,
        Self::ClearedEnv,
        Self::MainExits,
        Self::IgnoresTerm,
        Self::ClearedIgnoresTerm,
        Self::ForksWhileDying,
        Self::Relay,
        Self::Stopped,
    ];

    /// As reports and command lines name it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Plain => "plain",
            Self::OwnGroup => "own-group",
            Self::Setsid => "setsid",
            Self::DoubleFork => "double-fork",
            Self::ClearedEnv => "cleared-env",
            Self::MainExits => "main-exits",
            Self::IgnoresTerm => "ignores-term",
            Self::ClearedIgnoresTerm => "cleared-ignores-term",
            Self::ForksWhileDying => "forks-while-dying",
            Self::Relay => "relay",
            Self::Stopped => "stopped",
        }
    }

    /// The one with this name.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|shape| shape.name() == name)
    }

    /// Whether it dies of SIGKILL only, and so takes the whole grace.
    pub fn takes_the_grace(self) -> bool {
        matches!(self, Self::IgnoresTerm | Self::ClearedIgnoresTerm)
    }

    /// Whether something of it can be found by its place in the family only, and never by the id that it carries.
    pub fn clears_environment(self) -> bool {
        matches!(self, Self::ClearedEnv | Self::ClearedIgnoresTerm | Self::ForksWhileDying)
    }

    /// What `/bin/sh -c` runs. Every process of it has `mark`, a number of seconds, in its command line. It says `up` when
    /// everything is where it wants to be, and lives for `mark` seconds at most.
    pub fn script(self, mark: &str) -> String {
        let sleep = format!("sleep {mark}");
        let body = match self {
            Self::Plain => format!("{sleep} & {sleep} & echo up; wait"),
            // `timeout` leads a group of its own.
            Self::OwnGroup => format!("timeout {mark} {sleep} & timeout {mark} {sleep} & echo up; wait"),
            Self::Setsid => format!("setsid {sleep} & setsid {sleep} & echo up; wait"),
            Self::DoubleFork => format!("(setsid {sleep} &); (setsid {sleep} &); echo up; {sleep}"),
            Self::ClearedEnv => {
                format!("(env -i setsid {sleep} &); (env -i setsid {sleep} &); echo up; {sleep}")
            }
            Self::MainExits => format!("(setsid {sleep} &); {sleep} & echo up"),
            Self::IgnoresTerm => {
                format!("trap '' TERM; {sleep} & (setsid {sleep} &); echo up; wait; {sleep}")
            }
            Self::ClearedIgnoresTerm => {
                format!("trap '' TERM; (env -i setsid {sleep} &); echo up; {sleep}")
            }
            Self::ForksWhileDying => {
                format!(
                    "trap '(setsid {sleep} &); (env -i setsid {sleep} &); exit 0' TERM; {sleep} & echo up; wait"
                )
            }
            Self::Relay => format!(
                "R='if [ \"$1\" -gt 0 ]; then setsid sh -c \"$R\" {mark} $(($1-1)) & else exec {sleep}; fi'; export R; \
                 sh -c \"$R\" {mark} 30; echo up; {sleep}"
            ),
            Self::Stopped => format!("{sleep} & kill -STOP $!; (setsid {sleep} &); echo up; wait"),
        };
        // Whatever the shell does with its last command: the mark stays in the command line of the shell, too.
        format!("{body} # {mark}")
    }
}

impl fmt::Display for Shape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
