//! `bowerbird export`

use std::fs::{self, File};
use std::io;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context, bail};
use bowerbird_live::{LiveError, read_closed};
use bowerbird_parts::PartWriter;
use bowerbird_posts::Post;

use crate::cli::ExportArgs;
use crate::progress::counting;

/// What was written.
#[derive(Debug, Default, serde::Serialize)]
struct Exported {
    posts: u64,
    parts: u64,
    bytes: u64,
    seconds: f64,
}

/// Runs `bowerbird export`.
pub fn run(args: &ExportArgs) -> anyhow::Result<()> {
    let begun = Instant::now();
    refuse_used(&args.out)?;
    let name = args.out.file_name().with_context(|| format!("{} is no name", args.out.display()))?;
    let home = args.out.parent().filter(|home| !home.as_os_str().is_empty()).unwrap_or(Path::new("."));
    fs::create_dir_all(home).with_context(|| format!("cannot create {}", home.display()))?;
    // The parts appear together: a directory with some of them would pass for the whole store.
    let unfinished = tempfile::Builder::new()
        .prefix(&format!(".{}.exporting-", name.to_string_lossy()))
        .tempdir_in(home)
        .with_context(|| format!("cannot create a directory in {}", home.display()))?;
    let mut parts = Parts {
        dir: unfinished.path().to_path_buf(),
        posts: args.part_posts,
        open: None,
        done: Exported::default(),
    };
    let bar = counting("exporting posts", 0);
    let mut failed = None;
    let read = read_closed(&args.data_dir, &mut |post, total| {
        bar.set_length(total);
        bar.inc(1);
        match parts.push(&post) {
            Ok(()) => ControlFlow::Continue(()),
            Err(error) => {
                failed = Some(error);
                ControlFlow::Break(())
            }
        }
    });
    bar.finish_and_clear();
    match read {
        Err(error @ LiveError::Locked { .. }) => {
            return Err(error).context(
                "a server is using it: stop the server, or export a copy (`POST /v1/snapshots`, then `bowerbird \
                 restore`)",
            );
        }
        other => other.with_context(|| format!("data directory {}", args.data_dir.display()))?,
    }
    if let Some(error) = failed {
        return Err(error);
    }
    let mut done = parts.finish()?;
    publish(unfinished, &args.out, home).with_context(|| format!("cannot make {}", args.out.display()))?;
    done.seconds = begun.elapsed().as_secs_f64();
    if args.json {
        println!("{}", serde_json::to_string(&done)?);
    } else {
        let Exported { posts, parts, bytes, seconds } = done;
        println!("{posts} posts in {parts} parts of together {bytes} bytes in {seconds:.1} s");
    }
    Ok(())
}

/// Refuses a directory that holds something.
fn refuse_used(out: &Path) -> anyhow::Result<()> {
    match fs::read_dir(out) {
        Ok(mut entries) => match entries.next() {
            None => Ok(()),
            Some(_) => bail!("{} is not empty: give a directory that is absent or empty", out.display()),
        },
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error).with_context(|| format!("cannot read {}", out.display())),
    }
}

fn publish(unfinished: tempfile::TempDir, out: &Path, home: &Path) -> io::Result<()> {
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        // A temporary directory is its owner's only; parts are for other machines to read.
        fs::set_permissions(unfinished.path(), fs::Permissions::from_mode(0o755))?;
    }
    // An empty directory gives way to the new one.
    fs::rename(unfinished.path(), out)?;
    drop(unfinished.keep());
    if cfg!(unix) {
        File::open(home)?.sync_all()?;
    }
    Ok(())
}

/// The parts under way.
struct Parts {
    dir: PathBuf,
    /// Posts of a part.
    posts: u64,
    open: Option<PartWriter>,
    done: Exported,
}

impl Parts {
    fn push(&mut self, post: &Post) -> anyhow::Result<()> {
        if self.open.as_ref().is_some_and(|part| part.rows() >= self.posts) {
            self.close()?;
        }
        let part = match self.open.take() {
            Some(part) => part,
            None => self.begin()?,
        };
        Ok(self.open.insert(part).push(post, None)?)
    }

    fn begin(&self) -> anyhow::Result<PartWriter> {
        Ok(PartWriter::posts(&self.dir.join(format!("part-{:05}.parquet", self.done.parts)))?)
    }

    fn close(&mut self) -> anyhow::Result<()> {
        if let Some(part) = self.open.take() {
            let written = part.finish()?;
            self.done.posts += written.rows;
            self.done.bytes += written.bytes;
            self.done.parts += 1;
        }
        Ok(())
    }

    /// Ends the last part; of a store without posts it is the only one, and empty.
    fn finish(mut self) -> anyhow::Result<Exported> {
        if self.open.is_none() {
            self.open = Some(self.begin()?);
        }
        self.close()?;
        Ok(self.done)
    }
}
