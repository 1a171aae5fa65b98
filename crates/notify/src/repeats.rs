//! Whether a text repeats a secret, in whatever form a receiver may quote what it was sent.
//!
//! The text is brought into one form (letters and digits alone, in lower case) before it is compared:
//! what is invisible, and what separates, hides nothing. What is encoded in it is decoded first. Any
//! eight letters or digits in a row that are also in the secret count. It must never show anything
//! of either.

use std::collections::BTreeSet;

use base64::Engine as _;
use base64::alphabet;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};

/// So many letters or digits in a row are looked for; of a shorter secret, all of it.
const RUN: usize = 8;
/// A secret with fewer is found in innocent text too, and is not looked for.
const RUN_MIN: usize = 6;
/// An encoding within an encoding is looked through.
const DEPTH: usize = 2;
/// What every key of Standard Webhooks begins with; the key itself is in base64 behind it.
const WEBHOOK_KEY: &str = "whsec_";

const BASE64: GeneralPurpose = GeneralPurpose::new(
    &alphabet::STANDARD,
    GeneralPurposeConfig::new()
        .with_decode_padding_mode(DecodePaddingMode::Indifferent)
        .with_decode_allow_trailing_bits(true),
);

/// Whether a text repeats a part of a secret.
pub fn repeats(secret: &str, text: &str) -> bool {
    let runs = Runs::of(secret);
    let mut texts = BTreeSet::from([text.as_bytes().to_vec()]);
    for depth in 0..=DEPTH {
        if texts.iter().any(|text| runs.are_in(text)) {
            return true;
        }
        if depth < DEPTH {
            let mut decoded: BTreeSet<Vec<u8>> =
                texts.iter().flat_map(|text| decodings(text)).collect();
            // Few quote so, and nobody within something else.
            if depth == 0 {
                decoded.extend(spelled(text));
                decoded.extend(base32(text));
            }
            texts = decoded;
        }
    }
    false
}

/// What is looked for.
#[derive(Default)]
struct Runs {
    /// In the form in which texts are compared.
    plain: Vec<Vec<u8>>,
    /// Of a key that is no text.
    bytes: Vec<Vec<u8>>,
}

impl Runs {
    fn of(secret: &str) -> Self {
        let mut runs = Self::default();
        match url::Url::parse(secret) {
            Ok(url) if url.has_host() => {
                // Scheme and host are no secret.
                let path = url.path().split('/');
                let query = url.query().unwrap_or_default().split(['&', '=']);
                let user = [url.username(), url.password().unwrap_or_default()];
                let parts: Vec<&str> = path.chain(query).chain(user).collect();
                runs.add_parts(&parts);
            }
            _ => runs.add(secret.as_bytes(), &[]),
        }
        if let Some(key) = secret.strip_prefix(WEBHOOK_KEY)
            && let Ok(key) = BASE64.decode(key)
        {
            runs.add(&key, &[]);
            if key.len() >= RUN_MIN {
                let runs_of = key.windows(key.len().min(RUN));
                runs.bytes.extend(runs_of.map(<[u8]>::to_vec));
            }
        }
        runs.plain.sort_unstable();
        runs.plain.dedup();
        runs.bytes.sort_unstable();
        runs
    }

    /// The parts of an address, one behind the other. A part that is a word, such as `services`, is
    /// no secret by itself.
    fn add_parts(&mut self, parts: &[&str]) {
        let (mut whole, mut is_word) = (Vec::new(), Vec::new());
        for part in parts {
            let part = percent(part.as_bytes()).unwrap_or_else(|| part.as_bytes().to_vec());
            let word = part.iter().all(u8::is_ascii_lowercase) && part.len() < 2 * RUN;
            let plain = normal(&part);
            is_word.extend(plain.iter().map(|_| word));
            whole.extend(part);
        }
        self.add(&whole, &is_word);
    }

    fn add(&mut self, secret: &[u8], is_word: &[bool]) {
        let plain = normal(secret);
        if plain.len() < RUN_MIN {
            return;
        }
        let length = plain.len().min(RUN);
        for (at, run) in plain.windows(length).enumerate() {
            let words = is_word.get(at..at + length).unwrap_or_default();
            if words.is_empty() || words.contains(&false) {
                self.plain.push(run.to_vec());
                self.plain.push(run.iter().rev().copied().collect());
            }
        }
    }

    fn are_in(&self, text: &[u8]) -> bool {
        let has = |runs: &[Vec<u8>], text: &[u8]| {
            let is_one = |run: &[u8]| runs.binary_search_by(|one| one.as_slice().cmp(run)).is_ok();
            (RUN_MIN..=RUN).any(|length| text.windows(length).any(is_one))
        };
        has(&self.bytes, text) || has(&self.plain, &normal(text))
    }
}

