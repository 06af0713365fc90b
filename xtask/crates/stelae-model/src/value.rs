//! The types that a variable can have. Each parses from a string, and prints as the one string it is passed on as.

use std::fmt;
use std::net::IpAddr;

use camino::{Utf8Path, Utf8PathBuf};
use serde::{Serialize, Serializer};
use sha2::{Digest, Sha256};

use crate::hidden::SHORTEST;

/// A type of environment variable: how it is read, and how it is handed to a process.
pub trait EnvValue: Sized {
    /// The type's name in `env show` and `docs/ENV.md`.
    const TYPE: &'static str;
    /// Whether the value must never be printed.
    const SECRET: bool = false;

    /// Reads a value.
    ///
    /// # Errors
    /// Why the text is not a value of this type, as the end of a sentence: `is not a port: …`.
    fn parse(text: &str) -> Result<Self, String>;

    /// The text that a process gets; `None` leaves the variable out of its environment.
    fn to_env(&self) -> Option<String>;
}

/// A TCP port that somebody can connect to: 1 to 65535.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(transparent)]
pub struct Port(u16);

impl Port {
    /// A port from its number; `None` for 0, which means "any" and is nothing to connect to.
    pub const fn new(number: u16) -> Option<Self> {
        if number == 0 { None } else { Some(Self(number)) }
    }

    /// The number.
    pub const fn number(self) -> u16 {
        self.0
    }
}

impl fmt::Display for Port {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl EnvValue for Port {
    const TYPE: &'static str = "port";

    fn parse(text: &str) -> Result<Self, String> {
        // `u16::from_str` takes "+80"; a port in a URL does not.
        let digits = text.bytes().all(|byte| byte.is_ascii_digit());
        let number = if digits { text.parse::<u16>().ok() } else { None };
        number.and_then(Self::new).ok_or_else(|| "is not a port: 1 to 65535".to_owned())
    }

    fn to_env(&self) -> Option<String> {
        Some(self.0.to_string())
    }
}

/// An absolute, UTF-8 path without `..`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(transparent)]
pub struct AbsolutePath(Utf8PathBuf);

impl AbsolutePath {
    /// The path.
    pub fn as_path(&self) -> &Utf8Path {
        &self.0
    }
}

impl AsRef<Utf8Path> for AbsolutePath {
    fn as_ref(&self) -> &Utf8Path {
        &self.0
    }
}

impl std::ops::Deref for AbsolutePath {
    type Target = Utf8Path;

    fn deref(&self) -> &Utf8Path {
        &self.0
    }
}

impl fmt::Display for AbsolutePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl EnvValue for AbsolutePath {
    const TYPE: &'static str = "absolute path";

    fn parse(text: &str) -> Result<Self, String> {
        let path = Utf8PathBuf::from(text);
        if !path.is_absolute() {
            return Err("is not an absolute path".to_owned());
        }
        if path.components().any(|part| part == camino::Utf8Component::ParentDir) {
            return Err("contains `..`".to_owned());
        }
        Ok(Self(path.components().collect()))
    }

    fn to_env(&self) -> Option<String> {
        Some(self.0.to_string())
    }
}

/// The IP address that a server listens on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(transparent)]
pub struct Host(IpAddr);

impl Host {
    /// The address.
    pub const fn address(self) -> IpAddr {
        self.0
    }
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            IpAddr::V4(address) => address.fmt(f),
            // As it stands in `host:port` and in a URL.
            IpAddr::V6(address) => write!(f, "[{address}]"),
        }
    }
}

impl EnvValue for Host {
    const TYPE: &'static str = "loopback address";

    fn parse(text: &str) -> Result<Self, String> {
        let bare = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(text);
        let address: IpAddr = bare.parse().map_err(|_| "is not an IP address".to_owned())?;
        if !address.is_loopback() {
            return Err("is not a loopback address: this stack listens on loopback only".to_owned());
        }
        Ok(Self(address))
    }

    fn to_env(&self) -> Option<String> {
        Some(self.to_string())
    }
}

/// An `http://host:port[/path]` address without a trailing slash.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(transparent)]
pub struct HttpUrl(String);

impl HttpUrl {
    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for HttpUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl EnvValue for HttpUrl {
    const TYPE: &'static str = "http url";

    fn parse(text: &str) -> Result<Self, String> {
        let authority = text.strip_prefix("http://").or_else(|| text.strip_prefix("https://"));
        let plain = |text: &str| !text.is_empty() && text.chars().all(|c| !c.is_whitespace() && c != '"');
        match authority {
            Some(rest) if plain(rest) && !rest.starts_with('/') => {
                Ok(Self(text.trim_end_matches('/').to_owned()))
            }
            _ => Err("is not an http url".to_owned()),
        }
    }

    fn to_env(&self) -> Option<String> {
        Some(self.0.clone())
    }
}

/// Any text without a NUL byte or a line break.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(transparent)]
pub struct Text(String);

impl Text {
    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Text {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl EnvValue for Text {
    const TYPE: &'static str = "text";

    fn parse(text: &str) -> Result<Self, String> {
        if text.contains(['\0', '\n', '\r']) {
            return Err("contains a NUL byte or a line break".to_owned());
        }
        Ok(Self(text.to_owned()))
    }

    fn to_env(&self) -> Option<String> {
        Some(self.0.clone())
    }
}

/// A value that must never be printed: it has no `Display`, its `Debug` and its JSON are a digest.
///
/// ```compile_fail,E0277
/// let token = stelae_model::value::Secret::new("hunter2".to_owned());
/// println!("{token}");
/// ```
#[derive(Clone, PartialEq, Eq)]
pub struct Secret<T>(T);

impl<T: AsRef<str>> Secret<T> {
    /// Wraps a value.
    pub fn new(value: T) -> Self {
        Self(value)
    }

    /// The value itself. Every caller of this hands it to a process or a header, and to nothing that is kept.
    pub fn expose(&self) -> &T {
        &self.0
    }

    /// `sha256:` and the first 12 hexadecimal digits: enough to see that two secrets differ.
    pub fn digest(&self) -> String {
        digest(self.0.as_ref())
    }
}

impl<T: AsRef<str>> fmt::Debug for Secret<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Secret({})", self.digest())
    }
}

impl<T: AsRef<str>> Serialize for Secret<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.digest())
    }
}

