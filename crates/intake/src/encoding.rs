//! What characters the bytes of a file are: UTF-8, GB18030 or Big5.
//!
//! Owns strict decoding and the decision between the three where no mapping names one. It must
//! never guess: text that more than one encoding reads is left undecided, and a byte that none
//! reads is no character.
//!
//! In all three, commas, quotes and line ends are bytes that no other character contains (a second
//! byte is 0x30 to 0x39 or 0x40 and above), so rows are cut before they are decoded, and a
//! character that is cut off at the end of a growing file stays in a line that is not whole yet.

use std::borrow::Cow;
use std::fmt;

use encoding_rs::{BIG5, Decoder, DecoderResult, GB18030, UTF_8};

/// The encoding of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Encoding {
    /// UTF-8, with or without a byte order mark.
    Utf8,
    /// GB18030, and with it GBK and GB 2312.
    Gb18030,
    /// Big5, with the characters of Hong Kong.
    Big5,
}

impl Encoding {
    /// All of them, in the order in which they are tried.
    pub const ALL: [Encoding; 3] = [Encoding::Utf8, Encoding::Gb18030, Encoding::Big5];

    /// What a mapping calls it.
    pub const fn name(self) -> &'static str {
        match self {
            Encoding::Utf8 => "utf-8",
            Encoding::Gb18030 => "gb18030",
            Encoding::Big5 => "big5",
        }
    }

    /// The encoding that a mapping calls so.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|one| one.name() == name)
    }

    /// The text of a field, or `None` where it is not in this encoding.
    pub fn text(self, bytes: &[u8]) -> Option<Cow<'_, str>> {
        let encoding = match self {
            Encoding::Utf8 => return std::str::from_utf8(bytes).ok().map(Cow::Borrowed),
            Encoding::Gb18030 => GB18030,
            Encoding::Big5 => BIG5,
        };
        encoding.decode_without_bom_handling_and_without_replacement(bytes)
    }

    fn decoder(self) -> Decoder {
        let encoding = match self {
            Encoding::Utf8 => UTF_8,
            Encoding::Gb18030 => GB18030,
            Encoding::Big5 => BIG5,
        };
        encoding.new_decoder_without_bom_handling()
    }
}

impl fmt::Display for Encoding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Encoding::Utf8 => "UTF-8",
            Encoding::Gb18030 => "GB18030",
            Encoding::Big5 => "Big5",
        })
    }
}

/// What the bytes seen so far can be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// ASCII alone, which is the same in all of them.
    Any,
    /// This one.
    Is(Encoding),
    /// Both GB18030 and Big5 read it.
    Undecided,
    /// None reads it.
    None,
}

/// Bytes decoded at once; what is decoded is thrown away.
const SCRATCH_BYTES: usize = 16 * 1024;

/// Looks through a file, piece by piece, with all decoders that still can read it.
///
/// What is valid UTF-8 is taken for UTF-8: other text of any length is not. Every byte pair of Big5
/// is one of GB18030 too, so Big5 is never found here: only the names in a header, or a mapping,
/// can tell it. A character that is cut off by the end is no fault.
pub struct Detector {
    readers: Vec<(Encoding, Decoder)>,
    is_ascii: bool,
    /// Whether a whole character beyond ASCII was read as UTF-8.
    has_utf8: bool,
    scratch: Vec<u8>,
}

impl Default for Detector {
    fn default() -> Self {
        Self {
            readers: Encoding::ALL.map(|one| (one, one.decoder())).into(),
            is_ascii: true,
            has_utf8: false,
            scratch: vec![0; SCRATCH_BYTES],
        }
    }
}

impl Detector {
    /// Looks at the next piece.
    pub fn feed(&mut self, bytes: &[u8]) {
        // What is ASCII from the first byte on leaves no decoder in the middle of a character.
        if self.is_ascii && bytes.is_ascii() {
            return;
        }
        self.is_ascii = false;
        let scratch = &mut self.scratch;
        let mut has_more = false;
        self.readers.retain_mut(|(encoding, decoder)| {
            let more = reads(decoder, bytes, scratch);
            has_more |= *encoding == Encoding::Utf8 && more == Some(true);
            more.is_some()
        });
        self.has_utf8 |= has_more;
    }

