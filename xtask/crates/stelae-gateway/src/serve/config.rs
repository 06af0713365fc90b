//! The files that say what is served: read when the gateway starts, and again at each reload.

use std::io;

use camino::Utf8PathBuf;
use stelae_model::overrides::{Overrides, parse_overrides};
use stelae_model::proxy::ProxyConfig;
use stelae_model::{ExitCode, Failure};
use stelae_run::files::read_regular_text;
use stelae_run::stack::read_proxy;

/// Where they are.
#[derive(Clone, Debug)]
pub(super) struct Files {
    /// The rendered configuration.
    pub(super) proxy: Utf8PathBuf,
    /// The overrides; a file that is not there overrides nothing.
    pub(super) overrides: Option<Utf8PathBuf>,
}

/// What they say.
#[derive(Debug)]
pub(super) struct Config {
    pub(super) proxy: ProxyConfig,
    pub(super) overrides: Overrides,
}

impl Files {
    /// Reads them.
    ///
    /// # Errors
    /// As [`read_proxy`] and [`parse_overrides`]; exit 40, `no-overrides`, when that file is there and cannot be read.
    pub(super) fn read(&self) -> Result<Config, Failure> {
        let proxy = read_proxy(&self.proxy)?;
        let overrides = match &self.overrides {
            None => Overrides::default(),
            Some(path) => match read_regular_text(path) {
                Ok(text) => parse_overrides(path.as_str(), &text)?,
                Err(error) if error.kind() == io::ErrorKind::NotFound => Overrides::default(),
                Err(error) => {
                    let what = "the overrides file cannot be read";
                    return Err(Failure::new(ExitCode::PrerequisiteMissing, "no-overrides", what)
                        .on(path.as_str())
                        .because(error.to_string()));
                }
            },
        };
        Ok(Config { proxy, overrides })
    }
}
