//! What the installers write about the content of what they were given.

use serde_json::Value;

/// npm's `integrity` of a package, in the text of the `package-lock.json` that its installation made. It has all the optional
/// packages, also those of other platforms, by the names under which they are installed: an alias is one of its own.
pub fn package_integrity(lock: &str, package: &str) -> Option<String> {
    let lock: Value = serde_json::from_str(lock).ok()?;
    let entry = &lock["packages"][format!("node_modules/{package}")];
    Some(entry["integrity"].as_str()?.to_owned())
}

/// The checksum of a crate in the text of a `Cargo.lock`, as `sha256:…`.
pub fn crate_checksum(lock: &str, package: &str, version: &str) -> Option<String> {
    let lock: toml::Table = toml::from_str(lock).ok()?;
    let packages = lock.get("package")?.as_array()?;
    let of = |entry: &toml::Value, key: &str| Some(entry.get(key)?.as_str()?.to_owned());
    let is_meant = |entry: &&toml::Value| {
        of(entry, "name").as_deref() == Some(package) && of(entry, "version").as_deref() == Some(version)
    };
    let checksum = of(packages.iter().find(is_meant)?, "checksum")?;
    Some(format!("sha256:{checksum}"))
}

/// The sum of a module, in what `go mod download -json` says of it.
pub fn module_sum(said: &str) -> Option<String> {
    let said: Value = serde_json::from_str(said).ok()?;
    Some(said["Sum"].as_str()?.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_content_of_the_one_package_is_found() {
        let npm = r#"{"packages": {"": {}, "node_modules/a/node_modules/@b/c": {"integrity": "sha512-other"},
            "node_modules/@b/c": {"version": "1", "integrity": "sha512-this"}, "node_modules/d": {},
            "node_modules/@b/c-x": {"name": "@b/c", "version": "1-x", "integrity": "sha512-alias", "optional": true}}}"#;
        assert_eq!(package_integrity(npm, "@b/c").as_deref(), Some("sha512-this"));
        assert_eq!(package_integrity(npm, "@b/c-x").as_deref(), Some("sha512-alias"));
        let cargo = "[[package]]\nname = \"a\"\nversion = \"1.0.0\"\nchecksum = \"0\"\n\
            [[package]]\nname = \"a\"\nversion = \"2.0.0\"\nchecksum = \"1\"\n[[package]]\nname = \"b\"\nversion = \"1.0.0\"\n";
        assert_eq!(crate_checksum(cargo, "a", "2.0.0").as_deref(), Some("sha256:1"));
        assert_eq!(module_sum(r#"{"Path": "m", "Sum": "h1:x="}"#).as_deref(), Some("h1:x="));
        let nothing = [
            package_integrity(npm, "d"),
            package_integrity("no json", "d"),
            crate_checksum(cargo, "b", "1.0.0"),
            crate_checksum(cargo, "a", "3.0.0"),
            module_sum(r#"{"Error": "not found"}"#),
        ];
        assert!(nothing.iter().all(Option::is_none), "{nothing:?}");
    }
}
