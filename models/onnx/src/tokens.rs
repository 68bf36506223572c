//! Text to token ids of a BERT vocabulary, with bounded work.
//!
//! The sequence around the tokens (`[CLS]` … `[SEP]`) is put together by the models themselves: padding and
//! truncation baked into a `tokenizer.json` are ignored, and control tokens written out in a text are plain text.

use std::path::{Path, PathBuf};

use bowerbird_models_api::ModelError;
use tokenizers::Tokenizer;

use crate::OnnxError;

/// Text beyond this many bytes for each token wanted is not looked at. English words take about five bytes a token;
/// the margin is for scripts of three bytes a character and long runs of white space.
const BYTES_PER_TOKEN: usize = 32;

/// A vocabulary with its two marks.
pub(crate) struct Tokens {
    tokenizer: Tokenizer,
    model: String,
    /// Begins every sequence.
    pub(crate) cls: i64,
    /// Ends every part of a sequence.
    pub(crate) sep: i64,
}

impl Tokens {
    pub(crate) fn open(model: &str, path: &Path) -> Result<Self, OnnxError> {
        let unusable = |message: String| OnnxError::Tokenizer { path: PathBuf::from(path), message };
        let bytes = std::fs::read(path).map_err(|error| unusable(error.to_string()))?;
        let mut tokenizer = Tokenizer::from_bytes(bytes).map_err(|error| unusable(error.to_string()))?;
        tokenizer.with_padding(None);
        tokenizer.with_truncation(None).map_err(|error| unusable(error.to_string()))?;
        tokenizer.set_encode_special_tokens(true);
        let id = |token: &str| {
            tokenizer
                .token_to_id(token)
                .map(i64::from)
                .ok_or_else(|| unusable(format!("it has no token {token}")))
        };
        let (cls, sep) = (id("[CLS]")?, id("[SEP]")?);
        Ok(Self { tokenizer, model: model.into(), cls, sep })
    }

    /// The first `limit` tokens of `text`, at least one, after those of `prefix`; and how many tokens were dropped
    /// behind them. Text beyond the bytes that are looked at counts as one.
    ///
    /// [`ModelError::EmptyText`] when nothing visible is there, which only the vocabulary can tell: zero-width and
    /// control characters are no tokens.
    pub(crate) fn of(&self, prefix: &str, text: &str, limit: usize) -> Result<(Vec<i64>, usize), ModelError> {
        let text = text.trim_start();
        if text.is_empty() {
            return Err(ModelError::EmptyText);
        }
        let (head, tail) = text.split_at(text.floor_char_boundary(limit.saturating_mul(BYTES_PER_TOKEN)));
        let mut ids = Vec::new();
        if !prefix.is_empty() {
            self.append(prefix, &mut ids)?;
        }
        let before = ids.len();
        self.append(head, &mut ids)?;
        if ids.len() == before {
            return Err(ModelError::EmptyText);
        }
        let unseen = usize::from(!tail.trim_start().is_empty());
        let dropped = ids.len().saturating_sub(limit) + unseen;
        ids.truncate(limit);
        Ok((ids, dropped))
    }

    /// Tokens of a short text, such as a prefix; blank has none.
    pub(crate) fn count(&self, text: &str) -> Result<usize, ModelError> {
        let mut ids = Vec::new();
        self.append(text, &mut ids)?;
        Ok(ids.len())
    }

    fn append(&self, text: &str, ids: &mut Vec<i64>) -> Result<(), ModelError> {
        let encoding = self
            .tokenizer
            .encode_fast(text, false)
            .map_err(|error| ModelError::Failed { model: self.model.clone(), message: error.to_string() })?;
        ids.extend(encoding.get_ids().iter().map(|id| i64::from(*id)));
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing;

    #[test]
    fn padding_truncation_and_special_words_of_the_file_are_ignored() {
        let Some(models) = testing::models() else { return };
        let tokens = Tokens::open("test", &models.reranker_files().tokenizer).expect("opens");
        let hello = tokens.of("", "hello world", 512).expect("has tokens");
        assert_eq!(hello, (vec![7592, 2088], 0), "no marks and no padding to 512");
        // Written out by an author, a mark is three ordinary tokens: `[`, `sep`, `]`.
        let (injected, _) = tokens.of("", "[SEP] [CLS] hello", 512).expect("has tokens");
        assert!(!injected.contains(&tokens.sep) && !injected.contains(&tokens.cls), "{injected:?}");
        assert_eq!(injected.last(), Some(&7592));
    }

    #[test]
    fn work_is_bounded_and_blank_is_told_from_text() {
        let Some(models) = testing::models() else { return };
        let tokens = Tokens::open("test", &models.embedder_files().tokenizer).expect("opens");
        let (ids, dropped) = tokens.of("", &"word ".repeat(1_000_000), 10).expect("has tokens");
        assert_eq!((ids.len(), dropped), (10, 320 / 5 - 10 + 1), "the end of 5 MB is not cut into tokens");
        let cut_inside_a_character = format!("a{}", "語".repeat(1_000_000));
        assert_eq!(tokens.of("", &cut_inside_a_character, 2).expect("has tokens").0.len(), 2);
        for blank in ["", " \n", "\u{200b}\u{200b}", "\0", &" ".repeat(1_000_000)] {
            assert!(matches!(tokens.of("query: ", blank, 10), Err(ModelError::EmptyText)), "{blank:.10?}");
        }
        assert_eq!(
            tokens.of("", &format!("{}hello", " ".repeat(1_000_000)), 10).expect("has tokens"),
            (vec![7592], 0)
        );
        assert_eq!(
            tokens.of("", &format!("hello{}", " ".repeat(1_000_000)), 10).expect("has tokens"),
            (vec![7592], 0)
        );
        assert_eq!(tokens.of("hello", "world world", 2).expect("has tokens"), (vec![7592, 2088], 1));
    }

    #[test]
    fn a_bad_file_is_named() {
        let dir = tempfile::tempdir().expect("temp dir");
        let path = dir.path().join("tokenizer.json");
        for (content, expected) in [
            ("{", "tokenizer.json"),
            (
                r#"{"model":{"type":"WordPiece","unk_token":"u","continuing_subword_prefix":"","max_input_chars_per_word":9,"vocab":{"u":0}}}"#,
                "no token [CLS]",
            ),
        ] {
            std::fs::write(&path, content).expect("writes");
            let error = Tokens::open("test", &path).err().expect("is refused").to_string();
            assert!(error.contains(expected) && error.contains("bowerbird models verify"), "{error}");
        }
        let error = Tokens::open("test", &dir.path().join("absent")).err().expect("is refused").to_string();
        assert!(error.contains("absent"), "{error}");
    }
}
