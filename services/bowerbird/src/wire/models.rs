//! `POST /v1/embeddings`, `/v1/rerank`, `/v2/rerank` and `/rerank`: the shapes that clients of OpenAI, of Cohere and
//! of Text Embeddings Inference speak.
//!
//! Fields beyond those shapes are optional: `input_type`, `timeout_ms` and everything named `truncated`.

use std::fmt;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use bowerbird_models_api::{Embedding, TextRole};
use serde::de::{self, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use utoipa::ToSchema;

/// Texts to embed.
#[derive(Clone, Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct EmbeddingsBody {
    /// One text, or an array of any number of texts. Arrays of token ids are refused.
    #[schema(value_type = Vec<String>)]
    pub input: Texts,
    /// Name of the embedder, as `/readyz` tells it; another is refused with 404.
    #[serde(default)]
    pub model: Option<String>,
    /// `float`, or `base64` of 32-bit little-endian floats.
    #[serde(default)]
    pub encoding_format: EncodingFormat,
    /// Components of a vector; only the model's own number is possible.
    #[serde(default)]
    pub dimensions: Option<u64>,
    /// Not used.
    #[serde(default)]
    pub user: Option<String>,
    /// `passage`, what is searched, or `query`, what a person typed: the model puts another prefix before each.
    #[serde(default)]
    pub input_type: InputType,
    /// Most time of the call in milliseconds, 1 to 600,000; `server.models_timeout` when absent.
    #[serde(default)]
    pub timeout_ms: Option<u64>,
}

/// How a vector is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum EncodingFormat {
    /// An array of numbers.
    #[default]
    Float,
    /// Base64 of 32-bit little-endian floats.
    Base64,
}

/// On which side of a search a text stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum InputType {
    /// What a person typed.
    Query,
    /// What is searched.
    #[default]
    Passage,
}

impl From<InputType> for TextRole {
    fn from(side: InputType) -> Self {
        match side {
            InputType::Query => Self::Query,
            InputType::Passage => Self::Passage,
        }
    }
}

/// One text or several.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Texts {
    /// The texts.
    pub texts: Vec<String>,
    /// Whether they came as an array.
    pub listed: bool,
}

impl<'de> Deserialize<'de> for Texts {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct OneOrMany;
        impl<'de> Visitor<'de> for OneOrMany {
            type Value = Texts;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a string or an array of strings")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Texts, E> {
                Ok(Texts { texts: vec![text.to_owned()], listed: false })
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Texts, A::Error> {
                let mut texts = Vec::new();
                while let Some(Text(text)) = items.next_element()? {
                    texts.push(text);
                }
                Ok(Texts { texts, listed: true })
            }
        }
        deserializer.deserialize_any(OneOrMany)
    }
}

/// A string, where others allow token ids.
struct Text(String);

impl<'de> Deserialize<'de> for Text {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Plain;
        impl Visitor<'_> for Plain {
            type Value = Text;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a string (token ids are not taken: send the text itself)")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Text, E> {
                Ok(Text(text.to_owned()))
            }
        }
        deserializer.deserialize_any(Plain)
    }
}

/// Vectors in the order of the input.
#[derive(Debug, Serialize, ToSchema)]
pub struct EmbeddingsPage {
    /// `list`
    pub object: &'static str,
    /// One for each text.
    pub data: Vec<EmbeddingItem>,
    /// The embedder.
    pub model: String,
    /// What was read.
    pub usage: EmbeddingsUsage,
    /// Indexes of texts longer than the model's window: their ends were not read.
    pub truncated: Vec<usize>,
}

/// The vector of one text.
#[derive(Debug, Serialize, ToSchema)]
pub struct EmbeddingItem {
    /// `embedding`
    pub object: &'static str,
    /// Place of the text in the input.
    pub index: usize,
    /// Numbers, of unit length; or base64 of their 32-bit little-endian bytes.
    #[schema(value_type = Vec<f32>)]
    pub embedding: Vector,
}

/// A vector and how to write it.
#[derive(Debug)]
pub struct Vector(pub Embedding, pub EncodingFormat);

impl Serialize for Vector {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.1 {
            EncodingFormat::Float => self.0.as_slice().serialize(serializer),
            EncodingFormat::Base64 => {
                let bytes: Vec<u8> = self.0.as_slice().iter().flat_map(|value| value.to_le_bytes()).collect();
                BASE64_STANDARD.encode(bytes).serialize(serializer)
            }
        }
    }
}