    /// What it has seen can be this.
    pub fn verdict(&self) -> Verdict {
        if self.is_ascii {
            return Verdict::Any;
        }
        match self.readers.as_slice() {
            [] => Verdict::None,
            // The first bytes of a character alone may be anything.
            [(Encoding::Utf8, _), _, ..] if !self.has_utf8 => Verdict::Any,
            [(one, _)] | [(one @ Encoding::Utf8, _), ..] => Verdict::Is(*one),
            _ => Verdict::Undecided,
        }
    }
}

/// Whether there were characters beyond ASCII; `None` where the decoder cannot read it.
fn reads(decoder: &mut Decoder, mut bytes: &[u8], scratch: &mut [u8]) -> Option<bool> {
    let mut has_more = false;
    loop {
        let (result, read, written) =
            decoder.decode_to_utf8_without_replacement(bytes, scratch, false);
        has_more |= !scratch[..written].is_ascii();
        bytes = &bytes[read..];
        match result {
            DecoderResult::InputEmpty => return Some(has_more),
            DecoderResult::OutputFull => {}
            DecoderResult::Malformed(..) => return None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn verdict(pieces: &[&[u8]]) -> Verdict {
        let mut detector = Detector::default();
        for piece in pieces {
            detector.feed(piece);
        }
        detector.verdict()
    }

    #[test]
    fn encodings_are_told_apart_or_left_undecided() {
        let gb = |text| GB18030.encode(text).0.into_owned();
        let big5 = |text| BIG5.encode(text).0.into_owned();
        let cases: &[(&str, Vec<u8>, Verdict)] = &[
            ("nothing", Vec::new(), Verdict::Any),
            ("ascii", b"order,sku\n1,a\n".to_vec(), Verdict::Any),
            ("utf-8", "订单".into(), Verdict::Is(Encoding::Utf8)),
            // The lone 0x80 of GBK, and letters of four bytes, are not in Big5.
            (
                "gbk",
                [gb("订单"), vec![0x80]].concat(),
                Verdict::Is(Encoding::Gb18030),
            ),
            ("four bytes", gb("𠮷"), Verdict::Is(Encoding::Gb18030)),
            // Second bytes of GB 2312 are also such of Big5, and the other way round.
            ("gb 2312", gb("中文"), Verdict::Undecided),
            ("big5", big5("訂單編號"), Verdict::Undecided),
            ("big5 only", vec![0xa1, 0x40, 0xff], Verdict::None),
            ("utf-16", b"\xff\xfeo\0".to_vec(), Verdict::None),
            ("latin-1", b"caf\xe9\n".to_vec(), Verdict::None),
        ];
        for (name, bytes, expect) in cases {
            assert_eq!(verdict(&[bytes]), *expect, "{name}");
            let single: Vec<&[u8]> = bytes.chunks(1).collect();
            assert_eq!(verdict(&single), *expect, "{name}, byte by byte");
        }
    }

    #[test]
    fn a_character_cut_by_the_end_is_no_fault() {
        let utf8 = "订单".as_bytes();
        assert_eq!(verdict(&[&utf8[..4]]), Verdict::Is(Encoding::Utf8));
        assert_eq!(verdict(&[&utf8[..2]]), Verdict::Any);
        assert_eq!(
            verdict(&[&utf8[..4], &utf8[4..]]),
            Verdict::Is(Encoding::Utf8)
        );
        // The rest of it never came: a line end stands in its place.
        assert_ne!(verdict(&[&utf8[..4], b"\n"]), Verdict::Is(Encoding::Utf8));
    }

    #[test]
    fn text_is_read_whole_or_not_at_all() {
        for (encoding, text) in [
            (Encoding::Utf8, "已付款"),
            (Encoding::Gb18030, "已付款 €𠮷"),
            (Encoding::Big5, "已付款"),
        ] {
            let codec = match encoding {
                Encoding::Utf8 => UTF_8,
                Encoding::Gb18030 => GB18030,
                Encoding::Big5 => BIG5,
            };
            let (bytes, _, unmappable) = codec.encode(text);
            assert!(!unmappable);
            assert_eq!(encoding.text(&bytes).as_deref(), Some(text));
            assert_eq!(encoding.text(&bytes[..bytes.len() - 1]), None);
            assert_eq!(Encoding::from_name(encoding.name()), Some(encoding));
        }
    }
}
