//! Secrets that we make ourselves: 256 random bits each.

use data_encoding::BASE64URL_NOPAD;
use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq;

/// What is kept of a secret. It needs no salt and no slow hash: nobody guesses
/// 256 random bits.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Digest([u8; 32]);

/// A new secret, as text for a cookie, a header or an address.
///
/// # Errors
/// When the kernel gives no random bytes.
pub(super) fn make() -> Result<String, getrandom::Error> {
    let mut bytes = [0; 32];
    getrandom::fill(&mut bytes)?;
    Ok(BASE64URL_NOPAD.encode(&bytes))
}

impl Digest {
    pub(super) fn of(secret: &str) -> Digest {
        Digest(Sha256::digest(secret.as_bytes()).into())
    }

    /// As the file has it.
    pub(super) fn to_hex(self) -> String {
        data_encoding::HEXLOWER.encode(&self.0)
    }

    pub(super) fn from_hex(text: &str) -> Option<Digest> {
        let bytes = data_encoding::HEXLOWER.decode(text.as_bytes()).ok()?;
        Some(Digest(bytes.try_into().ok()?))
    }

    /// Compares in a time that says nothing about where they differ.
    pub(super) fn is(&self, other: &Digest) -> bool {
        self.0.ct_eq(&other.0).into()
    }
}

/// Not even the digest belongs in a log.
impl std::fmt::Debug for Digest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Digest")
    }
}
