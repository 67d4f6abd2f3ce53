//! Which characters can be seen.

/// Characters that leave no trace on paper, from the Unicode Character Database: `Default_Ignorable_Code_Point`, the
/// general category `Cf` without those that have a glyph (Arabic, Syriac and Kaithi number signs), and the blank
/// Braille pattern. White space is not here: [`char::is_whitespace`] knows it.
const TRACELESS: &[(char, char)] = &[
    ('\u{ad}', '\u{ad}'),
    ('\u{34f}', '\u{34f}'),
    ('\u{61c}', '\u{61c}'),
    ('\u{115f}', '\u{1160}'),
    ('\u{17b4}', '\u{17b5}'),
    ('\u{180b}', '\u{180f}'),
    ('\u{200b}', '\u{200f}'),
    ('\u{202a}', '\u{202e}'),
    ('\u{2060}', '\u{206f}'),
    ('\u{2800}', '\u{2800}'),
    ('\u{3164}', '\u{3164}'),
    ('\u{fe00}', '\u{fe0f}'),
    ('\u{feff}', '\u{feff}'),
    ('\u{ffa0}', '\u{ffa0}'),
    ('\u{fff0}', '\u{fffb}'),
    ('\u{13430}', '\u{1345f}'),
    ('\u{1bca0}', '\u{1bca3}'),
    ('\u{1d173}', '\u{1d17a}'),
    ('\u{e0000}', '\u{e0fff}'),
];

/// False for white space, control characters and what is never seen.
pub(crate) fn is_visible(c: char) -> bool {
    !c.is_whitespace() && !c.is_control() && !is_traceless(c)
}

fn is_traceless(c: char) -> bool {
    TRACELESS
        .iter()
        .any(|(first, last)| (*first..=*last).contains(&c))
}

/// The text without the white space around it. A zero-width space, a word joiner or a byte order mark there is an
/// accident too; other characters without a trace may belong to the last letter of a name.
pub(crate) fn trimmed(text: &str) -> &str {
    let is_margin =
        |c: char| c.is_whitespace() || ['\u{200b}', '\u{2060}', '\u{feff}'].contains(&c);
    text.trim_matches(is_margin)
}
