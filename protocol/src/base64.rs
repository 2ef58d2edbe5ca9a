//! Base64 (RFC 4648): the alphabet for tokens, which is safe in a URL and has no padding, and the usual one for HTTP's `Basic`.

const URL: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
const USUAL: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

/// The text of `bytes` in the alphabet that is safe in a URL, without padding.
#[must_use]
pub fn url_text(bytes: &[u8]) -> String {
    text(bytes, URL)
}

/// The text of `bytes` in the usual alphabet, padded to a multiple of four characters.
#[must_use]
pub fn usual_text(bytes: &[u8]) -> String {
    let mut text = text(bytes, USUAL);
    while !text.len().is_multiple_of(4) {
        text.push('=');
    }
    text
}

/// The bytes of a text that [`url_text`] made; `None` for any other, so that a value has one text only.
#[must_use]
pub fn url_bytes(text: &str) -> Option<Vec<u8>> {
    let mut bytes = Vec::with_capacity(text.len() / 4 * 3 + 2);
    let (mut held, mut bits) = (0_u32, 0_u32);
    for char in text.bytes() {
        let value = URL.iter().position(|&known| known == char)?;
        held = held << 6 | u32::try_from(value).ok()?;
        bits += 6;
        if bits >= 8 {
            bits -= 8;
            bytes.push((held >> bits) as u8);
            held &= (1 << bits) - 1;
        }
    }
    // Left over are fewer bits than a character has, and none of them set.
    (bits < 6 && held == 0).then_some(bytes)
}

fn text(bytes: &[u8], alphabet: &[u8; 64]) -> String {
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for part in bytes.chunks(3) {
        let held = part.iter().fold(0_u32, |held, &byte| held << 8 | u32::from(byte)) << (8 * (3 - part.len()));
        for at in 0..=part.len() {
            text.push(char::from(alphabet[(held >> (18 - 6 * at) & 63) as usize]));
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_examples_of_the_standard() {
        for (plain, padded) in [
            ("", ""),
            ("f", "Zg=="),
            ("fo", "Zm8="),
            ("foo", "Zm9v"),
            ("foob", "Zm9vYg=="),
            ("fooba", "Zm9vYmE="),
            ("foobar", "Zm9vYmFy"),
        ] {
            assert_eq!(usual_text(plain.as_bytes()), padded);
            assert_eq!(url_text(plain.as_bytes()), padded.trim_end_matches('='));
            assert_eq!(url_bytes(padded.trim_end_matches('=')).as_deref(), Some(plain.as_bytes()));
        }
        assert_eq!(url_text(&[0xfb, 0xff]), "-_8");
    }

    #[test]
    fn a_value_has_one_text() {
        for wrong in ["Zg==", "Zh", "Z", "Zm9v\n", "Zm9+", "Zm9v=", "Zm9vY", "é"] {
            assert_eq!(url_bytes(wrong), None, "{wrong:?}");
        }
    }
}
