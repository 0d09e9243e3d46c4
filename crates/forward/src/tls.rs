//! TLS on the client's side: the system's authorities, the user's own, and a
//! client certificate. Read anew at each connect, so that certificates can be
//! renewed under a running gateway.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::client::WebPkiServerVerifier;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ClientConfig, RootCertStore};
use tokio_rustls::TlsConnector;

use crate::floor::Floor;

/// The files of `[forward.X]`.
#[derive(Clone, Debug, Default)]
pub(crate) struct Files<'a> {
    pub(crate) ca: Option<&'a Path>,
    pub(crate) cert: Option<&'a Path>,
    pub(crate) key: Option<&'a Path>,
}

/// Why TLS can't begin.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error("no certificate can be read from {}: {error}", path.display())]
    Certificate { path: PathBuf, error: rustls::pki_types::pem::Error },
    #[error("{} holds no certificate", .0.display())]
    Empty(PathBuf),
    #[error("no private key can be read from {}: {error}", path.display())]
    Key { path: PathBuf, error: rustls::pki_types::pem::Error },
    #[error("the certificate {} can't be used: {error}", path.display())]
    Unusable { path: PathBuf, error: rustls::Error },
    #[error("no certificate authorities are known: install ca-certificates, or set `ca`")]
    NoRoots,
    #[error(transparent)]
    Rustls(#[from] rustls::Error),
}

/// Makes a connector; `http` for WebSocket, which some front ends want to see
/// in the ALPN list (RFC 7301).
pub(crate) fn connector(files: &Files<'_>, http: bool) -> Result<TlsConnector, Error> {
    let roots = roots(files)?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_details(provider, Arc::new(Floor))
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots);
    let mut config = match (files.cert, files.key) {
        (Some(cert), Some(key)) => {
            let secret = PrivateKeyDer::from_pem_file(key)
                .map_err(|error| Error::Key { path: key.to_owned(), error })?;
            let unusable = |error| Error::Unusable { path: cert.to_owned(), error };
            builder.with_client_auth_cert(certificates(cert)?, secret).map_err(unusable)?
        }
        _ => builder.with_no_client_auth(),
    };
    if http {
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
    }
    Ok(TlsConnector::from(Arc::new(config)))
}

/// The verifier that such a connector has.
pub(crate) fn verifier(files: &Files<'_>) -> Result<Arc<WebPkiServerVerifier>, Error> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    WebPkiServerVerifier::builder_with_provider(Arc::new(roots(files)?), provider)
        .build()
        // It fails for want of roots alone.
        .map_err(|_| Error::NoRoots)
}

/// Whom we trust: the system's authorities and the user's own.
fn roots(files: &Files<'_>) -> Result<RootCertStore, Error> {
    let mut roots = RootCertStore::empty();
    // One unreadable certificate of the system's doesn't spoil the others.
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    if let Some(path) = files.ca {
        for certificate in certificates(path)? {
            let unusable = |error| Error::Unusable { path: path.to_owned(), error };
            roots.add(certificate).map_err(unusable)?;
        }
    }
    if roots.is_empty() {
        return Err(Error::NoRoots);
    }
    Ok(roots)
}

/// What went wrong between two ends of TLS, for people, with the mend where one
/// is known.
pub(crate) fn explained(error: &io::Error) -> String {
    use rustls::{AlertDescription as Alert, CertificateError as Certificate, Error as Tls};
    let inner = error.get_ref().and_then(|inner| inner.downcast_ref::<Tls>());
    let words = match inner {
        Some(Tls::InvalidCertificate(Certificate::UnknownIssuer)) => {
            "the broker's certificate is signed by an unknown authority: set `ca` to its PEM file"
        }
        Some(Tls::InvalidCertificate(
            Certificate::Expired | Certificate::ExpiredContext { .. },
        )) => "the broker's certificate has expired, or this machine's clock is ahead",
        Some(Tls::InvalidCertificate(
            Certificate::NotValidYet | Certificate::NotValidYetContext { .. },
        )) => "the broker's certificate isn't valid yet: is this machine's clock set?",
        Some(Tls::InvalidCertificate(
            Certificate::NotValidForName | Certificate::NotValidForNameContext { .. },
        )) => "the broker's certificate is for another name than the URL's",
        Some(Tls::AlertReceived(Alert::CertificateRequired)) => {
            "the broker wants a client certificate: set `cert` and `key`"
        }
        Some(Tls::AlertReceived(
            Alert::BadCertificate | Alert::CertificateUnknown | Alert::UnknownCA,
        )) => "the broker refuses the client certificate",
        Some(Tls::InvalidMessage(_)) => "the broker doesn't speak TLS on this port",
        _ => return error.to_string(),
    };
    words.to_owned()
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, Error> {
    let unreadable = |error| Error::Certificate { path: path.to_owned(), error };
    let all: Result<Vec<_>, _> = CertificateDer::pem_file_iter(path).map_err(unreadable)?.collect();
    let all = all.map_err(unreadable)?;
    if all.is_empty() { Err(Error::Empty(path.to_owned())) } else { Ok(all) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_names_the_file() {
        let empty = tempfile::NamedTempFile::new().unwrap();
        for (path, expected) in [
            (Path::new("/nowhere/ca.pem"), "no certificate can be read from /nowhere/ca.pem"),
            (empty.path(), "holds no certificate"),
        ] {
            let files = Files { ca: Some(path), ..Files::default() };
            let Err(error) = connector(&files, true) else { panic!("{path:?}") };
            assert!(error.to_string().contains(expected), "{error}");
        }
    }
}