/// ASCII letters and digits alone, in lower case; what is drawn like them at full width is one.
fn normal(text: &[u8]) -> Vec<u8> {
    let text = String::from_utf8_lossy(text);
    let narrow = text.chars().filter_map(narrow);
    narrow
        .filter(u8::is_ascii_alphanumeric)
        .map(|byte| byte.to_ascii_lowercase())
        .collect()
}

/// The ASCII character that a character is, or is drawn like.
fn narrow(c: char) -> Option<u8> {
    let code = match u32::from(c) {
        wide @ 0xff01..=0xff5e => wide - 0xfee0,
        code => code,
    };
    u8::try_from(code).ok().filter(u8::is_ascii)
}

/// What a text may be when it is decoded, in all ways that give anything.
fn decodings(text: &[u8]) -> Vec<Vec<u8>> {
    let visible = String::from_utf8_lossy(text);
    let visible: Vec<u8> = visible.chars().filter_map(narrow).collect();
    let visible: Vec<u8> = visible.into_iter().filter(u8::is_ascii_graphic).collect();
    let mut found: Vec<Vec<u8>> = [percent(&visible), numbers(&visible)]
        .into_iter()
        .flatten()
        .collect();
    let is_kept =
        |byte: &&u8| matches!(**byte, b'+' | b'/' | b'-' | b'_') || byte.is_ascii_alphanumeric();
    let url = |byte: u8| match byte {
        b'-' => b'+',
        b'_' => b'/',
        byte => byte,
    };
    // Words before and behind shift what is encoded: it may begin at any letter of four.
    for piece in visible.split(|byte| !is_kept(&byte)).chain([&visible[..]]) {
        let letters: Vec<u8> = piece
            .iter()
            .filter(is_kept)
            .map(|byte| url(*byte))
            .collect();
        for skipped in 0..letters.len().min(4) {
            let letters = &letters[skipped..];
            let whole = &letters[..letters.len() - usize::from(letters.len() % 4 == 1)];
            found.extend(BASE64.decode(whole));
        }
    }
    let digits: Vec<u8> = visible
        .iter()
        .copied()
        .filter(u8::is_ascii_hexdigit)
        .collect();
    for digits in [digits.as_slice(), digits.get(1..).unwrap_or_default()] {
        let pairs = digits.as_chunks::<2>().0.iter();
        found.push(
            pairs
                .filter_map(|pair| hexadecimal(pair))
                .map(|code| code as u8)
                .collect(),
        );
    }
    found.retain(|one| one.len() >= RUN_MIN);
    found
}

/// What a text may be where its bytes are spelled out as numbers: decimal ones as of an array, or octal,
/// whatever stands between them, or of three digits each and nothing between them.
fn spelled(text: &str) -> Vec<Vec<u8>> {
    let numbers: Vec<&str> = text
        .split(|c: char| !c.is_ascii_digit())
        .filter(|digits| !digits.is_empty())
        .collect();
    let byte = |digits: &str, radix| u8::from_str_radix(digits, radix).ok();
    let mut found: Vec<Vec<u8>> = [10, 8]
        .map(|radix| {
            let bytes = numbers.iter().filter_map(|digits| byte(digits, radix));
            bytes.collect()
        })
        .into();
    for digits in numbers {
        for skipped in 0..3.min(digits.len()) {
            let (threes, _) = digits.as_bytes()[skipped..].as_chunks::<3>();
            let threes = threes
                .iter()
                .filter_map(|three| std::str::from_utf8(three).ok());
            found.push(threes.filter_map(|three| byte(three, 10)).collect());
        }
    }
    found.retain(|one| one.len() >= RUN_MIN);
    found
}

/// What a text may be when it is decoded as base32, wherever that begins.
fn base32(text: &str) -> Vec<Vec<u8>> {
    let value = |c: char| match narrow(c)?.to_ascii_uppercase() {
        letter @ b'A'..=b'Z' => Some(letter - b'A'),
        digit @ b'2'..=b'7' => Some(digit - b'2' + 26),
        _ => None,
    };
    let mut found = Vec::new();
    let pieces = text.split(|c: char| value(c).is_none());
    for piece in pieces.chain([text]) {
        let values: Vec<u8> = piece.chars().filter_map(value).collect();
        for skipped in 0..values.len().min(8) {
            let (mut bytes, mut bits, mut held) = (Vec::new(), 0_u32, 0);
            for value in &values[skipped..] {
                bits = bits << 5 & 0xffff | u32::from(*value);
                held += 5;
                if held >= 8 {
                    held -= 8;
                    bytes.push((bits >> held) as u8);
                }
            }
            found.push(bytes);
        }
    }
    found.retain(|one| one.len() >= RUN_MIN);
    found
}

