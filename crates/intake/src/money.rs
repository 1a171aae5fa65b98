//! Money as people write it, in whole minor units.

/// How many decimals the minor unit of a currency has (ISO 4217); 2 but for these.
pub fn currency_exponent(currency: &str) -> u32 {
    match currency {
        "BIF" | "CLP" | "DJF" | "GNF" | "ISK" | "JPY" | "KMF" | "KRW" | "PYG" | "RWF" | "UGX"
        | "VND" | "VUV" | "XAF" | "XOF" | "XPF" => 0,
        "BHD" | "IQD" | "JOD" | "KWD" | "LYD" | "OMR" | "TND" => 3,
        _ => 2,
    }
}

/// Decimal text as whole minor units, or `None` where it is none or they cannot hold it exactly.
pub fn minor_units(text: &[u8], exponent: u32) -> Option<i64> {
    let (negative, digits) = match text.split_first()? {
        (b'-', rest) => (true, rest),
        _ => (false, text),
    };
    let point = digits.iter().position(|byte| *byte == b'.');
    let (whole, fraction) = match point {
        Some(point) => (&digits[..point], &digits[point + 1..]),
        None => (digits, &digits[digits.len()..]),
    };
    if whole.is_empty() && fraction.is_empty() {
        return None;
    }
    let digit = |byte: &u8| byte.is_ascii_digit().then(|| i64::from(byte - b'0'));
    let exponent = exponent as usize;
    let mut amount: i64 = 0;
    let padding = std::iter::repeat_n(&b'0', exponent.saturating_sub(fraction.len()));
    for byte in whole
        .iter()
        .chain(fraction.iter().take(exponent))
        .chain(padding)
    {
        amount = amount.checked_mul(10)?.checked_add(digit(byte)?)?;
    }
    if fraction.iter().skip(exponent).any(|byte| *byte != b'0') {
        return None;
    }
    Some(if negative { -amount } else { amount })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_are_held_exactly_or_not_at_all() {
        let cases: &[(&str, u32, Option<i64>)] = &[
            ("2.55", 2, Some(255)),
            ("2.5", 2, Some(250)),
            ("2", 2, Some(200)),
            (".5", 2, Some(50)),
            ("2.", 2, Some(200)),
            ("2.550", 2, Some(255)),
            ("0.001", 2, None),
            ("0.001", 3, Some(1)),
            ("7", 0, Some(7)),
            ("7.0", 0, Some(7)),
            ("7.5", 0, None),
            ("-11062.06", 2, Some(-1_106_206)),
            ("92233720368547758.07", 2, Some(i64::MAX)),
            ("92233720368547758.08", 2, None),
            ("", 2, None),
            (".", 2, None),
            ("-", 2, None),
            ("1e3", 2, None),
            ("1,000.00", 2, None),
            ("+1", 2, None),
        ];
        for (text, exponent, expect) in cases {
            assert_eq!(
                minor_units(text.as_bytes(), *exponent),
                *expect,
                "{text} {exponent}"
            );
        }
    }
}
