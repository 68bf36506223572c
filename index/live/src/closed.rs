//! Reading the posts of a data directory that no process has open.

use std::fs;
use std::ops::ControlFlow;
use std::path::Path;

use bowerbird_posts::{Ordinal, Post, PostStore};

use crate::LiveError;
use crate::layout::DataDir;

/// Visits every live post of the data directory `root` in the order of their ordinals, until `visit` breaks.
///
/// `visit` is told how many there are. Fails with [`LiveError::Locked`] while a process has the directory open, and
/// at the first record that cannot be read. Needs neither index nor model.
pub fn read_closed(
    root: &Path,
    visit: &mut dyn FnMut(Post, u64) -> ControlFlow<()>,
) -> Result<(), LiveError> {
    // Opening makes what is missing, and a mistyped name would become a directory.
    let format = root.join("FORMAT");
    fs::metadata(&format).map_err(LiveError::io("read", &format))?;
    let dir = DataDir::open(root)?;
    let posts = PostStore::open(&dir.posts())?;
    let total = posts.len()?;
    Ok(posts.scan(Ordinal(0), &mut |stored| visit(stored.post, total))?)
}
