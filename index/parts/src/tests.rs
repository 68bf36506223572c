use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow_array::builder::{ListBuilder, StringBuilder};
use arrow_array::{
    ArrayRef, Int32Array, Int64Array, LargeStringArray, NullArray, RecordBatch, StringArray,
    TimestampMillisecondArray, TimestampNanosecondArray,
};
use bowerbird_posts::{AttributeValue, Counts, Post, PostId};
use jiff::Timestamp;
use parquet::arrow::ArrowWriter;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use parquet::file::properties::WriterProperties;
use proptest::prelude::*;

use crate::{PartError, PartReader, PartRow, PartWriter, VectorSpec, file_sha256, part_files, part_info};

const SPACE: &str = "stub/mean/4/aaaa";

fn posts(number: usize) -> Vec<Post> {
    let one = |n: usize| {
        let at = Timestamp::from_microsecond(1_426_430_415_123_456 + i64::try_from(n).expect("small"))
            .expect("in range");
        let id = PostId::new(format!("post-{n}")).expect("an id");
        let mut post = Post::new(id, format!("Hello #Sleep {n} 🙂 @bob https://a.example/x"), "ann", at);
        if n.is_multiple_of(2) {
            post.lang = Some("en".into());
            post.reply_to = Some(PostId::new("post-0").expect("an id"));
            post.counts = Counts { likes: 1, reposts: 2, replies: 3, views: 1 << 40 };
            post.attributes.insert("price".into(), AttributeValue::Number(3.5));
            post.attributes.insert("flair".into(), AttributeValue::Text("News \"x\"".into()));
            post.attributes.insert("paid".into(), AttributeValue::Bool(true));
        }
        post.validated().expect("a valid post")
    };
    (0..number).map(one).collect()
}

fn spec() -> VectorSpec {
    VectorSpec { space: SPACE.into(), dim: 4, source: "00".repeat(32) }
}

/// A vector for every post but each seventh.
fn vector(n: usize) -> Option<Vec<f32>> {
    let mut vector = vec![0.0; 4];
    vector[n % 4] = 1.0;
    (!n.is_multiple_of(7)).then_some(vector)
}

fn write_vectors(path: &Path, posts: &[Post]) {
    let mut writer = PartWriter::vectors(path, &spec()).expect("begins");
    for (n, post) in posts.iter().enumerate() {
        writer.push(post, vector(n).as_deref()).expect("a row");
    }
    let written = writer.finish().expect("written");
    assert_eq!(written.rows, posts.len() as u64);
    assert_eq!(written.bytes, fs::metadata(path).expect("there").len());
}

fn names(dir: &Path) -> Vec<String> {
    let entries = fs::read_dir(dir).expect("a directory");
    let mut names: Vec<_> =
        entries.map(|entry| entry.expect("an entry").file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    names
}

fn read(path: &Path) -> Vec<Result<PartRow, PartError>> {
    PartReader::open(path).expect("opens").collect()
}

#[test]
fn posts_and_vectors_come_back_as_they_were() {
    let dir = tempfile::tempdir().expect("a directory");
    // More than a batch and more than a row group.
    let posts = posts(4500);
    let (plain, with) = (dir.path().join("a.parquet"), dir.path().join("b.parquet"));
    let mut writer = PartWriter::posts(&plain).expect("begins");
    for post in &posts {
        writer.push(post, None).expect("a row");
    }
    assert_eq!(writer.rows(), 4500);
    writer.finish().expect("written");
    write_vectors(&with, &posts);
    assert_eq!(names(dir.path()), ["a.parquet", "b.parquet"]);
    assert_eq!(part_info(&plain).expect("good").vectors, None);
    assert_eq!(part_info(&with).expect("good").vectors, Some(spec()));
    for (path, with_vectors) in [(&plain, false), (&with, true)] {
        let rows = read(path);
        assert_eq!(rows.len(), posts.len());
        for (n, (row, post)) in rows.into_iter().zip(&posts).enumerate() {
            let row = row.expect("a row");
            assert_eq!(&row.post, post);
            assert_eq!(row.vector, vector(n).filter(|_| with_vectors), "row {n}");
        }
    }
    let empty = dir.path().join("empty.parquet");
    PartWriter::vectors(&empty, &spec()).expect("begins").finish().expect("written");
    assert_eq!(read(&empty).len(), 0);
}

#[test]
fn vectors_of_another_space_are_refused_though_their_sizes_agree() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("a.parquet");
    write_vectors(&path, &posts(3));
    assert!(PartReader::open_vectors(&path, SPACE).is_ok());
    let error = PartReader::open_vectors(&path, "other/mean/4/bbbb").err().expect("refused").to_string();
    for part in ["a.parquet", SPACE, "other/mean/4/bbbb"] {
        assert!(error.contains(part), "{error}");
    }
    PartWriter::posts(&path).expect("begins").finish().expect("written");
    let error = PartReader::open_vectors(&path, SPACE).err().expect("refused").to_string();
    assert!(error.contains("a.parquet is no vector part") && error.contains("bowerbird embed"), "{error}");
}

