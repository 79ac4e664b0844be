//! Days in UTC.

use std::fmt;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::{Serialize, Serializer};

use crate::clock::rfc3339;

const SECONDS_PER_DAY: u64 = 86_400;
/// 31 December 9999, in days since 1 January 1970.
const LAST: u32 = 2_932_896;

/// A day, counted from 1 January 1970.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Day(pub(super) u32);

impl Day {
    /// Returns the day of a time.
    #[must_use]
    pub fn of(time: SystemTime) -> Self {
        let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
        Self(u32::try_from(since.as_secs() / SECONDS_PER_DAY).unwrap_or(LAST).min(LAST))
    }

    /// Returns the day that is this many days earlier.
    #[must_use]
    pub fn back(self, days: u32) -> Self {
        Self(self.0.saturating_sub(days))
    }

    /// Returns the number of days from this one to another, including both.
    #[must_use]
    pub fn until(self, last: Self) -> u32 {
        (last.0 + 1).saturating_sub(self.0)
    }

    /// Returns the next day.
    #[must_use]
    pub fn next(self) -> Self {
        Self((self.0 + 1).min(LAST))
    }

    /// Parses the first day of a range that ends today: `today`, `yesterday`, `7d` and `2w` (including today),
    /// `2026-11-01`.
    ///
    /// # Errors
    /// A message with the accepted forms.
    pub fn parse(text: &str, today: Self) -> Result<Self, String> {
        let expected = || format!("'today', 'yesterday', '7d', '2w' or a day such as '{today}' is expected");
        let span = |digits: &str, days: u32| {
            let count = digits.parse::<u32>().ok().filter(|count| *count > 0)?.checked_mul(days)?;
            Some(today.back(count - 1))
        };
        let date = || {
            let is_date = text.len() == 10 && text.bytes().all(|byte| byte.is_ascii_digit() || byte == b'-');
            is_date.then(|| humantime::parse_rfc3339_weak(&format!("{text} 00:00:00")).ok().map(Self::of))?
        };
        let day = match (text, text.strip_suffix('d'), text.strip_suffix('w')) {
            ("today", ..) => Some(today),
            ("yesterday", ..) => Some(today.back(1)),
            (_, Some(digits), _) => span(digits, 1),
            (_, _, Some(digits)) => span(digits, 7),
            _ => date(),
        };
        day.ok_or_else(expected)
    }
}

impl fmt::Display for Day {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let time = UNIX_EPOCH + Duration::from_secs(u64::from(self.0) * SECONDS_PER_DAY);
        f.pad(rfc3339(time).split('T').next().unwrap_or_default())
    }
}

impl Serialize for Day {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, UNIX_EPOCH};

    use super::Day;

    #[test]
    fn days_are_parsed_in_all_forms() {
        let today = Day::of(UNIX_EPOCH + Duration::from_secs(1_795_254_031));
        assert_eq!(today.to_string(), "2026-11-21");
        let named = |text: &str| Day::parse(text, today).map(|day| day.to_string());
        for (text, day) in [
            ("today", "2026-11-21"),
            ("yesterday", "2026-11-20"),
            ("1d", "2026-11-21"),
            ("7d", "2026-11-15"),
            ("2w", "2026-11-08"),
            ("2026-11-01", "2026-11-01"),
            ("9999999d", "1970-01-01"),
        ] {
            assert_eq!(named(text).as_deref(), Ok(day), "{text}");
        }
        for text in ["", "0d", "d", "7", "-7d", "2026-13-01", "2026-11-1", "99999999999d", "week", "2026-11-01T00"] {
            assert!(named(text).unwrap_err().contains("2026-11-21"), "{text}");
        }
        assert_eq!(today.back(6).until(today), 7);
    }
}
