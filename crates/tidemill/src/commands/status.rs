//! `tidemill status`.

use std::fmt::Write;

use anyhow::Context;
use dashboard::{DeviceState, LinkState, Status};
use reading::Timestamp;

use super::control::Gateway;

#[derive(clap::Args)]
pub(crate) struct Args {
    /// As one JSON object, for scripts
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    gateway: Gateway,
}

/// Prints how the running gateway is.
pub(crate) fn run(args: Args) -> anyhow::Result<()> {
    let body = super::runtime()?.block_on(args.gateway.get("/api/v1/status"))?;
    if args.json {
        return super::print(&format!("{}\n", body.trim_end()));
    }
    let status: Status = serde_json::from_str(&body)
        .context("understand the gateway's answer; is it of the same version?")?;
    super::print(&text(&status))
}

/// The status on one screen.
fn text(status: &Status) -> String {
    let now: Option<Timestamp> = status.time.parse().ok();
    let ago = |since: &str| match (now, since.parse::<Timestamp>()) {
        (Some(now), Ok(since)) => duration(now.since(since).as_secs()),
        _ => "?".to_owned(),
    };
    let mut out = String::new();
    let mut line = |text: std::fmt::Arguments<'_>| {
        out.write_fmt(text).and_then(|()| out.write_char('\n')).expect("a string takes all");
    };
    let Status { gateway, version, epoch, store, ledger, .. } = status;
    let up = duration(status.uptime_s);
    line(format_args!("{gateway}  tidemill {version}, up {up}, epoch {epoch}"));
    if !status.clock.set {
        line(format_args!("clock      NOT SET YET: times may be wrong"));
    }
    if status.clock.held > 0 {
        line(format_args!("           {} readings wait for it", status.clock.held));
    }
    let (size, max) = (size(store.size), size(store.max_size));
    line(format_args!(
        "store      {} readings, {size} of {max}, {}",
        store.readings,
        store.path.display()
    ));
    if let Some(error) = &store.error {
        line(format_args!("           NOTHING IS STORED: {error}"));
    }
    if let Some(wear) = &store.wear {
        line(format_args!("card       {}", self::wear(wear)));
    }
    let balance =
        if ledger.read == ledger.stored + ledger.dropped { "balanced" } else { "NOT BALANCED" };
    line(format_args!(
        "ledger     {} read = {} stored + {} dropped ({balance})",
        ledger.read, ledger.stored, ledger.dropped
    ));
    for loss in &store.losses {
        line(format_args!("           {} lost: {}", loss.count, loss.reason));
    }
    for of in &ledger.channels {
        line(format_args!(
            "           {}  {} read = {} stored + {} dropped",
            of.channel, of.read, of.stored, of.dropped
        ));
    }
    for forwarder in &status.forwarders {
        let why = forwarder.error.as_deref().map_or(String::new(), |error| format!(": {error}"));
        let state = match forwarder.state {
            LinkState::Online => "online",
            LinkState::Connecting => "CONNECTING",
            LinkState::Offline => "OFFLINE",
        };
        line(format_args!(
            "forwarder  {}  {state} for {}{why}",
            forwarder.name,
            ago(&forwarder.since)
        ));
        line(format_args!(
            "           {} stored = {} acknowledged + {} pending + {} dropped, to {}",
            forwarder.stored,
            forwarder.acknowledged,
            forwarder.pending,
            forwarder.dropped,
            forwarder.url
        ));
    }
    for device in &status.devices {
        let why = device.error.as_deref().map_or(String::new(), |error| format!(": {error}"));
        let state = match device.state {
            DeviceState::Ok => "ok",
            DeviceState::Opening => "OPENING",
            DeviceState::Lost => "LOST",
        };
        line(format_args!(
            "device     {} ({})  {state} for {}, {} readings, {} bad{why}",
            device.name,
            device.driver,
            ago(&device.since),
            device.readings,
            device.bad
        ));
    }
    out
}

/// What storing costs the card, and for how long it can.
fn wear(wear: &store::Wear) -> String {
    let years = match wear.life_years {
        years if years >= 100.0 => "more than 100 years".to_owned(),
        years if years >= 2.0 => format!("{years:.0} years"),
        years => format!("{:.0} months", years * 12.0),
    };
    let endurance = size(wear.endurance);
    let until = if wear.endurance_assumed {
        format!("if {endurance} may be written, {} times its size", store::CYCLES_ASSUMED)
    } else {
        format!("for {endurance} may be written")
    };
    format!(
        "{} a reading, {} a day: it lasts {years}, {until}",
        size(wear.bytes_per_reading),
        size(wear.bytes_per_day)
    )
}

