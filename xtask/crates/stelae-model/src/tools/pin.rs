//! One pin: which package of which registry, in which version, with which content.

use std::collections::BTreeMap;

use camino::{Utf8Component, Utf8PathBuf};
use serde::{Deserialize, Serialize};

use super::Version;
use crate::{ExitCode, Failure};

/// Who installs a tool.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// npm, from its registry.
    Npm,
    /// pip, from PyPI, into a virtual environment of the tool's own.
    Pypi,
    /// go, by building a module.
    Go,
    /// cargo, by building a crate.
    Cargo,
}

impl Kind {
    /// The programs that have to be there; the first is the one whose version counts.
    pub const fn toolchain(self) -> &'static [&'static str] {
        match self {
            Self::Npm => &["node", "npm"],
            Self::Pypi => &["python3"],
            Self::Go => &["go"],
            Self::Cargo => &["cargo"],
        }
    }

    /// What its programs need also when they are installed.
    pub const fn runtime(self) -> Option<&'static str> {
        match self {
            Self::Npm => Some("node"),
            Self::Pypi => Some("python3"),
            Self::Go | Self::Cargo => None,
        }
    }

    /// What its packages come from, for people.
    pub const fn registry(self) -> &'static str {
        match self {
            Self::Npm => "npm's registry",
            Self::Pypi => "the Python index",
            Self::Go => "go's module proxy",
            Self::Cargo => "cargo's registry",
        }
    }

    /// The name of the kind, as the file has it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Npm => "npm",
            Self::Pypi => "pypi",
            Self::Go => "go",
            Self::Cargo => "cargo",
        }
    }

    /// How the content of a package is said: what it begins with, how many characters follow, and which.
    const fn integrity(self) -> (&'static str, usize, fn(char) -> bool) {
        const fn base64(c: char) -> bool {
            c.is_ascii_alphanumeric() || matches!(c, '+' | '/' | '=')
        }
        const fn hex(c: char) -> bool {
            matches!(c, '0'..='9' | 'a'..='f')
        }
        match self {
            Self::Npm => ("sha512-", 88, base64),
            Self::Go => ("h1:", 44, base64),
            Self::Pypi | Self::Cargo => ("sha256:", 64, hex),
        }
    }
}

/// What is pinned.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Pin {
    /// What it is for, in one line.
    pub about: String,
    /// Who installs it.
    pub kind: Kind,
    /// The package, module or crate.
    pub package: String,
    /// Its version, exactly.
    pub version: String,
    /// Its content, as its registry says it: npm's `sha512-…` of the package, go's `h1:…` of the module, `sha256:…` of the
    /// wheel or the crate.
    pub integrity: String,
    /// The programs that it gives; the first is what `tools path` means.
    pub programs: Vec<String>,
    /// The oldest version of node, python, go or cargo that will do.
    pub at_least: String,
    /// npm only: the package's own install script has to run. Otherwise none does.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub install_script: bool,
    /// cargo only: the profile that it is built with; absent: `release`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub profile: Option<String>,
    /// npm only: where the program itself is in the folder, if the package's own is a script of Node around it, which costs
    /// time. On a machine that gets another one it is not there, and the script is what is started.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub native: Option<Utf8PathBuf>,
    /// npm only: other packages of the installation whose content is compared, too, by their names below `node_modules`. A
    /// program often comes in a package for each platform, and [`Self::package`] is only what starts it.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub parts: BTreeMap<String, String>,
}

/// What is written beside a finished installation: what it was made from. An installation of which this is not what the
/// pin says is none.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Installed {
    /// Version of this schema: 1.
    pub schema: u32,
    /// As in [`Pin`].
    pub kind: Kind,
    /// As in [`Pin`].
    pub package: String,
    /// As in [`Pin`].
    pub version: String,
    /// As in [`Pin`].
    pub integrity: String,
    /// As in [`Pin`].
    pub install_script: bool,
    /// As in [`Pin`].
    pub profile: Option<String>,
    /// As in [`Pin`]. A record from before there were any has none: it holds for pins without them.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub parts: BTreeMap<String, String>,
    /// The content of the whole installation when it was made. A record from before that was taken down has none: then it is
    /// not known what was installed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub content: Option<String>,
}

