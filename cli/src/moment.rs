//! Points in time, as people type and read them. All in UTC.

use std::time::{Duration, SystemTime};

use atoll_api::allocations::At;
use atoll_model::Revision;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

/// Reads a revision (`42`), a time (`2026-11-23T15:04:05Z`) or how long ago (`10m`).
pub(crate) fn parse(text: &str) -> Result<At, String> {
    if let Ok(revision) = text.parse() {
        return Ok(At::Revision(Revision(revision)));
    }
    if let Some(ago) = ago(text) {
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        return Ok(At::WallMs(ms(now.saturating_sub(ago))));
    }
    let since = OffsetDateTime::parse(text, &Rfc3339)
        .ok()
        .and_then(|time| Duration::try_from(time - OffsetDateTime::UNIX_EPOCH).ok());
    since.map(|since| At::WallMs(ms(since))).ok_or_else(|| {
        "is neither a revision (42), nor a time (2026-11-23T15:04:05Z), nor how long ago (90s, \
         10m, 2h, 3d)"
            .to_owned()
    })
}

/// `90s`, `10m`, `2h`, `3d`.
fn ago(text: &str) -> Option<Duration> {
    let (number, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    let seconds: u64 = match unit {
        "s" => 1,
        "m" => 60,
        "h" => 60 * 60,
        "d" => 24 * 60 * 60,
        _ => return None,
    };
    number.parse::<u64>().ok()?.checked_mul(seconds).map(Duration::from_secs)
}

fn ms(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// A time to the millisecond, or `-` if it is not known.
pub(crate) fn text(wall_ms: Option<u64>) -> String {
    let time = wall_ms
        .and_then(|ms| OffsetDateTime::from_unix_timestamp_nanos(i128::from(ms) * 1_000_000).ok());
    time.and_then(|time| time.format(&Rfc3339).ok()).unwrap_or_else(|| "-".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_typed_is_a_revision_a_time_or_how_long_ago() {
        assert_eq!(parse("42"), Ok(At::Revision(Revision(42))));
        assert_eq!(parse("1970-01-01T00:00:01.5Z"), Ok(At::WallMs(1_500)));
        assert_eq!(parse("1970-01-01T02:00:00+01:00"), Ok(At::WallMs(3_600_000)));
        let Ok(At::WallMs(ago)) = parse("10m") else { panic!("no time") };
        let Ok(At::WallMs(now)) = parse("0s") else { panic!("no time") };
        assert!((599_000..=600_000).contains(&(now - ago)), "{ago} {now}");
        for bad in ["", "m", "-5m", "5w", "yesterday", "1969-12-31T23:59:59Z", "2026-11-23", "é"] {
            assert!(parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn times_are_shown_as_they_are_typed() {
        assert_eq!(text(Some(1_500)), "1970-01-01T00:00:01.5Z");
        assert_eq!((text(None), text(Some(u64::MAX))), ("-".to_owned(), "-".to_owned()));
    }
}