#[test]
fn nothing_is_seen_before_the_end_and_leftovers_go() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("a.parquet");
    let mut unfinished = PartWriter::posts(&path).expect("begins");
    unfinished.push(&posts(1)[0], None).expect("a row");
    let hidden = names(dir.path());
    assert!(hidden.len() == 1 && hidden[0].starts_with(".a.parquet."), "{hidden:?}");
    assert_eq!(part_files(dir.path()).expect("lists"), Vec::<PathBuf>::new());
    // What a killed writer left goes; what another one is writing, and what is of another part, stays.
    fs::write(dir.path().join(".a.parquet.killed.tmp"), "half").expect("written");
    fs::write(dir.path().join(".b.parquet.killed.tmp"), "half").expect("written");
    let second = PartWriter::posts(&path).expect("begins");
    assert_eq!(names(dir.path()).len(), 3, "{:?}", names(dir.path()));
    second.finish().expect("written");
    assert_eq!(part_info(&path).expect("good").rows, 0);
    drop(unfinished);
    assert_eq!(names(dir.path()), [".b.parquet.killed.tmp", "a.parquet"]);
    assert_eq!(file_sha256(&path).expect("read").len(), 64);
}

#[test]
fn damage_is_found_and_the_file_named() {
    let dir = tempfile::tempdir().expect("a directory");
    let (good, bad) = (dir.path().join("good.parquet"), dir.path().join("bad.parquet"));
    write_vectors(&good, &posts(300));
    let bytes = fs::read(&good).expect("read");
    let whole: Vec<_> = read(&good).into_iter().map(|row| row.expect("a row")).collect();
    let refused = |content: &[u8], what: &str| {
        fs::write(&bad, content).expect("written");
        match PartReader::open(&bad) {
            // A byte of the footer that says nothing, such as the name of the writer.
            Ok(reader) => {
                let rows: Result<Vec<_>, _> = reader.collect();
                match rows {
                    Ok(rows) => assert!(rows == whole, "{what}"),
                    Err(error) => assert!(error.to_string().contains("bad.parquet"), "{what}: {error}"),
                }
            }
            Err(error) => assert!(error.to_string().contains("bad.parquet"), "{what}: {error}"),
        }
    };
    for length in [0, 3, 4, 100, bytes.len() / 2, bytes.len() - 9, bytes.len() - 1] {
        fs::write(&bad, &bytes[..length]).expect("written");
        let error = PartReader::open(&bad).err().expect("refused").to_string();
        assert!(error.contains("bad.parquet is damaged, cut short or no Parquet"), "{length}: {error}");
    }
    for at in (0..bytes.len()).step_by(97) {
        let mut flipped = bytes.clone();
        flipped[at] ^= 0x10;
        refused(&flipped, &format!("byte {at} of {}", bytes.len()));
    }
    assert!(matches!(PartReader::open(dir.path()), Err(PartError::Io { .. })));
    assert!(matches!(PartReader::open(&dir.path().join("none.parquet")), Err(PartError::Io { .. })));
}

#[test]
fn rows_that_do_not_fit_are_not_written() {
    let dir = tempfile::tempdir().expect("a directory");
    let post = posts(1).remove(0);
    let mut writer = PartWriter::vectors(&dir.path().join("a.parquet"), &spec()).expect("begins");
    let mut check = |post: &Post, vector: &[f32], expected: &str| {
        let error = writer.push(post, Some(vector)).expect_err(expected).to_string();
        assert!(error.contains(expected) && error.contains("post-0"), "{error}");
    };
    check(&post, &[1.0, 0.0], "has 2 components, expected 4");
    check(&post, &[f32::NAN, 0.0, 0.0, 0.0], "component 0 of the vector is not finite");
    check(&post, &[2.0, 0.0, 0.0, 0.0], "has length 2.0000");
    let mut loud = post.clone();
    loud.counts.views = u64::MAX;
    check(&loud, &[1.0, 0.0, 0.0, 0.0], "a counter is 18446744073709551615");
    assert_eq!(writer.finish().expect("written").rows, 0);
}

/// A file as another program may write it.
fn foreign(path: &Path, columns: Vec<(&str, ArrayRef)>) {
    let batch = RecordBatch::try_from_iter_with_nullable(
        columns.into_iter().map(|(name, column)| (name, column, true)),
    )
    .expect("a batch");
    let mut writer = ArrowWriter::try_new(fs::File::create(path).expect("created"), batch.schema(), None)
        .expect("a writer");
    writer.write(&batch).expect("written");
    writer.close().expect("closed");
}

