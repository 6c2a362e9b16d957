//! Profiles of the files that AWS's own tools keep: keys, region and endpoint, as they stand there.
//!
//! Never asks anybody for credentials: what a profile says of roles, single sign-on or programs is
//! refused by name, so that nobody waits for keys that never come.

use std::{
    collections::BTreeMap,
    env, fs,
    io::ErrorKind,
    path::{Path, PathBuf},
};

/// The largest file that is read, in bytes: those of large companies have some hundred KiB.
const FILE: u64 = 4 << 20;

/// What would have to be asked for.
const ASKED_FOR: &[&str] = &[
    "credential_process",
    "credential_source",
    "login_session",
    "role_arn",
    "services",
    "sso_account_id",
    "sso_role_name",
    "sso_session",
    "sso_start_url",
    "web_identity_token_file",
];

/// Why a profile cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ProfileError {
    /// Neither file has it.
    #[error(
        "neither {config} nor {credentials} has it: `aws configure list-profiles` shows those \
         there are"
    )]
    Unknown {
        /// The file of settings.
        config: PathBuf,
        /// The file of keys.
        credentials: PathBuf,
    },
    /// It is more than keys.
    #[error(
        "it has `{key}`, which tidemill does not follow: use a profile with keys of its own, or \
         take keys from it into the environment with `aws configure export-credentials`"
    )]
    AskedFor {
        /// What it has.
        key: &'static str,
    },
    /// One half of a key.
    #[error("it has no `{0}`: add it to the profile in the file of credentials")]
    NoKey(&'static str),
    /// A file cannot be read.
    #[error("{} cannot be read: {why}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// The system's words.
        why: String,
    },
    /// There is no home to look in.
    #[error("HOME is not set: set AWS_CONFIG_FILE and AWS_SHARED_CREDENTIALS_FILE")]
    NoHome,
}

/// What a profile says.
#[derive(Default, PartialEq, Eq)]
pub(super) struct Profile {
    pub(super) access_key_id: String,
    pub(super) secret_access_key: String,
    pub(super) session_token: Option<String>,
    pub(super) region: Option<String>,
    pub(super) endpoint: Option<String>,
}

/// The two files.
pub(super) struct Files {
    pub(super) config: PathBuf,
    pub(super) credentials: PathBuf,
}

impl Files {
    /// Those that the environment names, else those of the user.
    pub(super) fn of_the_user() -> Result<Files, ProfileError> {
        let home = env::home_dir().filter(|home| !home.as_os_str().is_empty());
        let file = |variable, name: &str| match (env::var_os(variable), &home) {
            (Some(path), _) if !path.is_empty() => Ok(PathBuf::from(path)),
            (_, Some(home)) => Ok(home.join(".aws").join(name)),
            (_, None) => Err(ProfileError::NoHome),
        };
        Ok(Files {
            config: file("AWS_CONFIG_FILE", "config")?,
            credentials: file("AWS_SHARED_CREDENTIALS_FILE", "credentials")?,
        })
    }

    /// The profile of that name. What stands in the file of credentials comes first.
    pub(super) fn profile(&self, name: &str) -> Result<Profile, ProfileError> {
        let prefixed = format!("profile {name}");
        let heads: &[&str] = match name {
            "default" => &["default", "profile default"],
            _ => &[&prefixed],
        };
        let config = section(&read(&self.config)?, heads);
        let credentials = section(&read(&self.credentials)?, &[name]);
        if config.is_none() && credentials.is_none() {
            return Err(ProfileError::Unknown {
                config: self.config.clone(),
                credentials: self.credentials.clone(),
            });
        }
        let mut all = config.unwrap_or_default();
        all.extend(credentials.unwrap_or_default());
        if let Some(key) = ASKED_FOR.iter().find(|key| all.contains_key(**key)) {
            return Err(ProfileError::AskedFor { key });
        }
        let mut needed = |key| all.remove(key).ok_or(ProfileError::NoKey(key));
        Ok(Profile {
            access_key_id: needed("aws_access_key_id")?,
            secret_access_key: needed("aws_secret_access_key")?,
            session_token: all.remove("aws_session_token"),
            region: all.remove("region"),
            endpoint: all.remove("endpoint_url"),
        })
    }
}

