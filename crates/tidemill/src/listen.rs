//! Where the gateway can be reached: the dashboard's address, and the socket of
//! its commands.

use std::fs::{self, Permissions};
use std::io::ErrorKind;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, bail};
use tokio::net::{TcpListener, UnixListener, UnixStream};
use tokio::time;
use tracing::{info, warn};

use crate::place;

/// How often an address that can't be had is tried again.
const RETRY: Duration = Duration::from_secs(5);

/// Listens for browsers, as soon as it can: an address that another program
/// holds, or that the network has not given yet, must not stop the measuring.
pub(crate) async fn http(address: SocketAddr) -> TcpListener {
    let mut told = false;
    loop {
        match TcpListener::bind(address).await {
            Ok(listener) => {
                let address = listener.local_addr().unwrap_or(address);
                info!(%address, "dashboard listens");
                return listener;
            }
            Err(error) if !told => {
                warn!(%address, %error, "can't listen for browsers; trying again; \
                    another program may hold the port (ss -ltnp): set dashboard.listen");
                told = true;
            }
            Err(_) => (),
        }
        time::sleep(RETRY).await;
    }
}

/// Listens for commands. Only root and the gateway's own user may connect. `None`
/// where the disk can't be written: commands have to go without.
///
/// # Errors
/// When another gateway answers there, or the folder can't be written.
pub(crate) async fn control(path: &Path) -> anyhow::Result<Option<UnixListener>> {
    let name = path.display();
    if UnixStream::connect(path).await.is_ok() {
        bail!("another gateway already runs here: it answers at {name}");
    }
    match bind(path) {
        Ok(listener) => Ok(Some(listener)),
        Err(error) if error.downcast_ref().is_some_and(place::is_of_the_disk) => {
            warn!("commands such as `tidemill status` can't reach the gateway: {error:#}");
            Ok(None)
        }
        Err(error) => Err(error),
    }
}

fn bind(path: &Path) -> anyhow::Result<UnixListener> {
    let name = path.display();
    match fs::remove_file(path) {
        Err(error) if error.kind() != ErrorKind::NotFound => {
            return Err(error).with_context(|| format!("remove the old socket {name}"));
        }
        _ => (),
    }
    if let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty()) {
        fs::create_dir_all(folder).with_context(|| format!("make {}", folder.display()))?;
    }
    let listener = UnixListener::bind(path).with_context(|| format!("listen at {name}"))?;
    fs::set_permissions(path, Permissions::from_mode(0o600))
        .with_context(|| format!("close {name} to others"))?;
    Ok(listener)
}
