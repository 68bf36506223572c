//! Readers of post files: JSON lines, plain or compressed with gzip.

use std::fs::File;
use std::io::{self, BufRead, BufReader};
use std::path::{Path, PathBuf};

use flate2::bufread::MultiGzDecoder;
use serde::Deserialize;
use serde::de::{DeserializeOwned, IgnoredAny};

use crate::lines::{BoundedLines, LineProblem, bounded_lines};
use crate::{CountsPatch, InvalidPost, Op, Post, PostId};

/// Longest line of a post file, in bytes.
pub const MAX_LINE_BYTES: usize = 1024 * 1024;

/// Why one line is not a post.
#[derive(Debug, thiserror::Error)]
pub enum LineError {
    /// The line is longer than [`MAX_LINE_BYTES`].
    #[error("line is longer than {limit} bytes: split the post")]
    TooLong {
        /// Most bytes of a line.
        limit: usize,
    },
    /// The line is not JSON, or not the JSON of a post.
    #[error("field {field}, column {column}: {message}")]
    Json {
        /// Path of the field, `.` for the post as a whole.
        field: String,
        /// Column in the line, from 1; 0 when unknown.
        column: usize,
        /// What was found and what was expected.
        message: String,
    },
    /// The post breaks a limit.
    #[error(transparent)]
    Invalid(#[from] InvalidPost),
}

/// Why a post file could not be read, or one of its lines was refused.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The name of the file does not say its format.
    #[error(
        "{path}: expected a name that ends in .jsonl, .ndjson, .jsonl.gz or .ndjson.gz: rename or convert the file"
    )]
    UnknownFormat {
        /// The file.
        path: PathBuf,
    },
    /// The file cannot be opened.
    #[error("cannot open {path}: {source}")]
    Open {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The file ends or breaks before its end.
    #[error("{path}:{line}: cannot read on: {source}; the file may be cut short")]
    Broken {
        /// The file.
        path: PathBuf,
        /// Line, from 1.
        line: u64,
        /// What the system said.
        source: io::Error,
    },
    /// One line is refused; the next can be read.
    #[error("{path}:{line}: {source}")]
    Line {
        /// The file.
        path: PathBuf,
        /// Line, from 1.
        line: u64,
        /// What is wrong.
        source: LineError,
    },
}

/// Reads one post from one line of JSON and validates it ([`Post::validated`]).
pub fn parse_post_line(line: &[u8]) -> Result<Post, LineError> {
    Ok(parse_line::<Post>(line)?.validated()?)
}

/// Reads one change from one line of JSON: a post as [`parse_post_line`] takes it, `{"delete": ID}`, or
/// `{"patch": ID, "counts": {…}}` with the counters to set.
pub fn parse_op_line(line: &[u8]) -> Result<Op, LineError> {
    /// Which of the three it is. What is not JSON is none of them, and refused as a post.
    #[derive(Default, Deserialize)]
    #[serde(default)]
    struct Verb {
        delete: Option<IgnoredAny>,
        patch: Option<IgnoredAny>,
    }
    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Deletion {
        delete: PostId,
    }
    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Patch {
        patch: PostId,
        counts: CountsPatch,
    }
    if line.len() > MAX_LINE_BYTES {
        return Err(LineError::TooLong { limit: MAX_LINE_BYTES });
    }
    let object = line.trim_ascii_start().starts_with(b"{");
    let verb: Verb = if object { serde_json::from_slice(line).unwrap_or_default() } else { Verb::default() };
    if verb.delete.is_some() {
        Ok(Op::Delete(parse_line::<Deletion>(line)?.delete))
    } else if verb.patch.is_some() {
        let Patch { patch: id, counts } = parse_line(line)?;
        Ok(Op::SetCounts { id, counts })
    } else {
        Ok(Op::Upsert(Box::new(parse_post_line(line)?)))
    }
}

fn parse_line<T: DeserializeOwned>(line: &[u8]) -> Result<T, LineError> {
    if line.len() > MAX_LINE_BYTES {
        return Err(LineError::TooLong { limit: MAX_LINE_BYTES });
    }
    let mut json = serde_json::Deserializer::from_slice(line);
    let value = serde_path_to_error::deserialize(&mut json).map_err(|error| {
        let field = error.path().to_string();
        json_error(field, error.inner())
    })?;
    json.end().map_err(|error| json_error(".".to_owned(), &error))?;
    Ok(value)
}