impl Installed {
    /// Whether this is of an installation of the pin, whose content is known.
    pub fn is_of(&self, pin: &Pin) -> bool {
        self.content.is_some() && Self { content: None, ..self.clone() } == pin.installed()
    }
}

impl Pin {
    /// `package version`, for people.
    pub fn what(&self) -> String {
        format!("{} {}", self.package, self.version)
    }

    /// What an installation of it writes down, besides its content.
    pub fn installed(&self) -> Installed {
        Installed {
            schema: 1,
            kind: self.kind,
            package: self.package.clone(),
            version: self.version.clone(),
            integrity: self.integrity.clone(),
            install_script: self.install_script,
            profile: self.profile.clone(),
            parts: self.parts.clone(),
            content: None,
        }
    }

    /// Where one of its programs is, in its folder.
    pub fn program(&self, program: &str) -> Utf8PathBuf {
        let folder = match self.kind {
            Kind::Npm => "node_modules/.bin",
            Kind::Pypi => "venv/bin",
            Kind::Go | Kind::Cargo => "bin",
        };
        Utf8PathBuf::from(folder).join(program)
    }

    /// That what came is what is pinned; `came` is nothing when the registry did not say.
    ///
    /// # Errors
    /// Exit 10, `integrity-mismatch`.
    pub fn verify(&self, came: Option<&str>) -> Result<(), Failure> {
        self.compare(&self.what(), &self.integrity, came)
    }

    /// The same for all of its parts; `came` knows the content of each, or nothing of one that did not come.
    ///
    /// # Errors
    /// As [`Self::verify`].
    pub fn verify_parts(&self, came: impl Fn(&str) -> Option<String>) -> Result<(), Failure> {
        self.parts.iter().try_for_each(|(part, pinned)| {
            let what = format!("{part}, a part of {}", self.what());
            self.compare(&what, pinned, came(part).as_deref())
        })
    }

    fn compare(&self, on: &str, pinned: &str, came: Option<&str>) -> Result<(), Failure> {
        if came == Some(pinned) {
            return Ok(());
        }
        let what = "what came from the registry is not what is pinned";
        Err(Failure::new(ExitCode::StepFailed, "integrity-mismatch", what)
            .on(format!("{on} from {}", self.kind.registry()))
            .because(format!("pinned is {pinned}"))
            .because(format!("what came is {}", came.unwrap_or("of no known content")))
            .hint("do not use it; if the pin is what is wrong, put it right in config/tools.toml"))
    }

