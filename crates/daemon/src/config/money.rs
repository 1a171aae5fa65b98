//! Amounts of money as people write them.

/// Decimal text in whole minor units of an ISO 4217 currency, or `None` where it is none, is
/// negative, or has more decimals than the currency.
pub fn minor_units(text: &str, currency: &str) -> Option<i64> {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let decimals = decimals(currency);
    if whole.is_empty() || fraction.len() > decimals || (text.contains('.') && fraction.is_empty())
    {
        return None;
    }
    let padding = std::iter::repeat_n(b'0', decimals - fraction.len());
    let digits = whole.bytes().chain(fraction.bytes()).chain(padding);
    let mut amount: i64 = 0;
    for byte in digits {
        let digit = byte.is_ascii_digit().then(|| i64::from(byte - b'0'))?;
        amount = amount.checked_mul(10)?.checked_add(digit)?;
    }
    Some(amount)
}

/// Decimals of a currency's minor unit: 2 but for these.
fn decimals(currency: &str) -> usize {
    match currency {
        "BIF" | "CLP" | "DJF" | "GNF" | "ISK" | "JPY" | "KMF" | "KRW" | "PYG" | "RWF" | "UGX"
        | "VND" | "VUV" | "XAF" | "XOF" | "XPF" => 0,
        "BHD" | "IQD" | "JOD" | "KWD" | "LYD" | "OMR" | "TND" => 3,
        _ => 2,
    }
}

#[cfg(test)]
mod tests {
    use super::minor_units;

    #[test]
    fn an_amount_is_exact_or_none() {
        for (text, currency, minor) in [
            ("18.00", "CNY", Some(1_800)),
            ("18.5", "CNY", Some(1_850)),
            ("18", "CNY", Some(1_800)),
            ("0.01", "CNY", Some(1)),
            ("18", "JPY", Some(18)),
            ("18.0", "JPY", None),
            ("1.234", "KWD", Some(1_234)),
            ("18.001", "CNY", None),
            ("-1", "CNY", None),
            ("1,000", "CNY", None),
            ("¥18", "CNY", None),
            (".5", "CNY", None),
            ("5.", "CNY", None),
            ("", "CNY", None),
            ("99999999999999999999", "CNY", None),
        ] {
            assert_eq!(minor_units(text, currency), minor, "{text} {currency}");
        }
    }
}
