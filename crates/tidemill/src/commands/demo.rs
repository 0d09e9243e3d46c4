//! `tidemill demo`: the whole gateway on any machine.

use std::net::{SocketAddr, TcpListener};
use std::path::PathBuf;

use anyhow::Context;
use forward::broker::Broker;
use tidemill::Config;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

/// The configuration that the demonstration starts from; the addresses and the
/// store are set when it starts.
const CONFIG: &str = include_str!("../../../../config/demo.toml");

#[derive(clap::Args)]
pub(crate) struct Args {
    /// Where browsers connect
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:8080")]
    listen: SocketAddr,
    /// Keep the store in this folder [default: a temporary one]
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
}

/// Runs simulated devices, a store, a broker and the dashboard, and says where.
pub(crate) fn run(args: Args) -> anyhow::Result<()> {
    // Dropped at the end, and the folder with it.
    let temporary = tempfile::Builder::new().prefix("tidemill-demo-").tempdir()?;
    let data = args.data.as_deref().unwrap_or(temporary.path());
    std::fs::create_dir_all(data).with_context(|| format!("make the folder {}", data.display()))?;
    super::run::runtime()?.block_on(async {
        let broker = Broker::bind(([127, 0, 0, 1], 0).into()).await.context("start the broker")?;
        let mut config = Config::parse(CONFIG, "config/demo.toml".as_ref())?;
        config.store.path = data.join("tidemill.db");
        config.dashboard.listen = free(args.listen)?;
        for forwarder in config.forwarders.values_mut() {
            forwarder.url = Some(broker.url());
        }
        announce(&config, &broker.url())?;
        let shutdown = super::run::shutdown()?;
        let stop = CancellationToken::new();
        let gateway = async {
            let _stop_broker = stop.clone().drop_guard();
            // Nothing changes a demonstration.
            let (_, changes) = mpsc::channel(1);
            tidemill::run(config, changes, shutdown).await
        };
        let (gateway, ()) = tokio::join!(gateway, broker.run(stop.clone()));
        gateway.map(drop)
    })
}

/// The address with its port, chosen now if it was 0: it is printed before the
/// gateway listens, and a port in use is told before anything starts.
fn free(listen: SocketAddr) -> anyhow::Result<SocketAddr> {
    let listener = TcpListener::bind(listen)
        .with_context(|| format!("listen on {listen}; choose another with --listen"))?;
    Ok(listener.local_addr()?)
}

fn announce(config: &Config, broker: &str) -> anyhow::Result<()> {
    let listen = config.dashboard.listen;
    let topics = format!("tidemill/{}/#", config.gateway.id);
    super::print(&format!(
        "Tidemill demo: simulated devices, a real store, a real broker. Ctrl-C ends it.\n\
         \n  dashboard  http://{listen}/\
         \n  feed       ws://{listen}/api/v1/live\
         \n  broker     {broker}  (MQTT over WebSocket, sub-protocol mqtt, topics {topics})\
         \n  store      {}\n\n",
        config.store.path.display(),
    ))
}
