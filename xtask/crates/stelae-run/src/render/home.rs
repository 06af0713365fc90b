//! Where everything is that is rendered and installed.

use camino::Utf8PathBuf;
use stelae_model::Failure;
use stelae_model::env::Environment;
use stelae_model::env::declared::{
    STELAE_CONFIG_HOME, STELAE_ROOT, STELAE_STATE_HOME, STELAE_SUPERVISOR_HOME,
};
use stelae_model::render::{Names, Syntax};

/// The folders and files of one stack. All paths are absolute.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Home {
    /// The repository: the bundles that can be installed, the template, the seed of the discovery cache.
    pub root: Utf8PathBuf,
    /// Where a person's configuration lives, and what is installed and rendered.
    pub config_home: Utf8PathBuf,
    /// Where the stack keeps what it found out itself.
    pub state_home: Utf8PathBuf,
    /// Where the supervisor keeps its records.
    pub supervisor_home: Utf8PathBuf,
    /// The template of `proxy.json`.
    pub template: Utf8PathBuf,
    /// An overlay that must exist; without one, that of the config home is used if there is one.
    pub overlay: Option<Utf8PathBuf>,
    /// Where `proxy.json` goes: inside the config home or the state home.
    pub output: Utf8PathBuf,
    /// How tokens are written in template and overlay.
    pub syntax: Syntax,
    /// The names that templates know.
    pub names: Names,
}

impl Home {
    /// A home with everything in its usual place.
    pub fn new(root: Utf8PathBuf, config_home: Utf8PathBuf, state_home: Utf8PathBuf, names: Names) -> Self {
        Self {
            template: root.join("config/proxy.template.json"),
            overlay: None,
            output: config_home.join("proxy.json"),
            supervisor_home: state_home.join("supervisor"),
            syntax: Syntax::default(),
            root,
            config_home,
            state_home,
            names,
        }
    }

    /// The home of an environment.
    ///
    /// # Errors
    /// Exit 20, `missing-variable`.
    pub fn from_environment(environment: &Environment) -> Result<Self, Failure> {
        let root = environment.get::<STELAE_ROOT>()?.as_path().to_owned();
        let config_home = environment.get::<STELAE_CONFIG_HOME>()?.as_path().to_owned();
        let state_home = environment.get::<STELAE_STATE_HOME>()?.as_path().to_owned();
        let supervisor_home = environment.get::<STELAE_SUPERVISOR_HOME>()?.as_path().to_owned();
        Ok(Self { supervisor_home, ..Self::new(root, config_home, state_home, Names::from(environment)) })
    }

    /// The bundles that can be installed.
    pub fn available_bundles(&self) -> Utf8PathBuf {
        self.root.join("config/bundles")
    }

    /// The installed bundles.
    pub fn bundles(&self) -> Utf8PathBuf {
        self.config_home.join("bundles")
    }

    /// The discovery cache.
    pub fn discovery(&self) -> Utf8PathBuf {
        self.state_home.join("discovery.json")
    }

    /// What the discovery cache is made from.
    pub fn discovery_seed(&self) -> Utf8PathBuf {
        self.root.join("config/discovery.json")
    }

    /// The overlay that is used when none is asked for.
    pub fn default_overlay(&self) -> Utf8PathBuf {
        self.config_home.join("proxy.overlay.json")
    }
}
