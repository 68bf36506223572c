//! Classes of characters, and the folding of case, accents and compatibility forms.

use unicode_normalization::UnicodeNormalization;
use unicode_normalization::char::is_combining_mark;

/// Lower case, without accents, compatibility forms replaced: `Café` and `ＣＡＦＥ` become `cafe`.
pub(crate) fn fold(text: &str) -> String {
    if text.is_ascii() {
        return text.to_ascii_lowercase();
    }
    let mut folded = String::with_capacity(text.len());
    for c in text.nfkd() {
        match c {
            // Marks of Latin, Greek and Cyrillic letters; vowel signs of other scripts stay.
            '\u{300}'..='\u{36f}' => {}
            'ß' | 'ẞ' => folded.push_str("ss"),
            'æ' | 'Æ' => folded.push_str("ae"),
            'œ' | 'Œ' => folded.push_str("oe"),
            'ø' | 'Ø' => folded.push('o'),
            'ł' | 'Ł' => folded.push('l'),
            'đ' | 'Đ' | 'ð' | 'Ð' => folded.push('d'),
            'þ' | 'Þ' => folded.push_str("th"),
            'ı' => folded.push('i'),
            'ς' => folded.push('σ'),
            c => folded.extend(c.to_lowercase()),
        }
    }
    // Decomposition also takes Hangul and kana apart; this puts them together again.
    folded.nfc().collect()
}

/// A character that can be in a word.
pub(crate) fn is_word(c: char) -> bool {
    c.is_alphanumeric() || (!c.is_ascii() && is_combining_mark(c))
}

/// `'` and the characters that are typed for it.
pub(crate) fn is_apostrophe(c: char) -> bool {
    matches!(c, '\'' | '’' | 'ʼ' | '＇' | '‘')
}

/// A letter of a script written without spaces between words, or in which words take endings without a list of
/// stems at hand (Hangul): such text is indexed by pairs of characters.
pub(crate) fn is_unspaced(c: char) -> bool {
    matches!(u32::from(c),
        0x0e00..=0x0eff | 0x1000..=0x109f | 0x1780..=0x17ff   // Thai, Lao, Myanmar, Khmer
        | 0x1100..=0x11ff | 0x3130..=0x318f | 0xac00..=0xd7a3 // Hangul
        | 0x3005..=0x3007 | 0x3040..=0x30ff | 0x31f0..=0x31ff | 0xff66..=0xff9f // kana
        | 0x3400..=0x4dbf | 0x4e00..=0x9fff | 0xf900..=0xfaff | 0x2_0000..=0x3_ffff // Han
    ) && is_word(c)
}

/// A character that starts an emoji or another pictograph.
pub(crate) fn is_emoji(c: char) -> bool {
    matches!(u32::from(c),
        0x1_f000..=0x1_f0ff | 0x1_f170..=0x1_f19a | 0x1_f1e6..=0x1_f3fa | 0x1_f400..=0x1_faff
        | 0x2600..=0x27bf | 0x2b05..=0x2b07 | 0x2b1b..=0x2b1c | 0x2b50 | 0x2b55
        | 0x231a..=0x231b | 0x23e9..=0x23fa | 0x2934..=0x2935 | 0x203c | 0x2049
    )
}

/// One half of a flag.
pub(crate) fn is_regional(c: char) -> bool {
    matches!(u32::from(c), 0x1_f1e6..=0x1_f1ff)
}

/// What changes how an emoji looks but not what it is: presentation and skin tone.
pub(crate) fn is_emoji_variation(c: char) -> bool {
    matches!(u32::from(c), 0xfe0e | 0xfe0f | 0x20e3 | 0x1_f3fb..=0x1_f3ff)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn case_accents_and_forms_are_folded() {
        for (text, expected) in [
            ("PLAIN", "plain"),
            ("Café", "cafe"),
            ("Cafe\u{301}", "cafe"),
            ("ＣＡＦＥ", "cafe"),
            ("Straße", "strasse"),
            ("Œuvre", "oeuvre"),
            ("İstanbul", "istanbul"),
            ("ΟΔΟΣ", "οδοσ"),
            ("한국", "한국"),
            ("がん", "がん"),
            ("ﬁt", "fit"),
        ] {
            assert_eq!(fold(text), expected, "{text}");
        }
        assert_eq!(fold("οδος"), fold("ΟΔΟΣ"));
        assert_eq!(fold("हिन्दी"), "हिन्दी".nfc().collect::<String>());
    }
}