fn read(path: &Path) -> Result<String, ProfileError> {
    let unreadable = |why: String| ProfileError::Unreadable {
        path: path.to_owned(),
        why,
    };
    match fs::metadata(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(String::new()),
        Ok(found) if found.len() > FILE => return Err(unreadable("it is too large".into())),
        _ => {}
    }
    fs::read_to_string(path).map_err(|error| unreadable(error.to_string()))
}

/// The values below a heading, of all places where it stands; absent, it stands nowhere.
fn section(text: &str, heads: &[&str]) -> Option<BTreeMap<String, String>> {
    let mut found: Option<BTreeMap<String, String>> = None;
    let mut inside = false;
    for line in text.lines() {
        // Indented lines are details of the line before, such as how `aws s3 cp` copies.
        if line.starts_with([' ', '\t', '#', ';']) {
            continue;
        }
        let line = line.split([' ', '\t']).collect::<Vec<_>>();
        let comment = line.iter().position(|word| word.starts_with(['#', ';']));
        let line = line[..comment.unwrap_or(line.len())].join(" ");
        let line = line.trim();
        if let Some(head) = line.strip_prefix('[') {
            let words = head.trim_end_matches(']').split_whitespace();
            let head = words.collect::<Vec<_>>().join(" ");
            inside = heads.contains(&head.replace(['"', '\''], "").as_str());
            if inside {
                found.get_or_insert_default();
            }
        } else if let (true, Some((key, value)), Some(found)) =
            (inside, line.split_once('='), &mut found)
        {
            let (key, value) = (key.trim().to_ascii_lowercase(), value.trim());
            if !value.is_empty() {
                found.insert(key, value.to_owned());
            }
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn files(config: &str, credentials: &str) -> (tempfile::TempDir, Files) {
        let dir = tempfile::tempdir().unwrap();
        let files = Files {
            config: dir.path().join("config"),
            credentials: dir.path().join("credentials"),
        };
        fs::write(&files.config, config).unwrap();
        fs::write(&files.credentials, credentials).unwrap();
        (dir, files)
    }

    #[test]
    fn both_files_make_a_profile() {
        let (_dir, files) = files(
            "# mine\n[default]\nregion = us-east-2\noutput = json\n\n\
             [profile work]\nregion=eu-central-1 # Frankfurt\nendpoint_url = http://127.0.0.1:9000\n\
             s3 =\n  region = not-this-one\n[profile roles]\nrole_arn = arn:x\nsource_profile = work\n\
             [profile half]\naws_access_key_id = a\n[work]\nregion = nor-this\n",
            "[default]\naws_access_key_id = d\naws_secret_access_key = e=/+\n\
             [ work ]\r\naws_access_key_id = w\r\nAWS_SECRET_ACCESS_KEY = x#y\r\naws_session_token = t\r\n",
        );
        let default = files.profile("default").unwrap_or_else(|e| panic!("{e}"));
        assert_eq!(default.access_key_id, "d");
        assert_eq!(default.secret_access_key, "e=/+");
        assert_eq!(default.region.as_deref(), Some("us-east-2"));
        assert_eq!((default.session_token, default.endpoint), (None, None));
        let work = files.profile("work").unwrap_or_else(|e| panic!("{e}"));
        let expected = Profile {
            access_key_id: "w".into(),
            secret_access_key: "x#y".into(),
            session_token: Some("t".into()),
            region: Some("eu-central-1".into()),
            endpoint: Some("http://127.0.0.1:9000".into()),
        };
        assert!(work == expected);
        let why = |name| match files.profile(name) {
            Ok(_) => panic!("{name} is none"),
            Err(why) => why.to_string(),
        };
        assert!(why("roles").starts_with("it has `role_arn`"));
        assert!(why("half").starts_with("it has no `aws_secret_access_key`"));
        assert!(why("wor").contains("/config nor "), "{}", why("wor"));
    }

    #[test]
    fn a_file_that_is_missing_says_nothing() {
        let (dir, files) = files("", "[a]\naws_access_key_id=1\naws_secret_access_key=2");
        fs::remove_file(&files.config).unwrap();
        assert!(files.profile("a").is_ok());
        fs::remove_file(&files.credentials).unwrap();
        fs::create_dir(dir.path().join("credentials")).unwrap();
        assert!(matches!(
            files.profile("a"),
            Err(ProfileError::Unreadable { .. })
        ));
    }
}
