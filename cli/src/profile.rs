//! Profiles: addresses and keys under a name, in a file that `postern dev` writes too.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::args::Globals;
use crate::exit::Failure;
use crate::output::{Column, Printer};

/// Where `postern dev` keeps its state, and the first place where profiles are looked for.
pub const LOCAL: &str = ".postern/profiles.toml";

/// The profiles of a file.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Profiles {
    /// The profile that is taken when none is named.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub default: Option<String>,
    /// The profiles by name.
    #[serde(default)]
    pub profile: BTreeMap<String, Profile>,
}

/// An address and a key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Profile {
    /// The control plane's address.
    pub address: String,
    /// The dispatcher's, where it is another.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub topics_address: Option<String>,
    /// The API key.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub api_key: Option<String>,
    /// The account that the key is of; for people.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub account: Option<String>,
}

impl Profiles {
    /// Reads the file that the options name, or the first of the usual ones that there is. None is
    /// the same as an empty one.
    pub fn load(globals: &Globals) -> Result<Self, Failure> {
        let (path, must_exist) = match &globals.profiles {
            Some(path) => (path.clone(), true),
            None => (usual(), false),
        };
        match fs::read_to_string(&path) {
            Ok(text) => toml::from_str(&text)
                .map_err(|error| Failure::Usage(format!("{}: {error}", path.display()))),
            Err(error) if error.kind() == io::ErrorKind::NotFound && !must_exist => {
                Ok(Self::default())
            }
            Err(error) => Err(Failure::Usage(format!("{}: {error}", path.display()))),
        }
    }

    /// Writes the file, for its owner's eyes only: it holds keys.
    pub fn save(&self, path: &Path) -> anyhow::Result<()> {
        use std::io::Write as _;
        use std::os::unix::fs::OpenOptionsExt as _;

        if let Some(dir) = path.parent() {
            fs::create_dir_all(dir)?;
        }
        let beside = path.with_extension("new");
        let mut file = fs::OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(&beside)?;
        file.write_all(toml::to_string(self)?.as_bytes())?;
        file.sync_all()?;
        fs::rename(&beside, path)?;
        Ok(())
    }

    /// The profile of this name, or the default one; `None` when nobody named one and there is none.
    pub fn find(&self, name: Option<&str>) -> Result<Option<&Profile>, Failure> {
        let Some(name) = name.or(self.default.as_deref()) else { return Ok(None) };
        match self.profile.get(name) {
            Some(profile) => Ok(Some(profile)),
            None => {
                let known: Vec<_> = self.profile.keys().map(String::as_str).collect();
                let known = if known.is_empty() { "none".to_owned() } else { known.join(", ") };
                Err(Failure::Usage(format!("there is no profile {name:?}; known: {known}")))
            }
        }
    }
}

fn usual() -> PathBuf {
    let local = PathBuf::from(LOCAL);
    if local.exists() {
        return local;
    }
    let home = std::env::var_os("XDG_CONFIG_HOME")
        .map(PathBuf::from)
        .or_else(|| std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".config")));
    home.unwrap_or_default().join("postern/profiles.toml")
}

/// Shows the profiles, without their keys.
pub fn list(globals: &Globals, printer: &Printer) -> Result<(), Failure> {
    let profiles = Profiles::load(globals)?;
    let rows: Vec<_> = profiles
        .profile
        .iter()
        .map(|(name, profile)| {
            json!({
                "name": name,
                "address": profile.address,
                "topicsAddress": profile.topics_address,
                "account": profile.account,
                "default": profiles.default.as_ref() == Some(name),
            })
        })
        .collect();
    const COLUMNS: &[Column] = &[
        ("NAME", "name"),
        ("ADDRESS", "address"),
        ("TOPICS", "topicsAddress"),
        ("ACCOUNT", "account"),
        ("DEFAULT", "default"),
    ];
    printer.values("profiles", rows, COLUMNS);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn profiles_are_found_again_and_an_unknown_one_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("profiles.toml");
        let mut profiles = Profiles { default: Some("a".to_owned()), ..Profiles::default() };
        profiles.profile.insert(
            "a".to_owned(),
            Profile {
                address: "http://127.0.0.1:1".to_owned(),
                topics_address: None,
                api_key: Some("k".to_owned()),
                account: None,
            },
        );
        profiles.save(&path).unwrap();
        let text = fs::read_to_string(&path).unwrap();
        assert_eq!(toml::from_str::<Profiles>(&text).unwrap(), profiles);
        assert!(profiles.find(None).unwrap().is_some());
        let Err(Failure::Usage(said)) = profiles.find(Some("b")) else { panic!("b is unknown") };
        assert!(said.contains("\"b\"") && said.contains("known: a"), "{said}");
    }
}
