//! The addresses under which a person reaches the page, for the one-time link.

use std::net::{IpAddr, SocketAddr};

use nix::ifaddrs::getifaddrs;
use nix::net::if_::InterfaceFlags;
use tracing::{info, warn};

use crate::access::Access;

/// Addresses that are shown: a machine with containers has dozens.
const SHOWN_MAX: usize = 4;

/// Where the page is.
pub(crate) struct Links {
    secure: bool,
    host_name: String,
    listen: SocketAddr,
}

impl Links {
    pub(crate) fn new(secure: bool, host_name: &str, listen: SocketAddr) -> Links {
        let host_name = host_name.trim().split('.').next().unwrap_or_default().to_owned();
        Links { secure, host_name, listen }
    }

    /// While there is no password, tells whoever reads the log how to set it.
    pub(crate) fn welcome(&self, access: &Access) {
        if access.is_set() {
            return;
        }
        match access.link() {
            Ok(token) => info!(
                "no password is set yet: within an hour open {} (later: tidemill passwd)",
                self.with(&token).join(" or ")
            ),
            Err(refusal) => warn!(error = refusal.reason, "cannot make a link for the password"),
        }
    }

    /// The link with this token under each name and address. The token stands
    /// behind the `#`, which no browser sends: it gets into no log of a proxy.
    pub(crate) fn with(&self, token: &str) -> Vec<String> {
        let scheme = if self.secure { "https" } else { "http" };
        let port = match (self.secure, self.listen.port()) {
            (false, 80) | (true, 443) => String::new(),
            (_, port) => format!(":{port}"),
        };
        let of = |host: String| format!("{scheme}://{host}{port}/#/setup?token={token}");
        self.hosts(&addresses()).into_iter().map(of).collect()
    }

    fn hosts(&self, own: &[IpAddr]) -> Vec<String> {
        let listen = self.listen.ip();
        if !listen.is_unspecified() {
            return vec![bracketed(listen)];
        }
        let name = (!self.host_name.is_empty()).then(|| format!("{}.local", self.host_name));
        let own = own.iter().filter(|address| listen.is_ipv6() || address.is_ipv4());
        let hosts: Vec<_> = name
            .into_iter()
            .chain(own.map(|&address| bracketed(address)))
            .take(SHOWN_MAX)
            .collect();
        if hosts.is_empty() { vec!["localhost".to_owned()] } else { hosts }
    }
}

fn bracketed(address: IpAddr) -> String {
    match address {
        IpAddr::V4(v4) => v4.to_string(),
        IpAddr::V6(v6) => format!("[{v6}]"),
    }
}

/// This machine's addresses, IPv4 first; none when the kernel doesn't tell.
fn addresses() -> Vec<IpAddr> {
    let up = |flags: InterfaceFlags| {
        flags.contains(InterfaceFlags::IFF_UP) && !flags.contains(InterfaceFlags::IFF_LOOPBACK)
    };
    let all = getifaddrs().into_iter().flatten().filter(|interface| up(interface.flags));
    let addresses = all.filter_map(|interface| {
        let address = interface.address?;
        let v4 = address.as_sockaddr_in().map(|a| IpAddr::V4(a.ip()));
        v4.or_else(|| address.as_sockaddr_in6().map(|a| IpAddr::V6(a.ip())))
    });
    // A link-local address needs the name of an interface beside it.
    let usable =
        |address: &IpAddr| !matches!(address, IpAddr::V6(v6) if v6.is_unicast_link_local());
    let mut found: Vec<_> = addresses.filter(usable).collect();
    found.sort_by_key(IpAddr::is_ipv6);
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_link_has_the_names_and_addresses_that_work() {
        let own: Vec<IpAddr> = vec!["192.168.1.20".parse().unwrap(), "fd00::7".parse().unwrap()];
        let hosts =
            |listen: &str| Links::new(false, "pi4.lan\n", listen.parse().unwrap()).hosts(&own);
        assert_eq!(hosts("0.0.0.0:8080"), ["pi4.local", "192.168.1.20"]);
        assert_eq!(hosts("[::]:8080"), ["pi4.local", "192.168.1.20", "[fd00::7]"]);
        assert_eq!(hosts("127.0.0.1:8080"), ["127.0.0.1"]);
        let link = |secure, listen: &str| {
            Links::new(secure, "pi", listen.parse().unwrap()).with("abc").remove(0)
        };
        assert_eq!(link(false, "127.0.0.1:8080"), "http://127.0.0.1:8080/#/setup?token=abc");
        assert_eq!(link(true, "[::1]:443"), "https://[::1]/#/setup?token=abc");
    }
}