fn hexadecimal(digits: &[u8]) -> Option<u32> {
    u32::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()
}

/// With `%41` decoded, where there is any.
fn percent(text: &[u8]) -> Option<Vec<u8>> {
    replaced(text, |rest| {
        let digits = rest.strip_prefix(b"%")?.get(..2)?;
        Some((hexadecimal(digits)?, 3))
    })
}

/// With `\u0041`, `\x41`, `&#65;` and `&#x41;` decoded, where there is any.
fn numbers(text: &[u8]) -> Option<Vec<u8>> {
    replaced(text, |rest| {
        for (begin, digits) in [(&b"\\u"[..], 4), (b"\\x", 2), (b"\\U", 4), (b"\\X", 2)] {
            if let Some(rest) = rest.strip_prefix(begin) {
                return Some((hexadecimal(rest.get(..digits)?)?, begin.len() + digits));
            }
        }
        let number = rest.strip_prefix(b"&#")?;
        let (radix, begin) = match number.first()? {
            b'x' | b'X' => (16, 3),
            _ => (10, 2),
        };
        let digits = rest[begin..].iter().take(8);
        let digits = digits.take_while(|digit| digit.is_ascii_hexdigit()).count();
        let number = std::str::from_utf8(&rest[begin..begin + digits]).ok()?;
        let ends = usize::from(rest.get(begin + digits) == Some(&b';'));
        Some((
            u32::from_str_radix(number, radix).ok()?,
            begin + digits + ends,
        ))
    })
}

/// With every place replaced where `decode` gives a character and the bytes that it took.
fn replaced(text: &[u8], decode: impl Fn(&[u8]) -> Option<(u32, usize)>) -> Option<Vec<u8>> {
    let (mut out, mut at, mut is_any) = (Vec::new(), 0, false);
    while let Some(byte) = text.get(at) {
        match decode(&text[at..]) {
            Some((code, length)) => {
                // Of a wider character the low byte: it is no letter of a secret either way.
                out.push(code as u8);
                (at, is_any) = (at + length, true);
            }
            None => {
                out.push(*byte);
                at += 1;
            }
        }
    }
    is_any.then_some(out)
}

