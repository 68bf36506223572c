//! The fields of the index.
//!
//! | field | holds |
//! |---|---|
//! | `ordinal` | the post's ordinal: fast, and indexed for deletes |
//! | `body_en`, `body_fr`, `body_other` | the text, in exactly one of the three: frequencies, positions, lengths |
//! | `surface` | the words of the text without stemming, for prefixes: presence only |
//! | `tags`, `mentions` | the post's own lists, lower case, exact: presence only |

use tantivy::Index;
use tantivy::schema::{FAST, Field, INDEXED, IndexRecordOption, Schema, TextFieldIndexing, TextOptions};
use tantivy::tokenizer::TextAnalyzer;

use crate::analysis::FieldTokenizer;
use crate::language::Family;

/// Name of the fast field.
pub(crate) const ORDINAL: &str = "ordinal";

/// Handles of the fields; the same in every index.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Fields {
    pub ordinal: Field,
    /// In the order of [`Family::ALL`].
    pub bodies: [Field; 3],
    pub surface: Field,
    pub tags: Field,
    pub mentions: Field,
}

impl Fields {
    pub(crate) fn body(&self, family: Family) -> Field {
        self.bodies[family as usize]
    }
}

pub(crate) fn schema() -> (Schema, Fields) {
    let text = |tokenizer: &str, option: IndexRecordOption, lengths: bool| {
        let indexing = TextFieldIndexing::default();
        TextOptions::default().set_indexing_options(
            indexing.set_tokenizer(tokenizer).set_index_option(option).set_fieldnorms(lengths),
        )
    };
    let body = |tokenizer| text(tokenizer, IndexRecordOption::WithFreqsAndPositions, true);
    let presence = |tokenizer| text(tokenizer, IndexRecordOption::Basic, false);
    let mut builder = Schema::builder();
    let fields = Fields {
        ordinal: builder.add_u64_field(ORDINAL, FAST | INDEXED),
        bodies: [
            builder.add_text_field("body_en", body("english")),
            builder.add_text_field("body_fr", body("french")),
            builder.add_text_field("body_other", body("other")),
        ],
        surface: builder.add_text_field("surface", presence("surface")),
        tags: builder.add_text_field("tags", presence("raw")),
        mentions: builder.add_text_field("mentions", presence("raw")),
    };
    (builder.build(), fields)
}

/// Makes the analysis known to `index`; `raw` is tantivy's own.
pub(crate) fn register_tokenizers(index: &Index) {
    for (name, tokenizer) in [
        ("english", FieldTokenizer::Body(Family::English)),
        ("french", FieldTokenizer::Body(Family::French)),
        ("other", FieldTokenizer::Body(Family::Other)),
        ("surface", FieldTokenizer::Surface),
    ] {
        index.tokenizers().register(name, TextAnalyzer::builder(tokenizer).build());
    }
}
