//! Words so frequent that they say nothing about a post.

/// The 33 English stop words of Lucene, which the published BM25 baselines leave out.
const ENGLISH: [&str; 33] = [
    "a", "an", "and", "are", "as", "at", "be", "but", "by", "for", "if", "in", "into", "is", "it", "no",
    "not", "of", "on", "or", "such", "that", "the", "their", "then", "there", "these", "they", "this", "to",
    "was", "will", "with",
];

/// French articles, prepositions, pronouns and forms of être and avoir; sorted.
const FRENCH: [&str; 62] = [
    "ai", "as", "au", "aux", "avec", "avez", "avons", "c", "ce", "ces", "cet", "cette", "d", "dans", "de",
    "des", "du", "elle", "elles", "en", "es", "est", "et", "eu", "il", "ils", "j", "je", "l", "la", "le",
    "les", "leur", "leurs", "m", "mais", "me", "n", "ne", "nous", "on", "ont", "ou", "où", "par", "pas",
    "pour", "qu", "que", "qui", "s", "sa", "se", "ses", "son", "sont", "sur", "t", "un", "une", "vous", "à",
];

/// Whether `word`, in lower case and with its accents, is an English stop word.
pub(crate) fn english(word: &str) -> bool {
    ENGLISH.binary_search(&word).is_ok()
}

/// Whether `word`, in lower case and with its accents, is a French stop word.
pub(crate) fn french(word: &str) -> bool {
    FRENCH.binary_search(&word).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lists_are_sorted() {
        assert!(ENGLISH.is_sorted() && FRENCH.is_sorted());
        assert!(english("the") && !english("thé") && french("où") && !french("ours"));
    }
}