#[test]
fn a_part_that_another_program_wrote_again_is_read() {
    let dir = tempfile::tempdir().expect("a directory");
    let (path, copy) = (dir.path().join("a.parquet"), dir.path().join("copy.parquet"));
    write_vectors(&path, &posts(30));
    let reader =
        ParquetRecordBatchReaderBuilder::try_new(fs::File::open(&path).expect("there")).expect("opens");
    let metadata = reader.metadata().file_metadata().key_value_metadata().cloned();
    let properties = WriterProperties::builder().set_key_value_metadata(metadata).build();
    let file = fs::File::create(&copy).expect("created");
    let mut writer =
        ArrowWriter::try_new(file, Arc::clone(reader.schema()), Some(properties)).expect("a writer");
    for batch in reader.build().expect("reads") {
        writer.write(&batch.expect("a batch")).expect("written");
    }
    writer.close().expect("closed");
    assert_ne!(fs::read(&path).expect("read"), fs::read(&copy).expect("read"));
    let rows = |path| read(path).into_iter().map(|row| row.expect("a row")).collect::<Vec<_>>();
    assert_eq!(rows(&copy), rows(&path));
    assert_eq!(part_info(&copy).expect("good").vectors, Some(spec()));
}

fn strings(values: &[Option<&str>]) -> ArrayRef {
    Arc::new(StringArray::from(values.to_vec()))
}

fn times(values: &[i64]) -> ArrayRef {
    Arc::new(TimestampMillisecondArray::from(values.to_vec()).with_timezone("UTC"))
}

#[test]
fn files_of_other_writers_are_read_and_bad_rows_named() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("x.parquet");
    let mut tags = ListBuilder::new(StringBuilder::new());
    tags.append_value([Some("#News")]);
    tags.append_null();
    for entry in [Some("a"), None, None, None, None] {
        tags.append_value([entry]);
    }
    let texts = ["fine", "fine", " ", "fine", "fine", "fine", "fine"].map(Some);
    foreign(
        &path,
        vec![
            ("text", Arc::new(LargeStringArray::from(texts.to_vec()))),
            ("id", strings(&[Some("1"), Some("2"), Some("3"), Some("4"), Some(""), Some("6"), None])),
            ("created_at", times(&[0, 1, 2, 3, 4, 5, 6])),
            ("tags", Arc::new(tags.finish())),
            (
                "likes",
                Arc::new(Int32Array::from(vec![Some(7), None, Some(1), Some(1), Some(1), Some(-1), Some(1)])),
            ),
            ("attributes", strings(&[Some("{\"a\":1}"), Some(""), None, None, None, None, Some("[1]")])),
            ("author", Arc::new(NullArray::new(7))),
        ],
    );
    let rows = read(&path);
    let first = &rows[0].as_ref().expect("a row").post;
    assert_eq!((first.tags.as_slice(), first.counts.likes), (["news".to_owned()].as_slice(), 7));
    assert_eq!(first.attributes["a"], AttributeValue::Number(1.0));
    assert_eq!(rows[1].as_ref().expect("a row").post.created_at.as_millisecond(), 1);
    for (row, column, part) in [
        (2, "text", "blank"),
        (3, "tags", "null"),
        (4, "id", "0 bytes"),
        (5, "tags", "null"),
        (6, "id", "null"),
    ] {
        let error = rows[row].as_ref().expect_err("refused");
        let said = error.to_string();
        assert!(
            error.is_row() && said.contains(&format!("x.parquet, row {row}, column {column}: ")),
            "{said}"
        );
        assert!(said.contains(part), "{said}");
    }
    assert_eq!(rows.len(), 7);
}

#[test]
fn columns_that_are_none_of_a_post_are_refused_by_name() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("x.parquet");
    let (id, text) = (strings(&[Some("1")]), strings(&[Some("fine")]));
    let check = |columns: Vec<(&str, ArrayRef)>, expected: &str| {
        foreign(&path, columns);
        let error = PartReader::open(&path).err().expect(expected).to_string();
        assert!(error.contains("x.parquet: column ") && error.contains(expected), "{error}");
    };
    let local: ArrayRef = Arc::new(TimestampNanosecondArray::from(vec![0]));
    let number: ArrayRef = Arc::new(Int64Array::from(vec![1]));
    let base =
        |created_at: ArrayRef| vec![("id", id.clone()), ("text", text.clone()), ("created_at", created_at)];
    check(vec![("id", id.clone()), ("text", text.clone())], "created_at: is missing, expected a timestamp");
    check(base(local), "created_at: is Timestamp(ns), expected a timestamp in UTC");
    let mut more = base(times(&[0]));
    more.push(("karma", number.clone()));
    check(more, "karma: is unknown: drop it, or move it into attributes");
    check(
        vec![("id", number), ("text", text.clone()), ("created_at", times(&[0]))],
        "id: is Int64, expected a string",
    );
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn any_bytes_are_refused_without_a_panic(mut bytes in proptest::collection::vec(any::<u8>(), 0..400), framed: bool) {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("x.parquet");
        if framed {
            let length = u32::try_from(bytes.len()).expect("short");
            bytes.splice(..0, *b"PAR1");
            bytes.extend(length.to_le_bytes());
            bytes.extend(b"PAR1");
        }
        fs::write(&path, &bytes).expect("written");
        prop_assert!(PartReader::open(&path).is_err());
    }
}
