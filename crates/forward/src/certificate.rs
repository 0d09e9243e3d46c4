//! From when until when a certificate holds, and for whom: the little of X.509
//! (RFC 5280, section 4.1) that a person needs when TLS fails.

use std::fmt;
use std::path::Path;

use reading::Timestamp;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;

/// What is read of a certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Certificate {
    /// Whom it is for: its common name, if it has one.
    pub subject: Option<String>,
    /// Who signed it: the common name, if there is one.
    pub issuer: Option<String>,
    /// Valid from.
    pub from: Timestamp,
    /// Valid until.
    pub until: Timestamp,
}

// DER tags (X.690, section 8).
const INTEGER: u8 = 0x02;
const OID: u8 = 0x06;
const UTC_TIME: u8 = 0x17;
const GENERALIZED_TIME: u8 = 0x18;
const SEQUENCE: u8 = 0x30;
const SET: u8 = 0x31;
const VERSION: u8 = 0xA0;
/// `id-at-commonName`, 2.5.4.3.
const COMMON_NAME: &[u8] = &[0x55, 0x04, 0x03];

impl Certificate {
    /// Reads the first certificate of a PEM file.
    ///
    /// # Errors
    /// When there is none, or it can't be read; the text names the file.
    pub fn from_file(path: &Path) -> Result<Certificate, String> {
        let name = path.display();
        let der = CertificateDer::from_pem_file(path)
            .map_err(|error| format!("no certificate can be read from {name}: {error}"))?;
        Certificate::parse(&der).ok_or_else(|| format!("{name} holds no X.509 certificate"))
    }

    /// Reads one in DER. Nothing of it is verified.
    pub fn parse(der: &[u8]) -> Option<Certificate> {
        let (whole, _) = take(der, SEQUENCE)?;
        let (mut tbs, _) = take(whole, SEQUENCE)?;
        if let Some((_, rest)) = take(tbs, VERSION) {
            tbs = rest;
        }
        let (_serial, tbs) = take(tbs, INTEGER)?;
        let (_algorithm, tbs) = take(tbs, SEQUENCE)?;
        let (issuer, tbs) = take(tbs, SEQUENCE)?;
        let (validity, tbs) = take(tbs, SEQUENCE)?;
        let (subject, _) = take(tbs, SEQUENCE)?;
        let (from, rest) = time(validity)?;
        let (until, _) = time(rest)?;
        Some(Certificate {
            subject: common_name(subject),
            issuer: common_name(issuer),
            from,
            until,
        })
    }

    /// Days until it ends, rounded down; negative when it has ended.
    pub fn days_left(&self, now: Timestamp) -> i64 {
        (self.until.as_micros() - now.as_micros()).div_euclid(86_400 * 1_000_000)
    }
}

impl fmt::Display for Certificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let day = |at: Timestamp| at.to_string().chars().take(10).collect::<String>();
        let name = |name: &Option<String>| name.clone().unwrap_or_else(|| "nobody".into());
        let (from, until) = (day(self.from), day(self.until));
        write!(f, "for {}, by {}, {from} to {until}", name(&self.subject), name(&self.issuer))
    }
}

/// The content of the element that begins here, and what follows it.
fn take(der: &[u8], tag: u8) -> Option<(&[u8], &[u8])> {
    let (&found, rest) = der.split_first()?;
    let (&first, rest) = rest.split_first()?;
    if found != tag {
        return None;
    }
    let (length, rest) = if first < 0x80 {
        (usize::from(first), rest)
    } else {
        // Longer than 4 GiB is no certificate.
        let count = usize::from(first & 0x7F);
        if !(1..=4).contains(&count) || rest.len() < count {
            return None;
        }
        let (bytes, rest) = rest.split_at(count);
        (bytes.iter().fold(0, |length, byte| length << 8 | usize::from(*byte)), rest)
    };
    (rest.len() >= length).then(|| rest.split_at(length))
}

/// RFC 5280, section 4.1.2.5: `YYMMDDHHMMSSZ` before 2050, else with four
/// digits of the year.
fn time(der: &[u8]) -> Option<(Timestamp, &[u8])> {
    let (text, rest) = match take(der, UTC_TIME) {
        Some((digits, rest)) => {
            let text = std::str::from_utf8(digits).ok()?;
            let century = if text.get(..2)? < "50" { "20" } else { "19" };
            (format!("{century}{text}"), rest)
        }
        None => {
            let (digits, rest) = take(der, GENERALIZED_TIME)?;
            (std::str::from_utf8(digits).ok()?.to_owned(), rest)
        }
    };
    let part = |from: usize, to: usize| text.get(from..to);
    let written = format!(
        "{}-{}-{}T{}:{}:{}Z",
        part(0, 4)?,
        part(4, 6)?,
        part(6, 8)?,
        part(8, 10)?,
        part(10, 12)?,
        part(12, 14)?
    );
    Some((written.parse().ok()?, rest))
}

fn common_name(mut name: &[u8]) -> Option<String> {
    while let Some((set, rest)) = take(name, SET) {
        let (pair, _) = take(set, SEQUENCE)?;
        let (kind, value) = take(pair, OID)?;
        if kind == COMMON_NAME {
            let text = take(value, *value.first()?)?.0;
            let text = String::from_utf8_lossy(text);
            // It is the server's text: it must not steer a terminal.
            return Some(text.chars().filter(|c| !c.is_control()).take(100).collect());
        }
        name = rest;
    }
    None
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rcgen::{CertificateParams, DnType, KeyPair, date_time_ymd};

    use super::*;

    fn der(until: i32) -> Vec<u8> {
        let mut params = CertificateParams::new(vec!["broker.example".into()]).unwrap();
        params.distinguished_name.push(DnType::OrganizationName, "Example");
        params.distinguished_name.push(DnType::CommonName, "broker\u{1b}.example");
        params.not_before = date_time_ymd(2026, 1, 2);
        params.not_after = date_time_ymd(until, 3, 4);
        params.self_signed(&KeyPair::generate().unwrap()).unwrap().der().to_vec()
    }

    #[test]
    fn dates_and_names_are_read() {
        let certificate = Certificate::parse(&der(2027)).unwrap();
        assert_eq!(
            certificate.to_string(),
            "for broker.example, by broker.example, 2026-01-02 to 2027-03-04"
        );
        let now = "2027-03-01T12:00:00Z".parse().unwrap();
        assert_eq!(certificate.days_left(now), 2);
        assert_eq!(certificate.days_left("2027-03-04T01:00:00Z".parse().unwrap()), -1);
    }

    #[test]
    fn after_2049_the_year_has_four_digits() {
        let certificate = Certificate::parse(&der(2055)).unwrap();
        assert!(certificate.until.to_string().starts_with("2055-03-04T"));
    }

    proptest! {
        #[test]
        fn no_bytes_do_harm(at in 0usize..300, byte: u8, cut in 0usize..600) {
            let mut bytes = der(2027);
            if let Some(place) = bytes.get_mut(at) {
                *place = byte;
            }
            bytes.truncate(cut);
            _ = Certificate::parse(&bytes);
        }
    }
}
