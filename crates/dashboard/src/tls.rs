//! `tls = { cert, key }`.

use std::io;
use std::path::Path;
use std::sync::Arc;

use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::TlsAcceptor;

use crate::Tls;

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
