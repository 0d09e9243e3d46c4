//! A broker tried step by step, for `tidemill doctor`: where it fails, how long
//! each step took, and the mend.

use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use reading::Timestamp;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{DigitallySignedStruct, SignatureScheme};
use tokio::time::{self, Instant};
use tokio_rustls::TlsConnector;

use crate::certificate::Certificate;
use crate::codec::Hello;
use crate::connect::{self, Stream};
use crate::transport::Transport;
use crate::{Config, Endpoint, handshake, secret, tls};

/// A certificate that ends sooner is worth a warning: most are renewed a month
/// before.
const CERTIFICATE_DAYS: i64 = 14;

/// Where systemd puts the credentials of the service, for root to read.
const CREDENTIALS: &str = "/run/credentials/tidemill.service";

/// One step towards a broker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    /// Which: `settings`, `DNS`, `TCP`, `TLS`, `WebSocket` or `MQTT CONNECT`.
    pub name: &'static str,
    /// How long it took.
    pub took: Duration,
    /// What came of it.
    pub outcome: Outcome,
}

/// What came of a step, in words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// As it should be.
    Ok(String),
    /// It works, and something about it won't for long.
    Warn(String),
    /// It doesn't work; the text has the mend. No step follows.
    Fail(String),
}

/// Tries every step with the settings of a forwarder, up to the first that
/// fails. Nothing is published, and the session of the running gateway is left
/// alone: `client_id` must be another than the forwarder's.
pub async fn probe(config: &Config, endpoint: &Endpoint, client_id: &str) -> Vec<Step> {
    let mut steps = Vec::new();
    // The last step has failed, and is in the list, when it gives nothing.
    _ = all(config, endpoint, client_id, &mut steps).await;
    steps
}

async fn all(
    config: &Config,
    endpoint: &Endpoint,
    client_id: &str,
    steps: &mut Vec<Step>,
) -> Option<()> {
    let within = config.connect_timeout;
    let (password, connector) =
        step("settings", within, steps, async { settings(config, endpoint) }).await?;

    step("DNS", within, steps, async {
        let found = connect::resolve(endpoint).await.map_err(|error| error.to_string())?;
        let shown: Vec<String> = found.iter().map(|address| address.ip().to_string()).collect();
        Ok((Outcome::Ok(format!("{} is {}", endpoint.host, shown.join(", "))), ()))
    })
    .await?;

    let tcp = step("TCP", within, steps, async {
        let tcp = connect::tcp(endpoint).await.map_err(|error| error.to_string())?;
        let peer = tcp.peer_addr().map(|peer| peer.to_string()).unwrap_or_default();
        Ok((Outcome::Ok(format!("connected to {peer}")), tcp))
    })
    .await?;

    let stream: Stream = match connector {
        None => Box::new(tcp),
        Some((connector, seen)) => {
            step("TLS", within, steps, async {
                let connected = connect::tls(endpoint, tcp, &connector).await;
                let certificate = seen.certificate.lock().ok().and_then(|seen| seen.clone());
                match (connected, certificate) {
                    (Ok(stream), Some(certificate)) => Ok((dated(&certificate), stream)),
                    (Ok(stream), None) => Ok((Outcome::Ok("encrypted".into()), stream)),
                    (Err(error), Some(certificate)) => {
                        Err(format!("{error}; its certificate is {certificate}"))
                    }
                    (Err(error), None) => Err(error.to_string()),
                }
            })
            .await?
        }
    };

    let mut transport = if endpoint.websocket {
        step("WebSocket", within, steps, async {
            let largest = usize::try_from(config.max_packet.as_u64()).unwrap_or(usize::MAX);
            let socket = connect::websocket(config, endpoint, stream, largest).await;
            let socket = socket.map_err(|error| {
                format!("{error}; tidemill handshake {endpoint} --mqtt shows it line by line")
            })?;
            let said = format!("101, sub-protocol {}", config.subprotocol.as_str());
            Ok((Outcome::Ok(said), Transport::websocket(socket)))
        })
        .await?
    } else {
        Transport::stream(stream)
    };

    let hello = Hello {
        client_id: client_id.to_owned(),
        username: config.username.clone().unwrap_or_default(),
        password: password.unwrap_or_default(),
        keep_alive: 30,
        clean: true,
        ..Hello::default()
    };
    let connected = step("MQTT CONNECT", within, steps, async {
        handshake::connack(&mut transport, config.version, &hello)
            .await
            .map_err(|why| format!("{why} (asked as {client_id:?})"))?;
        Ok((Outcome::Ok(format!("accepted as {client_id:?}")), ()))
    })
    .await;
    _ = time::timeout(Duration::from_millis(500), transport.close()).await;
    connected
}