#[cfg(test)]
mod tests {
    use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};

    use super::*;

    fn hex(text: &[u8]) -> String {
        text.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    fn each(text: &str, form: impl Fn(u32) -> String) -> String {
        text.chars().map(|c| form(u32::from(c))).collect()
    }

    /// In base32, as RFC 4648 says, without padding.
    fn in_base32(bytes: &[u8]) -> String {
        let bits: String = bytes.iter().map(|byte| format!("{byte:08b}")).collect();
        let letters = bits.as_bytes().chunks(5).map(|five| {
            let text = format!("{:0<5}", std::str::from_utf8(five).unwrap());
            let value = usize::from_str_radix(&text, 2).unwrap();
            char::from(b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567"[value])
        });
        letters.collect()
    }

    #[test]
    fn base32_is_that_of_the_standard() {
        assert_eq!(in_base32(b"foobar"), "MZXW6YTBOI");
        assert!(base32("MZXW6YTBOI").contains(&b"foobar".to_vec()));
    }

    /// A text in the forms in which receivers were seen to quote, and in some that nobody did.
    fn forms(text: &str) -> Vec<(&'static str, String)> {
        let spaced = |between: &str| {
            let chars: Vec<String> = text.chars().map(String::from).collect();
            chars.join(between)
        };
        let third = text.len() / 3;
        vec![
            ("plain", text.to_owned()),
            ("upper", text.to_uppercase()),
            ("lower", text.to_lowercase()),
            ("without its first letter", text[1..].to_owned()),
            ("first two thirds", text[..text.len() - third].to_owned()),
            ("last two thirds", text[third..].to_owned()),
            ("last nine", text[text.len() - 9..].to_owned()),
            ("reversed", text.chars().rev().collect()),
            ("zero width", spaced("\u{200b}")),
            ("soft hyphens", spaced("\u{ad}")),
            ("spaces", spaced(" ")),
            ("lines", spaced("\n")),
            ("dots", spaced(".")),
            (
                "full width",
                each(text, |c| char::from_u32(c + 0xfee0).unwrap().to_string()),
            ),
            ("percent", each(text, |c| format!("%{c:02x}"))),
            ("percent, upper", each(text, |c| format!("%{c:02X}"))),
            (
                "percent, now and then",
                text.replace('e', "%65").replace('3', "%33"),
            ),
            ("percent, twice", each(text, |c| format!("%25{c:02x}"))),
            ("hex", hex(text.as_bytes())),
            ("hex, upper", hex(text.as_bytes()).to_uppercase()),
            ("hex, spaced", each(text, |c| format!("{c:02x} "))),
            ("base64", STANDARD.encode(text)),
            ("base64, shifted", STANDARD.encode(format!("x{text}"))),
            ("base64, by two", STANDARD.encode(format!("xy{text}"))),
            ("base64url", URL_SAFE_NO_PAD.encode(text)),
            ("base64, twice", STANDARD.encode(STANDARD.encode(text))),
            ("hex in base64", STANDARD.encode(hex(text.as_bytes()))),
            ("JSON", each(text, |c| format!("\\u{c:04x}"))),
            ("C", each(text, |c| format!("\\x{c:02x}"))),
            ("HTML", each(text, |c| format!("&#{c};"))),
            ("HTML, hex", each(text, |c| format!("&#x{c:x};"))),
            ("decimal", each(text, |c| format!("{c} "))),
            ("decimal, an array", each(text, |c| format!("{c},"))),
            ("decimal, lines", each(text, |c| format!("{c}\n"))),
            ("decimal, together", each(text, |c| format!("{c:03}"))),
            ("octal", each(text, |c| format!("\\{c:03o}"))),
            ("base32", in_base32(text.as_bytes())),
            ("base32, lower", in_base32(text.as_bytes()).to_lowercase()),
            (
                "base32, shifted",
                in_base32(format!("xyz{text}").as_bytes()),
            ),
            ("base32, grouped", {
                let letters = in_base32(text.as_bytes());
                let groups: Vec<&str> = letters
                    .as_bytes()
                    .chunks(4)
                    .map(|four| std::str::from_utf8(four).unwrap())
                    .collect();
                groups.join("-")
            }),
        ]
    }

    fn check(secret: &str, quoted: &str) {
        for (name, form) in forms(quoted) {
            for text in [
                form.clone(),
                format!("bad token {form}"),
                format!("{{\"got\":\"{form}\"}}"),
            ] {
                assert!(repeats(secret, &text), "{name}: {text}");
            }
        }
    }

    #[test]
    fn a_secret_is_found_in_every_form() {
        check(
            "R0123456789ABCDEFpagerdutykey99",
            "R0123456789ABCDEFpagerdutykey99",
        );
        let address = "https://hooks.example/services/T0SECRETPATH/B0SECRETB/XyZsecretToken123";
        check(address, "XyZsecretToken123");
        check(address, "T0SECRETPATH");
        let query = "https://user:hunter2hunter2@hooks.example/x?token=querySecretToken12345";
        check(query, "querySecretToken12345");
        check(query, "hunter2hunter2");
        let key = "ABCDEFGHIJKLMNOPQRSTUVWX12345678";
        let secret = format!("{WEBHOOK_KEY}{}", STANDARD.encode(key));
        check(&secret, &secret);
        check(&secret, &STANDARD.encode(key));
        check(&secret, key);
    }

    #[test]
    fn a_key_that_is_no_text_is_found_by_its_bytes() {
        let key: Vec<u8> = (0..32_u8)
            .map(|at| at.wrapping_mul(151).wrapping_add(130))
            .collect();
        let secret = format!("{WEBHOOK_KEY}{}", STANDARD.encode(&key));
        for text in [
            hex(&key),
            hex(&key).to_uppercase(),
            hex(&key[4..20]),
            in_base32(&key),
            key.iter().map(|byte| format!("{byte}, ")).collect(),
            URL_SAFE_NO_PAD.encode(&key),
        ] {
            assert!(repeats(&secret, &text), "{text}");
        }
    }

    #[test]
    fn what_is_innocent_is_not_found() {
        let secrets = [
            "R0123456789ABCDEFpagerdutykey99",
            "https://hooks.example/services/T0SECRETPATH/B0SECRETB/XyZsecretToken123",
            "whsec_QUJDREVGR0hJSktMTU5PUFFSU1RVVldYMTIzNDU2Nzg=",
        ];
        let innocent = [
            "",
            "ok",
            "status 404: no such hook at hooks.example",
            "no services here; see https://hooks.example/services",
            r#"{"status":"invalid event","message":"Event object is invalid","errors":["Length of 'routing_key' is incorrect"]}"#,
            "<html><body><h1>502 Bad Gateway</h1><hr><center>nginx/1.27.0</center></body></html>",
            "42 of 17 &#x; %zz \\u12 %",
            "took 120 ms, 116 of 101 rows, 99 left; see 10.0.99.121 at 2026-11-11 20:00:00",
        ];
        for secret in secrets {
            for text in innocent {
                assert!(!repeats(secret, text), "{text}");
            }
        }
    }
}
