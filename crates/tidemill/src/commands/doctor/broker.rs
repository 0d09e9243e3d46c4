//! Each broker, step by step.

use dashboard::Status;
use forward::probe::{self, Outcome};
use tidemill::Config;

use super::finding::{Finding, Verdict};
use super::gateway;

pub(super) async fn probe(config: &Config, running: &Result<Status, String>) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (name, forwarder) in &config.forwarders {
        let own = || format!("{}-{name}", config.gateway.id);
        // Another than the gateway's: a broker lets in one client of a name, and
        // the running gateway would be put out.
        let client_id = forwarder.client_id.clone().unwrap_or_else(own) + "-doctor";
        let online = gateway::is_online(running, name);
        let endpoints = forwarder.endpoints();
        for (place, endpoint) in endpoints.iter().enumerate() {
            let node = if endpoints.len() > 1 { format!(" {}", place + 1) } else { String::new() };
            for step in probe::probe(forwarder, endpoint, &client_id).await {
                let probe = format!("forward {name}{node} {}", step.name);
                findings.push(finding(probe, step.outcome, online).took(step.took));
            }
        }
    }
    findings
}

/// Where the gateway itself is let in, that the doctor isn't is no failure: a
/// broker may know clients by name, or a password be the service's alone.
fn finding(probe: String, outcome: Outcome, online: bool) -> Finding {
    match outcome {
        Outcome::Ok(found) => Finding::ok(probe, found),
        Outcome::Warn(found) => Finding { verdict: Verdict::Warn, ..Finding::ok(probe, found) },
        Outcome::Fail(found) if online => {
            Finding::warn(probe, found, "the gateway itself is connected all the same")
        }
        Outcome::Fail(found) => Finding { verdict: Verdict::Fail, ..Finding::ok(probe, found) },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_of_the_doctor_alone_is_a_warning() {
        let judge = |outcome, online| finding("x".into(), outcome, online).verdict;
        assert_eq!(judge(Outcome::Fail("refused".into()), false), Verdict::Fail);
        assert_eq!(judge(Outcome::Fail("refused".into()), true), Verdict::Warn);
        assert_eq!(judge(Outcome::Warn("ends soon".into()), false), Verdict::Warn);
        assert_eq!(judge(Outcome::Ok("fine".into()), false), Verdict::Ok);
    }
}
