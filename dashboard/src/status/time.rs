//! A moment, as JSON writes it.

use std::fmt;
use std::str::FromStr;

use chrono::{DateTime, SecondsFormat, SubsecRound, Utc};
use serde::{de, Deserialize, Deserializer, Serialize, Serializer};

/// A moment to the microsecond. JSON: RFC 3339, UTC, always six decimal places.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Time(DateTime<Utc>);

impl Time {
    /// The clock of this machine.
    pub fn now() -> Time {
        Utc::now().into()
    }

    /// Milliseconds from `earlier` to this, 0 if it is later.
    pub fn ms_since(self, earlier: Time) -> u64 {
        u64::try_from((self.0 - earlier.0).num_milliseconds()).unwrap_or(0)
    }

    /// Milliseconds of the Unix epoch; 0 before it.
    pub fn epoch_ms(self) -> u64 {
        u64::try_from(self.0.timestamp_millis()).unwrap_or(0)
    }

    /// The moment so many microseconds of the Unix epoch, if there is one.
    pub fn from_epoch_us(us: i64) -> Option<Time> {
        DateTime::from_timestamp_micros(us).map(Time)
    }

    /// This moment, moved by a signed number of microseconds.
    #[must_use]
    pub fn shifted_us(self, us: i64) -> Time {
        let moved = self
            .0
            .checked_add_signed(chrono::TimeDelta::microseconds(us));
        Time(moved.unwrap_or(self.0))
    }

    /// For people: to the second, UTC.
    pub(crate) fn in_words(self) -> String {
        self.0.format("%Y-%m-%d %H:%M:%S UTC").to_string()
    }

    /// Microseconds from `earlier` to this, with its sign.
    pub fn us_since(self, earlier: Time) -> i64 {
        (self.0 - earlier.0).num_microseconds().unwrap_or(0)
    }
}

impl From<DateTime<Utc>> for Time {
    fn from(at: DateTime<Utc>) -> Time {
        Time(at.trunc_subsecs(6))
    }
}

impl fmt::Display for Time {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.to_rfc3339_opts(SecondsFormat::Micros, true))
    }
}

impl FromStr for Time {
    type Err = chrono::ParseError;

    fn from_str(text: &str) -> Result<Time, Self::Err> {
        DateTime::parse_from_rfc3339(text).map(|at| at.to_utc().into())
    }
}

impl Serialize for Time {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Time {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Time, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_second_keeps_its_six_decimal_places() {
        let time: Time = "2026-01-02T04:04:05+01:00".parse().unwrap();
        assert_eq!(time.to_string(), "2026-01-02T03:04:05.000000Z");
        let json = serde_json::to_string(&time).unwrap();
        assert_eq!(serde_json::from_str::<Time>(&json).unwrap(), time);
    }

    #[test]
    fn a_lag_is_never_negative() {
        let time: Time = "2026-01-02T03:04:05Z".parse().unwrap();
        assert_eq!(time.ms_since(time.shifted_us(1_500_000)), 0);
        assert_eq!(time.shifted_us(1_500_000).ms_since(time), 1_500);
    }
}