    /// Checks what the types cannot say.
    ///
    /// # Errors
    /// The key, and what is wrong with it.
    pub(super) fn check(&self) -> Result<(), (&'static str, String)> {
        let fault = |key, holds: bool, why: &str| if holds { Ok(()) } else { Err((key, why.to_owned())) };
        let is_word = |text: &str, more: &str| {
            !text.is_empty() && text.chars().all(|c| c.is_ascii_alphanumeric() || more.contains(c))
        };
        // It is an argument of the installer, and must not be an option of his.
        let is_package = |name: &str| is_word(name, "@/._-") && !name.starts_with('-');
        fault("package", is_package(&self.package), "is not the name of a package")?;
        let digits = self.version.strip_prefix('v').unwrap_or(&self.version);
        let exact = digits.starts_with(|c: char| c.is_ascii_digit()) && is_word(digits, ".+-");
        fault("version", exact, "is not one exact version")?;
        let (prefix, length, is_digit) = self.kind.integrity();
        let is_content = |text: &str| {
            text.strip_prefix(prefix).is_some_and(|rest| rest.len() == length && rest.chars().all(is_digit))
        };
        let no_content = format!("is not `{prefix}` and {length} characters of a digest");
        fault("integrity", is_content(&self.integrity), &no_content)?;
        let programs = !self.programs.is_empty()
            && self.programs.iter().all(|name| is_word(name, "._-") && !name.starts_with(['.', '-']));
        fault("programs", programs, "names no program, or one that is no plain name")?;
        fault("at_least", Version::parse(&self.at_least).is_some(), "is not a version: `20` or `3.10`")?;
        fault("install_script", !self.install_script || self.kind == Kind::Npm, "is for npm only")?;
        fault("profile", self.profile.is_none() || self.kind == Kind::Cargo, "is for cargo only")?;
        let profile = self.profile.as_deref().is_none_or(|profile| is_word(profile, "_-"));
        fault("profile", profile, "is not the name of a profile")?;
        let native = self.native.as_deref().is_none_or(|path| {
            self.kind == Kind::Npm && path.components().all(|part| matches!(part, Utf8Component::Normal(_)))
        });
        fault("native", native, "is for npm only, and a path below the tool's folder")?;
        fault("parts", self.parts.is_empty() || self.kind == Kind::Npm, "is for npm only")?;
        for (part, content) in &self.parts {
            fault("parts", is_package(part), &format!("{part:?} is not the name of a package"))?;
            fault("parts", *part != self.package, &format!("{part:?} is the package itself"))?;
            fault("parts", is_content(content), &format!("what {part:?} has {no_content}"))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pin() -> Pin {
        Pin {
            about: "it is".to_owned(),
            kind: Kind::Cargo,
            package: "it".to_owned(),
            version: "1.0.0".to_owned(),
            integrity: format!("sha256:{}", "a".repeat(64)),
            programs: vec!["it".to_owned()],
            at_least: "1.80".to_owned(),
            install_script: false,
            profile: None,
            native: None,
            parts: BTreeMap::new(),
        }
    }

    /// It has two parts, `a` and `b`.
    fn pin_of_parts() -> Pin {
        let content = |c: &str| format!("sha512-{}==", c.repeat(86));
        let parts = [("a".to_owned(), content("A")), ("b".to_owned(), content("B"))];
        Pin { kind: Kind::Npm, integrity: content("C"), parts: BTreeMap::from(parts), ..pin() }
    }

    #[test]
    fn only_the_pinned_content_will_do() {
        let pin = pin();
        assert_eq!(pin.check(), Ok(()));
        assert_eq!(pin.verify(Some(&pin.integrity)), Ok(()));
        for other in [Some("sha256:b"), None] {
            let failure = pin.verify(other).unwrap_err();
            assert_eq!(
                (failure.exit_code, failure.kind.as_str()),
                (ExitCode::StepFailed, "integrity-mismatch")
            );
            assert!(failure.to_string().contains(&pin.integrity), "{failure}");
        }
    }

    #[test]
    fn each_part_has_to_be_there_with_its_content() {
        let pin = pin_of_parts();
        assert_eq!(pin.check(), Ok(()));
        assert_eq!(pin.verify_parts(|part| pin.parts.get(part).cloned()), Ok(()));
        for (came, said) in [(Some("sha512-other"), "sha512-other"), (None, "of no known content")] {
            let came = |part: &str| match part {
                "b" => came.map(str::to_owned),
                _ => pin.parts.get(part).cloned(),
            };
            let failure = pin.verify_parts(came).unwrap_err();
            assert_eq!(
                (failure.exit_code, failure.kind.as_str()),
                (ExitCode::StepFailed, "integrity-mismatch")
            );
            assert_eq!(failure.on, ["b, a part of it 1.0.0 from npm's registry"]);
            assert_eq!(
                failure.why,
                [format!("pinned is {}", pin.parts["b"]), format!("what came is {said}")]
            );
        }
    }

    #[test]
    fn a_record_from_before_there_were_parts_holds_for_a_pin_without_them() {
        let of = |pin: &Pin| serde_json::to_string(&pin.installed()).unwrap();
        let old = of(&pin());
        assert!(!old.contains("parts"), "{old}");
        assert_eq!(serde_json::from_str::<Installed>(&old).unwrap(), pin().installed());
        let (with, without) = (pin_of_parts(), Pin { parts: BTreeMap::new(), ..pin_of_parts() });
        assert_eq!(serde_json::from_str::<Installed>(&of(&with)).unwrap(), with.installed());
        assert_ne!(serde_json::from_str::<Installed>(&of(&without)).unwrap(), with.installed());
    }

    #[test]
    fn another_pin_makes_another_installation() {
        let pin = pin();
        let others = [
            Pin { integrity: format!("sha256:{}", "b".repeat(64)), ..pin.clone() },
            Pin { profile: Some("dev".to_owned()), ..pin.clone() },
            Pin { version: "1.0.1".to_owned(), ..pin.clone() },
            Pin { parts: pin_of_parts().parts, ..pin.clone() },
        ];
        assert!(others.iter().all(|other| other.installed() != pin.installed()));
        assert_eq!(Pin { about: "else".to_owned(), ..pin.clone() }.installed(), pin.installed());
    }
}