/// What a call for embeddings read.
#[derive(Clone, Copy, Debug, Serialize, ToSchema)]
pub struct EmbeddingsUsage {
    /// Tokens that went through the model, marks and prefixes included.
    pub prompt_tokens: usize,
    /// The same: nothing is generated.
    pub total_tokens: usize,
}

/// A query and documents, as version 1 of Cohere's call has them.
#[derive(Clone, Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct RerankV1Body {
    /// Name of the reranker, as `/readyz` tells it; another is refused with 404.
    #[serde(default)]
    pub model: Option<String>,
    /// What is looked for.
    pub query: String,
    /// Any number of strings or objects `{"text": …}`, whose other fields are not looked at.
    #[schema(value_type = Vec<Object>)]
    pub documents: Vec<Document>,
    /// Most results, 1 or more; all when absent.
    #[serde(default)]
    pub top_n: Option<usize>,
    /// `["text"]`, the only field that is read.
    #[serde(default)]
    pub rank_fields: Option<Vec<String>>,
    /// Whether results carry their texts.
    #[serde(default)]
    pub return_documents: bool,
    /// 1 or more. Cohere's chunk holds more than this model reads of a document, so it never binds.
    #[serde(default)]
    pub max_chunks_per_doc: Option<usize>,
    /// Most time of the call in milliseconds, 1 to 600,000; `server.models_timeout` when absent.
    #[serde(default)]
    pub timeout_ms: Option<u64>,
}

/// A query and documents, as version 2 of Cohere's call has them.
#[derive(Clone, Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct RerankV2Body {
    /// Name of the reranker, as `/readyz` tells it; another is refused with 404.
    #[serde(default)]
    pub model: Option<String>,
    /// What is looked for.
    pub query: String,
    /// Any number of texts.
    pub documents: Vec<String>,
    /// Most results, 1 or more; all when absent.
    #[serde(default)]
    pub top_n: Option<usize>,
    /// Tokens of a document that are read, 1 or more; never more than the reranker's windows hold.
    #[serde(default)]
    pub max_tokens_per_doc: Option<usize>,
    /// Not used.
    #[serde(default)]
    pub priority: Option<u64>,
    /// Most time of the call in milliseconds, 1 to 600,000; `server.models_timeout` when absent.
    #[serde(default)]
    pub timeout_ms: Option<u64>,
}

/// A text, given as a string or as `{"text": …}`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Document(pub String);

impl<'de> Deserialize<'de> for Document {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct TextOrObject;
        impl<'de> Visitor<'de> for TextOrObject {
            type Value = Document;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a string or an object with a field text")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Document, E> {
                Ok(Document(text.to_owned()))
            }

            fn visit_map<A: MapAccess<'de>>(self, mut fields: A) -> Result<Document, A::Error> {
                let mut text = None;
                while let Some(name) = fields.next_key::<String>()? {
                    if name == "text" {
                        text = Some(fields.next_value()?);
                    } else {
                        fields.next_value::<IgnoredAny>()?;
                    }
                }
                text.map(Document).ok_or_else(|| de::Error::missing_field("text"))
            }
        }
        deserializer.deserialize_any(TextOrObject)
    }
}

/// Documents by relevance, as Cohere's call answers.
#[derive(Debug, Serialize, ToSchema)]
pub struct RerankPage {
    /// Names this call in the log.
    pub id: String,
    /// Best first; equal ones by index.
    pub results: Vec<RerankResult>,
    /// What was done.
    pub meta: RerankMeta,
}

/// One document.
#[derive(Debug, Serialize, ToSchema)]
pub struct RerankResult {
    /// Its place in the request.
    pub index: usize,
    /// The logistic function of the model's output, 0 to 1: larger is more relevant, no calibrated probability.
    pub relevance_score: f32,
    /// Its text, with `return_documents`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub document: Option<RerankedText>,
}

/// The text of a document.
#[derive(Debug, Serialize, ToSchema)]
pub struct RerankedText {
    /// As it was given.
    pub text: String,
}

/// What a call did.
#[derive(Debug, Serialize, ToSchema)]
pub struct RerankMeta {
    /// Which version of the call it was.
    pub api_version: ApiVersion,
    /// What Cohere would bill.
    pub billed_units: BilledUnits,
    /// What was read.
    pub tokens: RerankTokens,
    /// What was not done as asked.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<String>,
    /// Indexes of documents of which an end was not read, in the order of the request.
    pub truncated: Vec<usize>,
}

/// A version.
#[derive(Debug, Serialize, ToSchema)]
pub struct ApiVersion {
    /// `1` or `2`
    pub version: &'static str,
}

