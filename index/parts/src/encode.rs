//! Posts and vectors as columns.

use std::sync::Arc;

use arrow_array::builder::{
    FixedSizeBinaryBuilder, FixedSizeListBuilder, Float32Builder, Int64Builder, ListBuilder, StringBuilder,
    TimestampMicrosecondBuilder,
};
use arrow_array::{ArrayRef, RecordBatch};
use arrow_schema::{ArrowError, SchemaRef};
use bowerbird_posts::Post;
use sha2::{Digest, Sha256};

use crate::format::{DIGEST_BYTES, text_element, vector_element};

/// Rows that wait to be written as one batch.
pub(crate) struct Rows {
    schema: SchemaRef,
    number: usize,
    /// Bytes of text in them, roughly.
    bytes: usize,
    id: StringBuilder,
    text: StringBuilder,
    author: StringBuilder,
    created_at: TimestampMicrosecondBuilder,
    lang: StringBuilder,
    tags: ListBuilder<StringBuilder>,
    mentions: ListBuilder<StringBuilder>,
    links: ListBuilder<StringBuilder>,
    reply_to: StringBuilder,
    /// Likes, reposts, replies, views.
    counts: [Int64Builder; 4],
    attributes: StringBuilder,
    vectors: Option<Vectors>,
}

struct Vectors {
    dim: usize,
    digest: FixedSizeBinaryBuilder,
    vector: FixedSizeListBuilder<Float32Builder>,
}

impl Rows {
    /// No rows; `dim` components a vector, none for a posts part.
    pub fn new(schema: SchemaRef, dim: Option<i32>) -> Self {
        let texts = || ListBuilder::new(StringBuilder::new()).with_field(text_element());
        Self {
            schema,
            number: 0,
            bytes: 0,
            id: StringBuilder::new(),
            text: StringBuilder::new(),
            author: StringBuilder::new(),
            created_at: TimestampMicrosecondBuilder::new().with_timezone("UTC"),
            lang: StringBuilder::new(),
            tags: texts(),
            mentions: texts(),
            links: texts(),
            reply_to: StringBuilder::new(),
            counts: Default::default(),
            attributes: StringBuilder::new(),
            vectors: dim.map(|dim| Vectors {
                dim: dim as usize,
                digest: FixedSizeBinaryBuilder::new(DIGEST_BYTES),
                vector: FixedSizeListBuilder::new(Float32Builder::new(), dim).with_field(vector_element()),
            }),
        }
    }

    pub fn len(&self) -> usize {
        self.number
    }

    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Adds a row. Fails with what is wrong with it, and adds nothing then.
    pub fn push(&mut self, post: &Post, vector: Option<&[f32]>) -> Result<(), String> {
        let counts = [post.counts.likes, post.counts.reposts, post.counts.replies, post.counts.views];
        let mut signed = [0; 4];
        for (to, count) in signed.iter_mut().zip(counts) {
            *to = i64::try_from(count)
                .map_err(|_| format!("a counter is {count}, the largest a part holds is {}", i64::MAX))?;
        }
        let attributes = if post.attributes.is_empty() {
            None
        } else {
            Some(serde_json::to_string(&post.attributes).map_err(|error| error.to_string())?)
        };
        match (&self.vectors, vector) {
            (Some(vectors), Some(vector)) => check_vector(vector, vectors.dim)?,
            (None, Some(_)) => return Err("a posts part holds no vectors".to_owned()),
            (_, None) => {}
        }
        self.id.append_value(post.id.as_str());
        self.text.append_value(&post.text);
        self.author.append_value(&post.author);
        self.created_at.append_value(post.created_at.as_microsecond());
        self.lang.append_option(post.lang.as_deref());
        for (list, values) in [
            (&mut self.tags, &post.tags),
            (&mut self.mentions, &post.mentions),
            (&mut self.links, &post.links),
        ] {
            list.append_value(values.iter().map(Some));
            self.bytes += values.iter().map(String::len).sum::<usize>();
        }
        self.reply_to.append_option(post.reply_to.as_ref().map(bowerbird_posts::PostId::as_str));
        for (column, count) in self.counts.iter_mut().zip(signed) {
            column.append_value(count);
        }
        self.bytes += post.text.len() + attributes.as_ref().map_or(0, String::len) + 256;
        self.attributes.append_option(attributes);
        if let Some(vectors) = &mut self.vectors {
            vectors.push(&post.text, vector).map_err(|error| error.to_string())?;
            self.bytes += vectors.dim * size_of::<f32>();
        }
        self.number += 1;
        Ok(())
    }

    /// The rows so far; none are left.
    pub fn take(&mut self) -> Result<RecordBatch, ArrowError> {
        let [likes, reposts, replies, views] = &mut self.counts;
        let mut columns: Vec<ArrayRef> = vec![
            Arc::new(self.id.finish()),
            Arc::new(self.text.finish()),
            Arc::new(self.author.finish()),
            Arc::new(self.created_at.finish()),
            Arc::new(self.lang.finish()),
            Arc::new(self.tags.finish()),
            Arc::new(self.mentions.finish()),
            Arc::new(self.links.finish()),
            Arc::new(self.reply_to.finish()),
            Arc::new(likes.finish()),
            Arc::new(reposts.finish()),
            Arc::new(replies.finish()),
            Arc::new(views.finish()),
            Arc::new(self.attributes.finish()),
        ];
        if let Some(vectors) = &mut self.vectors {
            columns.push(Arc::new(vectors.digest.finish()));
            columns.push(Arc::new(vectors.vector.finish()));
        }
        (self.number, self.bytes) = (0, 0);
        RecordBatch::try_new(Arc::clone(&self.schema), columns)
    }
}

impl Vectors {
    fn push(&mut self, text: &str, vector: Option<&[f32]>) -> Result<(), ArrowError> {
        self.digest.append_value(Sha256::digest(text.as_bytes()))?;
        let values = self.vector.values();
        match vector {
            Some(vector) => values.append_slice(vector),
            // A list of fixed size has its place also where it is null.
            None => values.append_value_n(0.0, self.dim),
        }
        self.vector.append(vector.is_some());
        Ok(())
    }
}

/// Refuses a vector of another length, with a component that is not finite, or that is not of unit length within
/// 0.001.
pub(crate) fn check_vector(vector: &[f32], dim: usize) -> Result<(), String> {
    if vector.len() != dim {
        return Err(format!("the vector has {} components, expected {dim}", vector.len()));
    }
    if let Some(at) = vector.iter().position(|value| !value.is_finite()) {
        return Err(format!("component {at} of the vector is not finite"));
    }
    let length = vector.iter().map(|value| f64::from(*value) * f64::from(*value)).sum::<f64>().sqrt();
    if (length - 1.0).abs() > 1e-3 {
        return Err(format!("the vector has length {length:.4}, expected 1: scale it"));
    }
    Ok(())
}
