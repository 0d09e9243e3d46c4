//! Certificates, right and wrong: TLS is put in front of the broker by hand.

use std::fs;
use std::net::Ipv4Addr;
use std::path::Path;
use std::sync::Arc;

use forward::State;
use forward::handshake::{Options, perform};
use forward::probe::Outcome;
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};
use tempfile::TempDir;
use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;

use crate::support::{Rig, Server};

/// `ca.pem`, and `NAME.pem` and `NAME.key` for a broker and a client.
fn certificates(folder: &Path) {
    let key = KeyPair::generate().expect("a key");
    let mut params = CertificateParams::new(Vec::new()).expect("no names");
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let ca = params.self_signed(&key).expect("a certificate");
    fs::write(folder.join("ca.pem"), ca.pem()).expect("a file");
    let issuer = Issuer::new(params, key);
    for (file, name) in [("broker", "localhost"), ("client", "gateway")] {
        let key = KeyPair::generate().expect("a key");
        let params = CertificateParams::new(vec![name.to_owned()]).expect("a name");
        let certificate = params.signed_by(&key, &issuer).expect("a certificate");
        fs::write(folder.join(format!("{file}.pem")), certificate.pem()).expect("a file");
        fs::write(folder.join(format!("{file}.key")), key.serialize_pem()).expect("a file");
    }
}

fn acceptor(folder: &Path, wants_client: bool) -> TlsAcceptor {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let read =
        |file: &str| CertificateDer::from_pem_file(folder.join(file)).expect("a certificate");
    let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .expect("versions");
    let builder = if wants_client {
        let mut roots = RootCertStore::empty();
        roots.add(read("ca.pem")).expect("a root");
        let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
        builder.with_client_cert_verifier(verifier.build().expect("a verifier"))
    } else {
        builder.with_no_client_auth()
    };
    let key = PrivateKeyDer::from_pem_file(folder.join("broker.key")).expect("a key");
    let config = builder.with_single_cert(vec![read("broker.pem")], key).expect("a pair");
    TlsAcceptor::from(Arc::new(config))
}

/// Carries what comes over TLS to a plain listener; returns its port.
async fn front(behind: String, acceptor: TlsAcceptor, tasks: &mut JoinSet<()>) -> u16 {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a port");
    let port = listener.local_addr().expect("an address").port();
    tasks.spawn(async move {
        let mut connections = JoinSet::new();
        while let Ok((stream, _)) = listener.accept().await {
            let (acceptor, behind) = (acceptor.clone(), behind.clone());
            connections.spawn(async move {
                let Ok(mut outer) = acceptor.accept(stream).await else { return };
                let mut inner = TcpStream::connect(behind).await.expect("the broker");
                // Either end may close as it likes.
                let _ = copy_bidirectional(&mut outer, &mut inner).await;
            });
        }
    });
    port
}

struct Secured {
    folder: TempDir,
    server: Server,
    /// MQTT, MQTT with a client certificate, WebSocket.
    ports: [u16; 3],
    _tasks: JoinSet<()>,
}

impl Secured {
    async fn start() -> Secured {
        let (folder, mut tasks) = (tempfile::tempdir().expect("a folder"), JoinSet::new());
        certificates(folder.path());
        let server = Server::start().await;
        let tcp = server.tcp.trim_start_matches("mqtt://").to_owned();
        let websocket = server.address.to_string();
        let (open, strict) = (acceptor(folder.path(), false), acceptor(folder.path(), true));
        let ports = [
            front(tcp.clone(), open.clone(), &mut tasks).await,
            front(tcp, strict, &mut tasks).await,
            front(websocket, open, &mut tasks).await,
        ];
        Secured { folder, server, ports, _tasks: tasks }
    }

    /// Keys of the configuration that name files.
    fn files(&self, files: &[(&str, &str)]) -> String {
        let line = |(key, file): &(&str, &str)| {
            format!("{key} = \"{}\"\n", self.folder.path().join(file).display())
        };
        files.iter().map(line).collect()
    }
}

#[tokio::test]
async fn readings_go_over_tls_with_the_user_s_own_authority() {
    let secured = Secured::start().await;
    let [mqtts, strict, wss] = secured.ports;
    for (url, files) in [
        (format!("mqtts://localhost:{mqtts}"), &[("ca", "ca.pem")][..]),
        (format!("wss://localhost:{wss}/mqtt"), &[("ca", "ca.pem")]),
        (
            format!("mqtts://localhost:{strict}"),
            &[("ca", "ca.pem"), ("cert", "client.pem"), ("key", "client.key")],
        ),
    ] {
        let mut inbox = secured.server.listen();
        let mut rig = Rig::start(&url, &secured.files(files)).await;
        rig.is(State::Online).await;
        let last = rig.read(2_000).await;
        assert_eq!(inbox.seqs_until(last).await.len(), 2_000, "{url}");
        rig.is_acknowledged(2_000).await;
        rig.stop().await;
    }
    let options = Options {
        ca: Some(secured.folder.path().join("ca.pem")),
        mqtt: true,
        ..Options::default()
    };
    let report = perform(&format!("wss://localhost:{wss}/mqtt"), &options).await;
    assert!(report.as_ref().is_ok_and(forward::handshake::Report::ok), "{report:?}");
}

#[tokio::test]
async fn a_wrong_certificate_is_explained_with_its_mend() {
    let secured = Secured::start().await;
    let [mqtts, strict, wss] = secured.ports;
    let plain = secured.server.address.port();
    for (url, files, words) in [
        (format!("wss://localhost:{wss}/"), &[][..], "unknown authority: set `ca`"),
        (format!("wss://127.0.0.1:{wss}/"), &[("ca", "ca.pem")], "for another name"),
        (format!("mqtts://localhost:{strict}"), &[("ca", "ca.pem")], "set `cert` and `key`"),
        (format!("mqtts://localhost:{mqtts}"), &[("ca", "broker.key")], "holds no certificate"),
        (format!("wss://localhost:{plain}/"), &[("ca", "ca.pem")], "TLS: "),
    ] {
        let mut rig = Rig::start(&url, &secured.files(files)).await;
        let link = rig.fails_with(words).await;
        assert_eq!(link.state, State::Offline, "{url}");
        rig.stop().await;
    }
}

#[tokio::test]
async fn a_probe_shows_the_certificate_and_its_dates_whether_it_is_trusted_or_not() {
    let secured = Secured::start().await;
    let url = format!("wss://localhost:{}/mqtt", secured.ports[2]);
    for (files, trusted) in [(&[("ca", "ca.pem")][..], true), (&[], false)] {
        let text = format!("url = {url:?}\n{}", secured.files(files));
        let config: forward::Config = toml::from_str(&text).expect("settings");
        let endpoint = forward::Endpoint::parse(&url).expect("a URL");
        let steps = forward::probe::probe(&config, &endpoint, "greenhouse-doctor").await;
        let tls = steps.iter().find(|step| step.name == "TLS").expect("a step");
        let dates = "1975-01-01 to 4096-01-01";
        match &tls.outcome {
            Outcome::Ok(said) if trusted => assert!(said.contains(dates), "{said}"),
            Outcome::Fail(said) if !trusted => {
                assert!(said.contains("unknown authority") && said.contains(dates), "{said}");
            }
            other => panic!("{other:?}"),
        }
        assert_eq!(steps.last().expect("one").name == "MQTT CONNECT", trusted, "{steps:#?}");
    }
}