/// What Cohere would bill.
#[derive(Debug, Serialize, ToSchema)]
pub struct BilledUnits {
    /// Hundreds of documents, begun ones included.
    pub search_units: usize,
}

/// What was read.
#[derive(Debug, Serialize, ToSchema)]
pub struct RerankTokens {
    /// Tokens that went through the model, the query once for each window.
    pub input_tokens: usize,
}

/// A query and texts, as Text Embeddings Inference has them.
#[derive(Clone, Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct TeiRerankBody {
    /// What is looked for.
    pub query: String,
    /// Any number of texts.
    pub texts: Vec<String>,
    /// Whether scores are the model's output instead of its logistic function.
    #[serde(default)]
    pub raw_scores: bool,
    /// Whether results carry their texts.
    #[serde(default)]
    pub return_text: bool,
    /// `false` refuses a query or text longer than the model reads; else its end is left out and the result says so.
    #[serde(default)]
    pub truncate: Option<bool>,
    /// `right`: it is the end that is left out.
    #[serde(default)]
    pub truncation_direction: Option<String>,
    /// Most time of the call in milliseconds, 1 to 600,000; `server.models_timeout` when absent.
    #[serde(default)]
    pub timeout_ms: Option<u64>,
}

/// One text of [`TeiRerankBody`]; the answer is an array of these, best first, equal ones by index.
#[derive(Debug, Serialize, ToSchema)]
pub struct TeiRank {
    /// Its place in the request.
    pub index: usize,
    /// 0 to 1, or the model's output with `raw_scores`.
    pub score: f32,
    /// As it was given, with `return_text`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub text: Option<String>,
    /// Present when an end of the query or the text was not read.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub truncated: bool,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::json::parse;

    #[test]
    fn input_is_one_text_or_several_and_never_tokens() {
        let input = |json: &str| parse::<EmbeddingsBody>(format!(r#"{{"input":{json}}}"#).as_bytes());
        let one = input(r#""a""#).expect("a string").input;
        assert_eq!(one, Texts { texts: vec!["a".into()], listed: false });
        let two = input(r#"["a","b\u0000"]"#).expect("strings").input;
        assert_eq!(two, Texts { texts: vec!["a".into(), "b\0".into()], listed: true });
        for (json, param, part) in [
            ("[1,2]", "input[0]", "token ids are not taken"),
            ("[\"a\",[1]]", "input[1]", "token ids are not taken"),
            ("7", "input", "a string or an array of strings"),
            ("{}", "input", "a string or an array of strings"),
            ("null", "input", "a string or an array of strings"),
        ] {
            let error = input(json).expect_err(json).body("r").error;
            assert_eq!(error.param.as_deref(), Some(param), "{json}: {}", error.message);
            assert!(error.message.contains(part), "{json}: {}", error.message);
        }
    }

    #[test]
    fn a_document_is_a_text_or_holds_one() {
        let documents = |json: &str| {
            let body = format!(r#"{{"query":"q","documents":{json}}}"#);
            parse::<RerankV1Body>(body.as_bytes()).map(|body| body.documents)
        };
        let good = documents(r#"["a",{"title":[1],"text":"b"}]"#).expect("documents");
        assert_eq!(good, [Document("a".into()), Document("b".into())]);
        for (json, param, part) in [
            (r#"["a",{"title":"b"}]"#, "documents[1]", "missing field `text`"),
            (r#"[{"text":3}]"#, "documents[0].text", "expected a string"),
            ("[3]", "documents[0]", "a string or an object with a field text"),
            ("\"a\"", "documents", "a sequence"),
        ] {
            let error = documents(json).expect_err(json).body("r").error;
            assert_eq!(error.param.as_deref(), Some(param), "{json}: {}", error.message);
            assert!(error.message.contains(part), "{json}: {}", error.message);
        }
    }

    #[test]
    fn both_forms_of_a_vector_hold_the_same_bits() {
        let embedding = Embedding::normalized(vec![3.0, -4.0, 1e-7]).expect("finite");
        let json = |format| serde_json::to_string(&Vector(embedding.clone(), format)).expect("is JSON");
        let floats: Vec<f32> = serde_json::from_str(&json(EncodingFormat::Float)).expect("numbers");
        let text: String = serde_json::from_str(&json(EncodingFormat::Base64)).expect("a string");
        let bytes = BASE64_STANDARD.decode(text).expect("base64");
        let decoded: Vec<f32> =
            bytes.chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect();
        assert_eq!((floats.as_slice(), decoded.as_slice()), (embedding.as_slice(), embedding.as_slice()));
    }
}
