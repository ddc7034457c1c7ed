//! How long the certificates hold that this node shows and believes.

use std::path::Path;

use anyhow::Context as _;
use time::OffsetDateTime;
use x509_parser::pem::Pem;

use super::Concern;
use crate::config::Config;

/// When somebody should see to it: so many seconds before the end, ...
const SOON: i64 = 14 * DAY;

/// ... or this part of its life, if that is less: short-lived ones are renewed often.
const PART: i64 = 5;

const DAY: i64 = 86_400;

/// From when until when, in seconds since 1970.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Validity {
    from: i64,
    until: i64,
}

impl Validity {
    /// For people, as of `now`.
    fn describe(self, now: i64) -> String {
        format!("until {} ({} days)", date(self.until), (self.until - now).max(0) / DAY)
    }

    /// What is wrong with it at `now`, or soon will be.
    fn warns(self, now: i64) -> Option<String> {
        let Self { from, until } = self;
        if now < from {
            return Some(format!("not valid before {}: is the clock right?", date(from)));
        }
        if now >= until {
            return Some(format!(
                "expired on {}: issue another, and restart the agent",
                date(until)
            ));
        }
        let left = until - now;
        (left < SOON.min((until - from) / PART)).then(|| {
            format!(
                "expires on {}, in {} days: issue another, and restart the agent",
                date(until),
                left / DAY
            )
        })
    }
}

fn date(seconds: i64) -> String {
    OffsetDateTime::from_unix_timestamp(seconds)
        .map_or_else(|_| seconds.to_string(), |at| at.date().to_string())
}

/// The node's own certificate and its authority's; of several in a file the one that ends first.
pub(super) fn certificates(config: &Config, now: OffsetDateTime) -> Option<Concern> {
    let files = config.tls.as_ref()?;
    let (mut believed, mut differs) = (Vec::new(), Vec::new());
    for (whose, path) in [("own", &files.cert), ("authority", &files.ca)] {
        match validity(path) {
            Ok(validity) => {
                let now = now.unix_timestamp();
                believed.push(format!("{whose} {}", validity.describe(now)));
                differs.extend(validity.warns(now).map(|why| format!("{}: {why}", path.display())));
            }
            Err(error) => differs.push(format!("{error:#}")),
        }
    }
    Some(Concern::new("certificates", believed.join(", ")).but(differs))
}

fn validity(path: &Path) -> anyhow::Result<Validity> {
    let shown = path.display();
    let text = std::fs::read(path).with_context(|| format!("cannot read {shown}"))?;
    of(&text).with_context(|| format!("{shown} is no certificate"))
}

fn of(text: &[u8]) -> anyhow::Result<Validity> {
    let mut first: Option<Validity> = None;
    for pem in Pem::iter_from_buffer(text) {
        let pem = pem?;
        if pem.label != "CERTIFICATE" {
            continue;
        }
        let parsed = pem.parse_x509()?;
        let [from, until] = [parsed.validity().not_before, parsed.validity().not_after];
        let next = Validity { from: from.timestamp(), until: until.timestamp() };
        first = Some(first.filter(|it| it.until <= next.until).unwrap_or(next));
    }
    first.context("it holds none")
}

#[cfg(test)]
mod tests {
    use atoll_api::Identity;
    use atoll_api::pki::Authority;

    use super::*;

    #[test]
    fn a_certificate_warns_two_weeks_before_its_end_and_a_short_lived_one_in_its_last_fifth() {
        for (days, left, warns) in [
            (365, 15, false),
            (365, 13, true),
            (30, 7, false),
            (30, 5, true),
            (1, 1, false),
            (3_650, 20, false),
        ] {
            let it = Validity { from: 0, until: days * DAY };
            let at = it.until - left * DAY;
            assert_eq!(it.warns(at).is_some(), warns, "{left} of {days} days");
        }
        let year = Validity { from: 0, until: 365 * DAY };
        assert_eq!(year.describe(5 * DAY), "until 1971-01-01 (360 days)");
        let warning = year.warns(364 * DAY).unwrap();
        assert!(
            warning.starts_with("expires on 1971-01-01, in 1 days: issue another"),
            "{warning}"
        );
    }

    #[test]
    fn one_that_is_not_valid_says_why() {
        let it = Validity { from: 10 * DAY, until: 20 * DAY };
        assert!(it.warns(9 * DAY).unwrap().contains("not valid before 1970-01-11"));
        assert!(it.warns(20 * DAY).unwrap().starts_with("expired on 1970-01-21"));
        assert_eq!(it.describe(30 * DAY), "until 1970-01-21 (0 days)");
    }

    /// Real ones: the one that ends first counts, and what is none is said.
    #[test]
    fn files_are_read_as_openssl_writes_them() {
        let authority = Authority::open(&Authority::create("test").unwrap()).unwrap();
        let identity = Identity::Node("n1".parse().unwrap());
        let short = authority.issue(&identity, &[], 30).unwrap().cert;
        let read = of(short.as_bytes()).unwrap();
        assert!((29 * DAY..=31 * DAY).contains(&(read.until - read.from)), "{read:?}");
        let both = format!("{}{short}", authority.cert());
        assert_eq!(of(both.as_bytes()).unwrap(), read);
        assert!(of(b"nonsense").unwrap_err().to_string().contains("it holds none"));
    }
}
