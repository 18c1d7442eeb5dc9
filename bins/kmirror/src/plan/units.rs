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

/// Reads a date with a time, `2026-01-31T12:30:00.000`, as milliseconds since 1970. Without a zone
/// at its end (`Z`, `+01:00`) it is UTC.
pub(crate) fn parse_datetime(text: &str) -> Result<i64, String> {
    datetime(text.trim()).ok_or_else(|| "must be a time such as 2026-01-31T12:30:00.000".to_owned())
}

fn datetime(text: &str) -> Option<i64> {
    let (date, time) = text.split_once('T')?;
    let mut date = date.splitn(3, '-').map(|part| digits(part).filter(|number| *number <= 9_999));
    let (year, month, day) = (date.next()??, date.next()??, date.next()??);
    let zone = time.find(['Z', '+', '-']).unwrap_or(time.len());
    let (time, zone) = time.split_at(zone);
    let (clock, fraction) = time.split_once('.').unwrap_or((time, "0"));
    let mut clock = clock.splitn(3, ':').map(digits);
    let (hour, minute) = (clock.next()??, clock.next()??);
    let second = clock.next().unwrap_or(Some(0))?;
    let is_real = (1..=12).contains(&month)
        && (1..=31).contains(&day)
        && hour < 24
        && minute < 60
        && second < 60;
    digits(fraction)?; // only then may it be cut anywhere
    let milliseconds = digits(&format!("{fraction:0<3}")[..3])?;
    let seconds = ((days(year, month, day) * 24 + hour) * 60 + minute) * 60 + second;
    is_real.then_some((seconds - offset(zone)?) * 1_000 + milliseconds)
}

/// Seconds east of UTC.
fn offset(zone: &str) -> Option<i64> {
    let sign = match zone.chars().next() {
        None | Some('Z') => return (zone.len() < 2).then_some(0),
        Some('-') => -1,
        Some(_) => 1,
    };
    let digits = digits(&zone[1..].replace(':', "")).filter(|_| zone.len() >= 5)?;
    Some(sign * (digits / 100 * 60 + digits % 100) * 60)
}

/// A number of at most nine digits: what a date is reckoned from cannot overflow.
fn digits(text: &str) -> Option<i64> {
    let is_number = (1..=9).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_digit());
    text.parse().ok().filter(|_| is_number)
}

/// Days since 1970 of a date of the Gregorian calendar. Years are counted from March, so that the
/// day that leap years add is their last (Hinnant, "chrono-Compatible Low-Level Date Algorithms").
fn days(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let (era, of_era) = (year.div_euclid(400), year.rem_euclid(400));
    let of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719_468
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
    fn dates_are_read() {
        for (text, milliseconds) in [
            ("1970-01-01T00:00:00.000", 0),
            ("2000-02-29T12:00:00.5", 951_825_600_500),
            ("2026-01-31T12:30:00.000Z", 1_769_862_600_000),
            ("2026-01-31T12:30+01:00", 1_769_859_000_000),
            ("2026-01-31T12:30:00-0130", 1_769_868_000_000),
        ] {
            assert_eq!(parse_datetime(text), Ok(milliseconds), "{text}");
        }
        for text in ["", "2026-01-31", "2026-13-01T00:00", "2026-01-01T24:00", "2026-01-01T1:2:3:4"]
        {
            assert!(parse_datetime(text).is_err(), "{text}");
        }
    }

    #[test]
    fn what_is_no_date_is_refused_whatever_characters_it_has() {
        let times = ["00:00:00.11é", "00:00:00.é", "00:00:00.123x", "00:00:00.", "00:00é"];
        let zones = ["00:00+é1:00", "00:00+9223372036854775807", "9223372036854775807:00"];
        for text in times.into_iter().chain(zones) {
            let text = format!("2026-01-01T{text}");
            assert!(parse_datetime(&text).is_err(), "{text}");
        }
        assert!(parse_datetime("2026-9223372036854775807-01T00:00").is_err());
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
