//! Times and sizes as people write them: `500ms`, `5s`, `256MiB`.

use std::time::Duration;

/// Reads a time: a whole number and `ms`, `s`, `m`, `h` or `d`.
pub(crate) fn parse_duration(text: &str) -> Result<Duration, String> {
    let (number, unit) = split(text);
    let milliseconds = match unit {
        "ms" => 1,
        "s" => 1_000,
        "m" => 60_000,
        "h" => 3_600_000,
        "d" => 86_400_000,
        _ => return Err("must be a time such as 500ms, 5s, 10m or 1h".to_owned()),
    };
    whole(number, milliseconds).map(Duration::from_millis)
}

/// Reads a size: a whole number, alone for bytes or with `kB`, `KiB`, `MB`, `MiB`, `GB` or `GiB`.
pub(crate) fn parse_bytes(text: &str) -> Result<u64, String> {
    let (number, unit) = split(text);
    let factor = match unit.to_ascii_lowercase().as_str() {
        "" | "b" => 1,
        "kb" => 1_000,
        "kib" | "k" => 1 << 10,
        "mb" => 1_000_000,
        "mib" | "m" => 1 << 20,
        "gb" => 1_000_000_000,
        "gib" | "g" => 1 << 30,
        _ => return Err("must be a size such as 65536, 900KiB, 256MiB or 1GiB".to_owned()),
    };
    whole(number, factor)
}

/// Writes a time in the largest unit that keeps it whole.
pub(crate) fn show_duration(duration: Duration) -> String {
    let milliseconds = duration.as_millis();
    for (factor, unit) in [(86_400_000, "d"), (3_600_000, "h"), (60_000, "m"), (1_000, "s")] {
        if milliseconds > 0 && milliseconds.is_multiple_of(factor) {
            return format!("{}{unit}", milliseconds / factor);
        }
    }
    format!("{milliseconds}ms")
}

/// Where `needle` stands first in `haystack`; nowhere if it is empty.
pub(crate) fn find(haystack: &[u8], needle: &[u8]) -> Option<usize> {
    if needle.is_empty() {
        return None;
    }
    haystack.windows(needle.len()).position(|window| window == needle)
}

fn split(text: &str) -> (&str, &str) {
    let text = text.trim();
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    (&text[..digits], text[digits..].trim_start())
}

fn whole(number: &str, factor: u64) -> Result<u64, String> {
    let number: u64 = number.parse().map_err(|_| "must begin with a whole number".to_owned())?;
    number.checked_mul(factor).ok_or_else(|| "is too large".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_and_written() {
        for (text, milliseconds) in [
            ("500ms", 500),
            ("5s", 5_000),
            ("10 m", 600_000),
            ("1h", 3_600_000),
            ("2d", 172_800_000),
        ] {
            let duration = parse_duration(text).unwrap();
            assert_eq!(duration, Duration::from_millis(milliseconds));
            assert_eq!(show_duration(duration), text.replace(' ', ""));
        }
        assert_eq!(show_duration(Duration::ZERO), "0ms");
    }

    #[test]
    fn sizes_are_read() {
        for (text, bytes) in [("0", 0), ("65536", 65_536), ("900KiB", 921_600), ("1 gib", 1 << 30)]
        {
            assert_eq!(parse_bytes(text), Ok(bytes));
        }
    }

    #[test]
    fn what_is_neither_is_refused() {
        for text in ["", "5", "s", "-5s", "5.5s", "5 weeks", "99999999999999999999s"] {
            assert!(parse_duration(text).is_err(), "{text:?}");
        }
        for text in ["", "MiB", "-1", "1TiBx", "18446744073709551615GiB"] {
            assert!(parse_bytes(text).is_err(), "{text:?}");
        }
    }
}