/// What stands behind `Bearer ` in a header: one word of printable ASCII, long enough to be [hidden](crate::hidden).
#[derive(Clone, PartialEq, Eq)]
pub struct BearerToken(String);

impl AsRef<str> for BearerToken {
    fn as_ref(&self) -> &str {
        &self.0
    }
}

impl EnvValue for Secret<BearerToken> {
    const TYPE: &'static str = "secret token";
    const SECRET: bool = true;

    fn parse(text: &str) -> Result<Self, String> {
        let is_word = text.chars().all(|character| character.is_ascii_graphic());
        (is_word && text.len() >= SHORTEST).then(|| Self(BearerToken(text.to_owned()))).ok_or_else(|| {
            format!("is not a token: one word of printable ASCII, {SHORTEST} characters or more")
        })
    }

    fn to_env(&self) -> Option<String> {
        Some(self.0.0.clone())
    }
}

impl Secret<BearerToken> {
    /// The header that shows it: `Authorization`, and its value.
    pub fn header(&self) -> (String, String) {
        ("Authorization".to_owned(), format!("Bearer {}", self.0.0))
    }
}

impl EnvValue for Secret<String> {
    const TYPE: &'static str = "secret";
    const SECRET: bool = true;

    fn parse(text: &str) -> Result<Self, String> {
        // The reason never quotes the value.
        Text::parse(text).map(|text| Self(text.0))
    }

    fn to_env(&self) -> Option<String> {
        Some(self.0.clone())
    }
}

/// A variable that a process may be without; an empty text means the same as none.
impl<T: EnvValue> EnvValue for Option<T> {
    const TYPE: &'static str = T::TYPE;
    const SECRET: bool = T::SECRET;

    fn parse(text: &str) -> Result<Self, String> {
        if text.is_empty() { Ok(None) } else { T::parse(text).map(Some) }
    }

    fn to_env(&self) -> Option<String> {
        self.as_ref().and_then(T::to_env)
    }
}

/// `sha256:` and the first 12 hexadecimal digits of the text's digest.
pub fn digest(text: &str) -> String {
    let mut hex = full_digest(text);
    hex.truncate(12);
    format!("sha256:{hex}")
}

/// All 64 hexadecimal digits of the text's SHA-256.
pub fn full_digest(text: &str) -> String {
    Sha256::digest(text.as_bytes()).iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_are_1_to_65535() {
        assert_eq!(Port::parse("9090").map(Port::number), Ok(9090));
        for bad in ["0", "70000", "-1", "+80", "", "80 ", "0x50"] {
            assert!(Port::parse(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn paths_are_absolute_and_normal() {
        assert_eq!(AbsolutePath::parse("/a//b/./c/").map(|path| path.to_string()), Ok("/a/b/c".to_owned()));
        assert!(AbsolutePath::parse("a/b").is_err());
        assert!(AbsolutePath::parse("/a/../b").is_err());
    }

    #[test]
    fn hosts_are_loopback() {
        assert_eq!(Host::parse("[::1]").map(|host| host.to_string()), Ok("[::1]".to_owned()));
        assert!(Host::parse("127.0.0.2").is_ok());
        assert!(Host::parse("0.0.0.0").is_err());
        assert!(Host::parse("localhost").is_err());
    }

    #[test]
    fn a_token_is_one_word_and_its_refusal_does_not_quote_it() {
        let token = Secret::<BearerToken>::parse("hunter2").unwrap();
        assert_eq!(token.header(), ("Authorization".to_owned(), "Bearer hunter2".to_owned()));
        for bad in ["", "hunte", "hunter2 hunter3", "hunter2\n", "h\u{fc}nter2"] {
            let why = Secret::<BearerToken>::parse(bad).unwrap_err();
            assert!(!why.contains("nter"), "{why}");
        }
    }

    #[test]
    fn a_secret_prints_as_its_digest() {
        let secret = Secret::new("hunter2".to_owned());
        assert!(!format!("{secret:?}").contains("hunter2"));
        assert!(!serde_json::to_string(&secret).unwrap().contains("hunter2"));
        assert_eq!(secret.digest(), "sha256:f52fbd32b2b3");
    }
}
