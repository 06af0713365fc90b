//! Where tools are kept, and which of them are there.

use std::collections::BTreeMap;

use camino::{Utf8Path, Utf8PathBuf};
use serde::Serialize;
use stelae_model::env::Environment;
use stelae_model::env::declared::{STELAE_CACHE_HOME, STELAE_ROOT};
use stelae_model::tools::{Installed, Kind, Pin, Tools, parse_tools};
use stelae_model::{ExitCode, Failure};

use super::content::Content;
use crate::files::{limits, read_text, read_untrusted_json};
use crate::programs::is_executable;

/// Its name in an installation.
pub(super) const RECORD: &str = "installed.json";

/// What the name of the file begins with that has the content of an installation, file by file.
pub(super) const CONTENT: &str = ".content-";

/// The pins, and the folder that they are installed into.
#[derive(Debug)]
pub struct Shelf {
    /// What is pinned.
    pub pins: Tools,
    folder: Utf8PathBuf,
}

/// How one tool stands.
#[derive(Clone, Debug, Serialize)]
pub struct Standing {
    /// Its name.
    pub name: String,
    /// What it is for.
    pub about: String,
    /// Who installs it.
    pub kind: Kind,
    /// The package.
    pub package: String,
    /// The version that is pinned.
    pub version: String,
    /// Whether exactly this is installed.
    pub installed: bool,
    /// Its folder, whether it is there or not.
    pub folder: Utf8PathBuf,
    /// The program that it is installed for.
    pub path: Utf8PathBuf,
    /// All of its programs.
    pub programs: BTreeMap<String, Utf8PathBuf>,
}

impl Shelf {
    /// Reads the pins of the root.
    ///
    /// # Errors
    /// Exit 20, `tools-config-missing`, `tools-config-unreadable`, `tools-config`.
    pub fn open(environment: &Environment) -> Result<Self, Failure> {
        Self::of_cache(environment, &environment.get::<STELAE_CACHE_HOME>()?)
    }

    /// The same, with another cache home than the environment's.
    ///
    /// # Errors
    /// As [`Self::open`].
    pub fn of_cache(environment: &Environment, cache_home: &Utf8Path) -> Result<Self, Failure> {
        let path = environment.get::<STELAE_ROOT>()?.join("config/tools.toml");
        let text = read_text(&path, ExitCode::Environment, "tools-config", "the list of pinned tools")?;
        Ok(Self { pins: parse_tools(path.as_str(), &text)?, folder: cache_home.join("tools") })
    }

    /// With pins that were read already: those of a commit.
    ///
    /// # Errors
    /// Exit 20, when there is no cache home.
    pub fn of_pins(pins: Tools, environment: &Environment) -> Result<Self, Failure> {
        Ok(Self { pins, folder: environment.get::<STELAE_CACHE_HOME>()?.join("tools") })
    }

    /// How every tool stands, by name.
    pub fn list(&self) -> Vec<Standing> {
        self.pins.tools.iter().map(|(name, pin)| self.standing(name, pin)).collect()
    }

    /// How one tool stands.
    ///
    /// # Errors
    /// Exit 2, `unknown-tool`.
    pub fn stand(&self, name: &str) -> Result<Standing, Failure> {
        Ok(self.standing(name, self.pins.pin(name)?))
    }

    /// The path of a tool's program, which is about to be started.
    ///
    /// # Errors
    /// Exit 2, `unknown-tool`; 40, `tool-not-installed` or `tool-changed`, with the command that installs it.
    pub fn program(&self, name: &str) -> Result<Utf8PathBuf, Failure> {
        let standing = self.stand(name)?;
        if standing.installed {
            self.compare(name, self.pins.pin(name)?)?;
            return Ok(standing.path);
        }
        let what = format!("{name} {} is not installed", standing.version);
        Err(Failure::new(ExitCode::PrerequisiteMissing, "tool-not-installed", what)
            .on(standing.folder.to_string())
            .hint(format!("cargo xtask tools install {name}")))
    }

    /// The folder of all versions of a tool.
    pub(super) fn of(&self, name: &str) -> Utf8PathBuf {
        self.folder.join(name)
    }

    /// The folder that an installer keeps his downloads in.
    pub(super) fn cache(&self, installer: &str) -> Utf8PathBuf {
        self.folder.join(".caches").join(installer)
    }

    /// Whether it is there, whole, and made from what is pinned.
    pub(super) fn has(&self, name: &str, pin: &Pin) -> bool {
        let folder = self.of(name).join(&pin.version);
        record(&folder).is_some_and(|record| record.is_of(pin)) && missing(&folder, pin).is_none()
    }

    /// That every file of an installation is the one that was installed.
    ///
    /// # Errors
    /// Exit 40, `tool-changed`, with the first file that is not.
    pub(super) fn compare(&self, name: &str, pin: &Pin) -> Result<(), Failure> {
        let folder = self.of(name).join(&pin.version);
        let changed = |why: String| {
            let what = format!("{name} {} is not what was installed", pin.version);
            Failure::new(ExitCode::PrerequisiteMissing, "tool-changed", what)
                .on(folder.to_string())
                .because(why)
                .hint(format!("cargo xtask tools install {name}"))
        };
        let kept_at = self.content_of(name, pin);
        let was = Content::kept(&kept_at);
        let is = Content::of(&folder, &was).map_err(|error| changed(error.to_string()))?;
        if record(&folder).and_then(|record| record.content) != Some(is.digest()) {
            let named = was.difference(&is).filter(|_| !was.is_empty());
            let why = named.unwrap_or_else(|| "its digest is not the one in its record".to_owned());
            return Err(changed(why));
        }
        if was != is {
            // It saves reading the next time. Where it cannot be written, everything is read again.
            is.keep(&kept_at).ok();
        }
        Ok(())
    }

    /// Where the content of an installation is kept, file by file.
    pub(super) fn content_of(&self, name: &str, pin: &Pin) -> Utf8PathBuf {
        self.of(name).join(format!("{CONTENT}{}", pin.version))
    }

    fn standing(&self, name: &str, pin: &Pin) -> Standing {
        let folder = self.of(name).join(&pin.version);
        let path = |program: &String| folder.join(pin.program(program));
        let native = pin.native.as_ref().map(|native| folder.join(native)).filter(|path| is_executable(path));
        Standing {
            name: name.to_owned(),
            about: pin.about.clone(),
            kind: pin.kind,
            package: pin.package.clone(),
            version: pin.version.clone(),
            installed: self.has(name, pin),
            path: native.or_else(|| pin.programs.first().map(path)).unwrap_or_default(),
            programs: pin.programs.iter().map(|program| (program.clone(), path(program))).collect(),
            folder,
        }
    }
}

/// What an installation says that it was made from.
fn record(folder: &Utf8Path) -> Option<Installed> {
    read_untrusted_json(folder.join(RECORD), limits::RECORD).ok()
}

/// The first program of a pin that a folder does not have.
pub(super) fn missing(folder: &Utf8Path, pin: &Pin) -> Option<Utf8PathBuf> {
    pin.programs.iter().map(|program| folder.join(pin.program(program))).find(|path| !is_executable(path))
}