/// Notes what came of a step and how long it took.
async fn step<T>(
    name: &'static str,
    within: Duration,
    steps: &mut Vec<Step>,
    work: impl Future<Output = Result<(Outcome, T), String>>,
) -> Option<T> {
    let begun = Instant::now();
    let late = Err(format!("no answer within {within:?}"));
    let done = time::timeout(within, work).await.unwrap_or(late);
    let took = begun.elapsed();
    let (outcome, given) = match done {
        Ok((outcome, given)) => (outcome, Some(given)),
        Err(why) => {
            // The step's name stands before it already.
            let why = why.strip_prefix(&format!("{name}: ")).unwrap_or(&why).to_owned();
            (Outcome::Fail(why), None)
        }
    };
    steps.push(Step { name, took, outcome });
    given
}

type Settings = (Option<String>, Option<(TlsConnector, Arc<Seen>)>);

/// The password and the files, which are read before the network is touched.
fn settings(config: &Config, endpoint: &Endpoint) -> Result<(Outcome, Settings), String> {
    let password = secret::password_in(config, |name| match std::env::var_os(name) {
        None if name == "CREDENTIALS_DIRECTORY" && Path::new(CREDENTIALS).exists() => {
            Some(CREDENTIALS.into())
        }
        given => given,
    });
    let password = password.map_err(|error| error.to_string())?;
    let files = tls::Files {
        ca: config.ca.as_deref(),
        cert: config.cert.as_deref(),
        key: config.key.as_deref(),
    };
    let connector = if endpoint.tls { Some(connector(&files, endpoint)?) } else { None };
    let who = match (&config.username, &password) {
        (Some(_), Some(_)) => "a user name and a password",
        (Some(_), None) => "a user name, no password",
        (None, Some(_)) => "a password, no user name",
        (None, None) => "no user name, no password",
    };
    let own = config.cert.as_deref().map(Certificate::from_file).transpose()?;
    let outcome = match own {
        Some(own) => match dated(&own) {
            Outcome::Ok(said) => Outcome::Ok(format!("{who}; own certificate {said}")),
            other => other,
        },
        None => Outcome::Ok(who.to_owned()),
    };
    Ok((outcome, (password, connector)))
}

/// The forwarder's own connector, but for a verifier that remembers.
fn connector(
    files: &tls::Files<'_>,
    endpoint: &Endpoint,
) -> Result<(TlsConnector, Arc<Seen>), String> {
    let connector = tls::connector(files, endpoint.websocket).map_err(|error| error.to_string())?;
    let inner = tls::verifier(files).map_err(|error| error.to_string())?;
    let seen = Arc::new(Seen { inner, certificate: Mutex::default() });
    let mut client = rustls::ClientConfig::clone(connector.config());
    client.dangerous().set_certificate_verifier(Arc::clone(&seen) as _);
    Ok((TlsConnector::from(Arc::new(client)), seen))
}

/// A certificate with its dates; near its end with the mend.
fn dated(certificate: &Certificate) -> Outcome {
    match certificate.days_left(Timestamp::now()) {
        days if days < 0 => Outcome::Warn(format!("{certificate}: it has ended; renew it")),
        days if days < CERTIFICATE_DAYS => {
            Outcome::Warn(format!("{certificate}: it ends in {days} days; renew it"))
        }
        _ => Outcome::Ok(certificate.to_string()),
    }
}

/// Verifies as ever, and keeps the certificate for the report: one that is
/// refused most of all.
#[derive(Debug)]
struct Seen {
    inner: Arc<dyn ServerCertVerifier>,
    certificate: Mutex<Option<Certificate>>,
}

impl ServerCertVerifier for Seen {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        if let Ok(mut seen) = self.certificate.lock() {
            *seen = Certificate::parse(end_entity);
        }
        self.inner.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.inner.verify_tls12_signature(message, cert, dss)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.inner.verify_tls13_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.inner.supported_verify_schemes()
    }
}