fn json_error(field: String, error: &serde_json::Error) -> LineError {
    // serde_json ends its message with a position that is always "line 1" here.
    let message = error.to_string();
    let message = message.split(" at line ").next().unwrap_or_default().to_owned();
    LineError::Json { field, column: error.column(), message }
}

/// The posts of a `.jsonl` or `.ndjson` file, also with `.gz` after it.
///
/// A refused line is an error in the iteration and the next line follows; a file that cannot be read on is an
/// error and the last item. Memory is bounded by [`MAX_LINE_BYTES`], whatever the file holds.
pub fn read_jsonl(path: &Path) -> Result<PostReader, ReadError> {
    let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default().to_ascii_lowercase();
    let plain = name.strip_suffix(".gz").unwrap_or(&name);
    let known = Path::new(plain).extension().is_some_and(|end| end == "jsonl" || end == "ndjson");
    if !known {
        return Err(ReadError::UnknownFormat { path: path.to_owned() });
    }
    let file = File::open(path).map_err(|source| ReadError::Open { path: path.to_owned(), source })?;
    let is_directory = file.metadata().is_ok_and(|metadata| metadata.is_dir());
    if is_directory {
        let source = io::Error::from(io::ErrorKind::IsADirectory);
        return Err(ReadError::Open { path: path.to_owned(), source });
    }
    let file = BufReader::with_capacity(128 * 1024, file);
    let reader: Box<dyn BufRead + Send> = if plain.len() < name.len() {
        Box::new(BufReader::with_capacity(128 * 1024, MultiGzDecoder::new(file)))
    } else {
        Box::new(file)
    };
    Ok(PostReader { path: path.to_owned(), lines: bounded_lines(reader, MAX_LINE_BYTES) })
}

/// Iterates over the posts of a file; see [`read_jsonl`].
pub struct PostReader {
    path: PathBuf,
    lines: BoundedLines<Box<dyn BufRead + Send>>,
}

impl Iterator for PostReader {
    type Item = Result<Post, ReadError>;

