//! `tls = { cert, key }`, read again when the files change.

use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::sync::{Arc, RwLock};
use std::time::Duration;

use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio::time::sleep;
use tokio_rustls::TlsAcceptor;
use tracing::{error, info, warn};

use crate::Tls;

/// How often the files are looked at: a renewed certificate is good for weeks
/// before the old one ends.
const LOOK: Duration = Duration::from_secs(5);

/// The certificate in use.
pub(crate) struct Certificate {
    tls: Tls,
    every: Duration,
    /// None until there is one that is good.
    acceptor: RwLock<Option<TlsAcceptor>>,
}

/// What tells one version of a file from the next: inode, time and length.
type Stamp = Option<(u64, i64, i64, u64)>;

impl Certificate {
    /// Reads it for the first time. One that is no good keeps browsers out, and
    /// nothing else: it is tried again.
    pub(crate) async fn load(tls: Tls) -> Certificate {
        Certificate::load_and_look(tls, LOOK).await
    }

    pub(crate) async fn load_and_look(tls: Tls, every: Duration) -> Certificate {
        let acceptor = acceptor(&tls).await.map_err(|error| {
            error!(%error, "no browser is let in until dashboard.tls can be used");
        });
        Certificate { tls, every, acceptor: RwLock::new(acceptor.ok()) }
    }

    /// For the next connection, if there is one.
    pub(crate) fn acceptor(&self) -> Option<TlsAcceptor> {
        self.acceptor.read().expect("no holder panics").clone()
    }

    /// Reads it again when its files change. One that is no good, such as a
    /// certificate whose key is still to be written, changes nothing. Never ends.
    pub(crate) async fn renew(&self) {
        let mut seen = self.stamps().await;
        loop {
            sleep(self.every).await;
            let stamps = self.stamps().await;
            let same = stamps == seen;
            if same && self.acceptor().is_some() {
                continue;
            }
            seen = stamps;
            match acceptor(&self.tls).await {
                Ok(acceptor) => {
                    *self.acceptor.write().expect("no holder panics") = Some(acceptor);
                    info!(file = %self.tls.cert.display(), "certificate read again");
                }
                // Said already.
                Err(_) if same => (),
                Err(error) => warn!(%error, "the certificate has changed, and is no good"),
            }
        }
    }

    async fn stamps(&self) -> [Stamp; 2] {
        [stamp(&self.tls.cert).await, stamp(&self.tls.key).await]
    }
}

async fn stamp(path: &Path) -> Stamp {
    let about = tokio::fs::metadata(path).await.ok()?;
    Some((about.ino(), about.mtime(), about.mtime_nsec(), about.len()))
}

/// Reads the certificate and its key.
///
/// # Errors
/// When either can't be read, or they don't belong together; names the file.
pub(crate) async fn acceptor(tls: &Tls) -> io::Result<TlsAcceptor> {
    let certificates = read(&tls.cert).await?;
    let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&certificates).collect();
    let chain = chain.map_err(|error| invalid(&tls.cert, error))?;
    if chain.is_empty() {
        return Err(invalid(&tls.cert, "no certificate in PEM"));
    }
    let key = PrivateKeyDer::from_pem_slice(&read(&tls.key).await?);
    let key = key.map_err(|error| invalid(&tls.key, error))?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(io::Error::other)?
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .map_err(|error| invalid(&tls.key, error))?;
    // The feed needs an upgrade, which HTTP/2 hasn't in this form.
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(TlsAcceptor::from(Arc::new(config)))
}

async fn read(path: &Path) -> io::Result<Vec<u8>> {
    let named = |error: io::Error| {
        io::Error::new(error.kind(), format!("cannot read {}: {error}", path.display()))
    };
    tokio::fs::read(path).await.map_err(named)
}

fn invalid(path: &Path, error: impl std::fmt::Display) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("cannot use {}: {error}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(tls: &Tls) {
        let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
        std::fs::write(&tls.cert, made.cert.pem()).unwrap();
        std::fs::write(&tls.key, made.signing_key.serialize_pem()).unwrap();
    }

    #[tokio::test]
    async fn a_renewed_certificate_is_used_and_a_broken_one_is_not() {
        let folder = tempfile::TempDir::new().unwrap();
        let tls = Tls { cert: folder.path().join("c.pem"), key: folder.path().join("k.pem") };
        write(&tls);
        let every = Duration::from_millis(10);
        let certificate = Certificate::load_and_look(tls.clone(), every).await;
        let config = || Arc::as_ptr(certificate.acceptor().unwrap().config());
        let first = config();
        let changes = async {
            sleep(every * 5).await;
            assert_eq!(config(), first);
            std::fs::write(&tls.key, "not a key").unwrap();
            sleep(every * 10).await;
            assert_eq!(config(), first, "the old one stays");
            write(&tls);
            while config() == first {
                sleep(every).await;
            }
        };
        tokio::select! {
            () = certificate.renew() => (),
            changed = tokio::time::timeout(Duration::from_secs(20), changes) => changed.unwrap(),
        }
    }

    #[tokio::test]
    async fn one_that_is_missing_is_waited_for() {
        let folder = tempfile::TempDir::new().unwrap();
        let tls = Tls { cert: folder.path().join("c.pem"), key: folder.path().join("k.pem") };
        let every = Duration::from_millis(10);
        let certificate = Certificate::load_and_look(tls.clone(), every).await;
        assert!(certificate.acceptor().is_none());
        let comes = async {
            write(&tls);
            while certificate.acceptor().is_none() {
                sleep(every).await;
            }
        };
        tokio::select! {
            () = certificate.renew() => (),
            come = tokio::time::timeout(Duration::from_secs(20), comes) => come.unwrap(),
        }
    }
}
