//! How the running gateway is, by its own word.

use std::path::Path;

use dashboard::{DeviceState, LinkState, Status};

use super::super::control::Gateway;
use super::finding::Finding;

/// Its status, or why there is none.
pub(super) async fn ask(path: &Path) -> Result<Status, String> {
    let body =
        Gateway::of(path).get("/api/v1/status").await.map_err(|error| format!("{error:#}"))?;
    serde_json::from_str(&body).map_err(|error| format!("its answer isn't understood: {error}"))
}

pub(super) fn findings(running: &Result<Status, String>) -> Vec<Finding> {
    let status = match running {
        Ok(status) => status,
        Err(why) => {
            return vec![Finding::warn("gateway", why.clone(), "sudo systemctl start tidemill")];
        }
    };
    let mut findings = Vec::new();
    let mut wrong = |what: String, mend: &str| findings.push(Finding::fail("gateway", what, mend));
    if let Some(error) = &status.store.error {
        wrong(format!("nothing is stored: {error}"), "see store and disk above");
    }
    for device in &status.devices {
        if device.state == DeviceState::Lost {
            let why = device.error.as_deref().unwrap_or("no reason is known");
            wrong(format!("device {} is lost: {why}", device.name), "see that device above");
        }
    }
    for forwarder in &status.forwarders {
        if forwarder.state == LinkState::Offline {
            let why = forwarder.error.as_deref().unwrap_or("no reason is known");
            wrong(
                format!("forwarder {} is offline: {why}", forwarder.name),
                "see that forwarder below",
            );
        }
    }
    let ledger = &status.ledger;
    if ledger.read != ledger.stored + ledger.dropped {
        wrong("its ledger doesn't balance".to_owned(), "this is a bug: send a tidemill report");
    }
    if findings.is_empty() {
        let said = format!("{} runs tidemill {}, all well", status.gateway, status.version);
        findings.push(Finding::ok("gateway", said));
    }
    findings
}

/// Whether it is connected as this forwarder now.
pub(super) fn is_online(running: &Result<Status, String>, forwarder: &str) -> bool {
    let Ok(status) = running else { return false };
    status.forwarders.iter().any(|f| f.name == forwarder && f.state == LinkState::Online)
}

#[cfg(test)]
mod tests {
    use dashboard::Ledger;

    use super::super::finding::Verdict;
    use super::*;

    #[test]
    fn what_is_wrong_with_the_running_gateway_is_told() {
        assert_eq!(findings(&Err("nobody".into()))[0].verdict, Verdict::Warn);
        let mut status = Status::default();
        assert_eq!(findings(&Ok(status.clone()))[0].verdict, Verdict::Ok);
        status.store.error = Some("disk full".into());
        status.ledger = Ledger { read: 2, stored: 1, ..Ledger::default() };
        status.devices = serde_json::from_value(serde_json::json!([{
            "name": "weather", "driver": "serial", "state": "lost", "since": "", "readings": 0,
            "error": "unplugged", "bad": 0, "channels": [],
        }]))
        .unwrap();
        status.forwarders = serde_json::from_value(serde_json::json!([{
            "name": "cloud", "url": "", "state": "offline", "since": "", "error": null,
            "in_flight": 0, "stored": 0, "acknowledged": 0, "pending": 0, "dropped": 0,
        }]))
        .unwrap();
        let found = findings(&Ok(status));
        let said: Vec<&str> = found.iter().map(|finding| finding.found.as_str()).collect();
        assert_eq!(
            said,
            [
                "nothing is stored: disk full",
                "device weather is lost: unplugged",
                "forwarder cloud is offline: no reason is known",
                "its ledger doesn't balance",
            ]
        );
    }
}