    fn next(&mut self) -> Option<Self::Item> {
        let (line, bytes) = self.lines.next()?;
        let path = || self.path.clone();
        Some(match bytes {
            Ok(bytes) => {
                parse_post_line(&bytes).map_err(|source| ReadError::Line { path: path(), line, source })
            }
            Err(LineProblem::TooLong { limit }) => {
                Err(ReadError::Line { path: path(), line, source: LineError::TooLong { limit } })
            }
            Err(LineProblem::Io(source)) => Err(ReadError::Broken { path: path(), line, source }),
        })
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::io::Write;

    use flate2::Compression;
    use flate2::write::GzEncoder;

    use super::*;

    const GOOD: &str = r#"{"id":"1","text":"Hello #Sleep","created_at":"2015-03-15T14:40:15Z"}"#;

    fn texts(path: &Path) -> Vec<Result<String, String>> {
        read_jsonl(path)
            .expect("opens")
            .map(|post| post.map(|post| post.text).map_err(|error| error.to_string()))
            .collect()
    }

    #[test]
    fn files_are_read_plain_and_compressed_and_bad_lines_are_named() {
        let dir = tempfile::tempdir().expect("a directory");
        let long = "x".repeat(MAX_LINE_BYTES + 1);
        let body = format!("\u{feff}{GOOD}\r\n\n{{\"id\":3}}\n{long}\n{GOOD}");
        let plain = dir.path().join("posts.jsonl");
        fs::write(&plain, &body).expect("writes");
        let zipped = dir.path().join("posts.NDJSON.gz");
        let mut encoder = GzEncoder::new(fs::File::create(&zipped).expect("creates"), Compression::fast());
        encoder.write_all(body.as_bytes()).expect("writes");
        encoder.finish().expect("ends");
        for path in [&plain, &zipped] {
            let found = texts(path);
            assert_eq!(found.len(), 4, "{found:?}");
            assert_eq!(found[0].as_deref(), Ok("Hello #Sleep"));
            let error = found[1].clone().expect_err("the id is a number");
            assert!(error.contains(":3: field id") && error.contains("invalid type: integer `3`"), "{error}");
            let error = found[2].clone().expect_err("the line is too long");
            assert!(error.contains(":4: line is longer than 1048576 bytes"), "{error}");
            assert_eq!(found[3].as_deref(), Ok("Hello #Sleep"));
        }
        let cut = dir.path().join("cut.jsonl.gz");
        let bytes = fs::read(&zipped).expect("reads");
        fs::write(&cut, &bytes[..bytes.len() - 12]).expect("writes");
        let last = texts(&cut).pop().expect("an item").expect_err("the file is cut short");
        assert!(last.contains("cannot read on"), "{last}");
    }

    #[test]
    fn a_file_that_is_none_is_refused_at_once() {
        for (name, expected) in
            [("-", "expected a name"), ("a.csv", "expected a name"), ("no.jsonl", "cannot open")]
        {
            let error = read_jsonl(Path::new(name)).err().expect("refused").to_string();
            assert!(error.contains(expected), "{name}: {error}");
        }
        let dir = tempfile::tempdir().expect("a directory");
        let folder = dir.path().join("x.jsonl");
        fs::create_dir(&folder).expect("creates");
        assert!(matches!(read_jsonl(&folder), Err(ReadError::Open { .. })));
    }

    #[test]
    fn errors_name_the_field() {
        let check = |line: &str, expected: &str| {
            let error = parse_post_line(line.as_bytes()).expect_err(line).to_string();
            assert!(error.contains(expected), "{line}: {error}");
        };
        let with = |more: &str| GOOD.replace('}', &format!(",{more}}}"));
        check("", "EOF while parsing");
        check("[1]", "field");
        check("{\"id\":\"1\"", "EOF");
        check(&with("\"counts\":{\"likes\":-1}"), "field counts.likes");
        check(&with("\"counts\":{\"like\":1}"), "unknown field `like`");
        check(&with("\"attributes\":{\"a\":[1]}"), "field attributes.a");
        check(&with("\"likes\":1"), "unknown field `likes`");
        check(&with("\"tags\":[1]"), "field tags[0]");
        check(&format!("{GOOD} x"), "trailing characters");
        check(&GOOD.replace("Hello #Sleep", " "), "text is blank");
        check(&GOOD.replace("2015", "soon"), "field created_at");
        check(&"[".repeat(10_000), "field");
        let error = parse_post_line(b"{\"id\":\"\xff\"}").expect_err("not UTF-8");
        assert!(matches!(error, LineError::Json { .. }), "{error}");
        let error = parse_post_line(&vec![b' '; MAX_LINE_BYTES + 1]).expect_err("too long");
        assert!(matches!(error, LineError::TooLong { .. }), "{error}");
    }
    #[test]
    fn a_line_is_a_post_a_deletion_or_new_counters() {
        let op = |line: &str| parse_op_line(line.as_bytes()).map_err(|error| error.to_string());
        let id = PostId::new("7").expect("valid");
        assert!(matches!(op(GOOD), Ok(Op::Upsert(post)) if post.tags == ["sleep"]));
        assert_eq!(op(r#" {"delete":"7"} "#), Ok(Op::Delete(id.clone())));
        let counts = CountsPatch { likes: Some(3), ..CountsPatch::default() };
        assert_eq!(op(r#"{"counts":{"likes":3},"patch":"7"}"#), Ok(Op::SetCounts { id, counts }));
        let check = |line: &str, expected: &str| {
            let error = op(line).expect_err(line);
            assert!(error.contains(expected), "{line}: {error}");
        };
        check(r#"{"delete":""}"#, "field delete, column 13: id has 0 bytes");
        check(r#"{"delete":"7","text":"x"}"#, "unknown field `text`");
        check(r#"{"delete":"7","patch":"7"}"#, "unknown field `patch`");
        check(r#"{"patch":"7"}"#, "missing field `counts`");
        check(r#"{"patch":"7","counts":{"like":1}}"#, "unknown field `like`");
        check(r#"{"delete":null}"#, "unknown field `delete`");
        check(r#"["7"]"#, "invalid length");
        check("{\"delete\":\"7\"} x", "field");
        check("", "EOF while parsing");
        let long = vec![b' '; MAX_LINE_BYTES + 1];
        assert!(matches!(parse_op_line(&long), Err(LineError::TooLong { .. })));
    }
}
