//! Where the ad database is: a file, or a PostgreSQL server.

use std::fmt;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use url::Url;

/// An SQLite file or a PostgreSQL address, read from `ads.sqlite`, `/var/lib/ads.sqlite` or
/// `postgres://user:password@host/database`. Printed without the password.
#[derive(Clone, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub enum DatabaseAddress {
    /// A file, created when absent.
    File(PathBuf),
    /// A database that exists, with what libpq takes in the query part (`sslmode`, `host` for a socket, …).
    Postgres(Url),
}

impl DatabaseAddress {
    /// The same, with a relative file taken below `folder`.
    #[must_use]
    pub fn under(&self, folder: &Path) -> Self {
        match self {
            Self::File(path) => Self::File(folder.join(path)),
            Self::Postgres(url) => Self::Postgres(url.clone()),
        }
    }

    /// The file, if it is one.
    pub fn file(&self) -> Option<&Path> {
        match self {
            Self::File(path) => Some(path),
            Self::Postgres(_) => None,
        }
    }
}

impl TryFrom<String> for DatabaseAddress {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let expected = "expected the path of a file, or postgres://user:password@host/database";
        if text.starts_with("postgres://") || text.starts_with("postgresql://") {
            // The text is not repeated: it may hold a password.
            return Url::parse(&text).map(Self::Postgres).map_err(|error| {
                format!("the address of the ad database is not a web address ({error}): {expected}")
            });
        }
        if text.trim().is_empty() || text.contains("://") {
            let scheme = text.split("://").next().unwrap_or_default();
            return Err(format!("the ad database cannot be at {scheme:?}: {expected}"));
        }
        Ok(Self::File(text.into()))
    }
}

impl fmt::Display for DatabaseAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path) => write!(f, "{}", path.display()),
            Self::Postgres(url) => {
                let mut shown = url.clone();
                // Parameters can hold a password too.
                shown.set_query(None);
                if shown.password().is_some() && shown.set_password(Some("…")).is_err() {
                    return f.write_str("postgres");
                }
                write!(f, "{shown}")
            }
        }
    }
}

impl fmt::Debug for DatabaseAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_and_servers_are_told_apart_and_passwords_kept() {
        let parse = |text: &str| DatabaseAddress::try_from(text.to_owned());
        assert_eq!(
            parse("ads.sqlite").expect("a file").under(Path::new("/data")).file(),
            Some(Path::new("/data/ads.sqlite"))
        );
        assert_eq!(
            parse("/a/b.sqlite").expect("a file").under(Path::new("/data")).file(),
            Some(Path::new("/a/b.sqlite"))
        );
        for server in ["postgres://u:geheim@h:5433/d?password=geheim", "postgresql://u:geheim@h/d"] {
            let address = parse(server).expect("a server");
            assert_eq!(address.file(), None);
            let shown = format!("{address} {address:?}");
            assert!(!shown.contains("geheim") && shown.contains("@h"), "{shown}");
        }
        for bad in ["", " ", "mysql://h/d", "sqlite://x", "postgres://[geheim"] {
            let error = parse(bad).expect_err("no database");
            assert!(error.contains("postgres://user") && !error.contains("geheim"), "{error}");
        }
    }
}