/// Two units at most: `3 d 4 h`.
fn duration(seconds: u64) -> String {
    match seconds {
        0..60 => format!("{seconds} s"),
        60..3_600 => format!("{} min {} s", seconds / 60, seconds % 60),
        3_600..86_400 => format!("{} h {} min", seconds / 3_600, seconds % 3_600 / 60),
        _ => format!("{} d {} h", seconds / 86_400, seconds % 86_400 / 3_600),
    }
}

/// Binary units, as the configuration has them.
pub(super) fn size(bytes: u64) -> String {
    #[expect(clippy::cast_precision_loss, reason = "three digits are shown")]
    let bytes = bytes as f64;
    let steps = [(1024.0 * 1024.0 * 1024.0, "GiB"), (1024.0 * 1024.0, "MiB"), (1024.0, "KiB")];
    match steps.into_iter().find(|(unit, _)| bytes >= *unit) {
        Some((unit, name)) => format!("{:.1} {name}", bytes / unit),
        None => format!("{bytes} B"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_fits_one_screen() {
        let status = Status {
            gateway: "greenhouse".into(),
            version: "0.1.0".into(),
            epoch: "9f2c44e01a7b3d58".into(),
            time: "2026-11-24T08:20:03.000000Z".into(),
            started: "2026-11-21T04:20:03.000000Z".into(),
            uptime_s: 3 * 86_400 + 4 * 3_600,
            store: store::Status {
                path: "/var/lib/tidemill/tidemill.db".into(),
                size: 12 << 20,
                max_size: 2 << 30,
                readings: 250,
                losses: vec![store::Loss { reason: "store queue full".into(), count: 1 }],
                wear: Some(store::Wear {
                    bytes_per_reading: 980,
                    bytes_per_day: 846_720_000,
                    endurance: 200 << 35,
                    endurance_assumed: true,
                    life_years: 22.22,
                }),
                ..store::Status::default()
            },
            ledger: dashboard::Ledger {
                read: 251,
                stored: 250,
                dropped: 1,
                channels: vec![dashboard::ChannelLedger {
                    channel: "weather/temperature".into(),
                    read: 251,
                    stored: 250,
                    dropped: 1,
                }],
            },
            devices: vec![dashboard::DeviceStatus {
                name: "weather".into(),
                label: None,
                driver: "serial".into(),
                state: DeviceState::Lost,
                since: "2026-11-24T08:18:00.000000Z".into(),
                error: Some("/dev/ttyUSB0: no such device".into()),
                readings: 251,
                bad: 2,
                channels: Vec::new(),
            }],
            forwarders: vec![dashboard::ForwarderStatus {
                name: "cloud".into(),
                url: "wss://broker.example.com/mqtt".into(),
                state: LinkState::Offline,
                since: "2026-11-24T08:00:03.000000Z".into(),
                error: Some("connection refused".into()),
                in_flight: 0,
                stored: 250,
                acknowledged: 200,
                pending: 50,
                dropped: 0,
            }],
            ..Status::default()
        };
        expect_test::expect![[r#"
            greenhouse  tidemill 0.1.0, up 3 d 4 h, epoch 9f2c44e01a7b3d58
            clock      NOT SET YET: times may be wrong
            store      250 readings, 12.0 MiB of 2.0 GiB, /var/lib/tidemill/tidemill.db
            card       980 B a reading, 807.5 MiB a day: it lasts 22 years, if 6400.0 GiB may be written, 200 times its size
            ledger     251 read = 250 stored + 1 dropped (balanced)
                       1 lost: store queue full
                       weather/temperature  251 read = 250 stored + 1 dropped
            forwarder  cloud  OFFLINE for 20 min 0 s: connection refused
                       250 stored = 200 acknowledged + 50 pending + 0 dropped, to wss://broker.example.com/mqtt
            device     weather (serial)  LOST for 2 min 3 s, 251 readings, 2 bad: /dev/ttyUSB0: no such device
        "#]].assert_eq(&text(&status));
    }
}
