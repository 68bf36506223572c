//! `POST /v1/snapshots`, `GET /v1/snapshots`, `DELETE /v1/snapshots/{name}`

use bowerbird_live::SnapshotManifest;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::snapshots::Listed;

/// What to call a new snapshot.
#[derive(Clone, Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct SnapshotBody {
    /// 1 to 64 of letters, digits, `.`, `_` and `-`; the time when absent.
    #[serde(default)]
    pub name: Option<String>,
}

/// One snapshot.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct SnapshotInfo {
    /// Its name.
    pub name: String,
    /// When it was begun, RFC 3339.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub created_at: Option<String>,
    /// Last transaction of the post store in it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sequence: Option<u64>,
    /// Posts in it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub posts: Option<u64>,
    /// Size of its files together; files that an index still uses too take no space of their own.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bytes: Option<u64>,
    /// Number of files.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub files: Option<usize>,
    /// Why it cannot be read.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

impl From<SnapshotManifest> for SnapshotInfo {
    fn from(manifest: SnapshotManifest) -> Self {
        Self {
            created_at: Some(manifest.created_at.to_string()),
            sequence: Some(manifest.sequence),
            posts: Some(manifest.posts),
            bytes: Some(manifest.bytes),
            files: Some(manifest.files.len()),
            name: manifest.name,
            error: None,
        }
    }
}

impl From<Listed> for SnapshotInfo {
    fn from(listed: Listed) -> Self {
        match listed.manifest {
            Ok(manifest) => Self { name: listed.name, ..manifest.into() },
            Err(_) => Self {
                name: listed.name,
                created_at: None,
                sequence: None,
                posts: None,
                bytes: None,
                files: None,
                error: Some("its manifest is damaged: delete it".into()),
            },
        }
    }
}

/// A snapshot that was taken.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct SnapshotPage {
    /// The snapshot.
    pub snapshot: SnapshotInfo,
    /// Names this call in the log.
    pub request_id: String,
}

/// All snapshots.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct SnapshotList {
    /// By name.
    pub snapshots: Vec<SnapshotInfo>,
    /// Names this call in the log.
    pub request_id: String,
}
