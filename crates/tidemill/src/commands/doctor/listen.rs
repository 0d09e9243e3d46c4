//! Whether browsers can be listened for, and the certificate they are shown.

use std::io::ErrorKind;
use std::net::TcpListener;

use forward::Certificate;
use reading::Timestamp;

use super::finding::Finding;
use super::machine::Machine;

/// A certificate that ends sooner is worth a warning.
const CERTIFICATE_DAYS: i64 = 14;

pub(super) fn probe(machine: &Machine, config: &dashboard::Config) -> Vec<Finding> {
    let mut findings = vec![address(machine, config)];
    if let Some(tls) = &config.tls {
        findings.push(certificate(&tls.cert));
    }
    findings
}

fn address(machine: &Machine, config: &dashboard::Config) -> Finding {
    let listen = config.listen;
    let error = match TcpListener::bind(listen) {
        Ok(_) => return Finding::ok("dashboard", format!("{listen} is free")),
        Err(error) => error,
    };
    let port = listen.port();
    match (error.kind(), machine.holders.of_port(port)) {
        (ErrorKind::AddrInUse, Some(holder)) if holder.name == "tidemill" => {
            Finding::ok("dashboard", format!("{listen} is served by {holder}"))
        }
        (ErrorKind::AddrInUse, Some(holder)) => Finding::fail(
            "dashboard",
            format!("port {port} is held by {holder}"),
            "end that program, or set dashboard.listen to another port, such as 0.0.0.0:8081",
        ),
        (ErrorKind::AddrInUse, None) => Finding::warn(
            "dashboard",
            format!("port {port} is in use, perhaps by the running gateway"),
            format!("sudo ss -ltnp 'sport = :{port}' shows by whom; or set dashboard.listen"),
        ),
        (ErrorKind::AddrNotAvailable, _) => Finding::fail(
            "dashboard",
            format!("{} is not an address of this machine", listen.ip()),
            "set dashboard.listen to 0.0.0.0:8080 for all of them; ip addr shows each",
        ),
        (ErrorKind::PermissionDenied, _) => Finding::fail(
            "dashboard",
            format!("{listen}: ports below 1024 are root's"),
            "set dashboard.listen to a port such as 8080",
        ),
        _ => Finding::fail(
            "dashboard",
            format!("{listen} can't be listened on: {error}"),
            "set dashboard.listen",
        ),
    }
}

fn certificate(path: &std::path::Path) -> Finding {
    let certificate = match Certificate::from_file(path) {
        Ok(certificate) => certificate,
        Err(error) => return Finding::fail("dashboard TLS", error, "set dashboard.tls"),
    };
    match certificate.days_left(Timestamp::now()) {
        days if days < 0 => {
            Finding::fail("dashboard TLS", format!("{certificate}: it has ended"), "renew it")
        }
        days if days < CERTIFICATE_DAYS => {
            let found = format!("{certificate}: it ends in {days} days");
            Finding::warn("dashboard TLS", found, "renew it")
        }
        _ => Finding::ok("dashboard TLS", certificate.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::super::finding::Verdict;
    use super::super::machine::tests::Fake;
    use super::*;

    #[test]
    fn a_port_in_use_names_its_holder() {
        let taken = TcpListener::bind("127.0.0.1:0").unwrap();
        let listen = taken.local_addr().unwrap();
        let config = dashboard::Config { listen, ..dashboard::Config::default() };
        let fake = Fake::new();
        let unknown = address(&fake.machine(), &config);
        assert_eq!(unknown.verdict, Verdict::Warn, "{}", unknown.found);
        let row = format!(
            "  0: 0100007F:{:04X} 00000000:0000 0A 00000000:00000000 00:00000000 00000000 0 0 99 1\n",
            listen.port()
        );
        fake.put("proc/net/tcp", &row).process(12, "nginx", &["socket:[99]"]);
        let held = address(&fake.machine(), &config);
        assert_eq!(held.verdict, Verdict::Fail);
        assert!(held.found.contains("nginx (process 12)"), "{}", held.found);
        fake.put("proc/12/comm", "tidemill\n");
        assert_eq!(address(&fake.machine(), &config).verdict, Verdict::Ok);
        drop(taken);
        assert_eq!(address(&fake.machine(), &config).verdict, Verdict::Ok);
    }

    #[test]
    fn an_address_of_another_machine_and_a_file_that_is_no_certificate() {
        let machine = Fake::new().machine();
        let listen = "203.0.113.9:8080".parse().unwrap();
        let mut config = dashboard::Config { listen, ..dashboard::Config::default() };
        let foreign = address(&machine, &config);
        assert!(foreign.found.contains("203.0.113.9 is not an address"), "{}", foreign.found);
        let place = std::path::PathBuf::from("/nowhere/cert.pem");
        config.tls = Some(dashboard::Tls { cert: place.clone(), key: place });
        let found = probe(&machine, &config);
        assert_eq!(found[1].verdict, Verdict::Fail);
        assert!(found[1].found.contains("/nowhere/cert.pem"), "{}", found[1].found);
    }
}
