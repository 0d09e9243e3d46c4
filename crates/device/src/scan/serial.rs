//! Serial ports, by sysfs and the names that udev gives them.

use std::collections::{HashMap, HashSet};
use std::fs;
use std::path::Path;

use serde::Serialize;

use super::{Holders, Process, attribute, entries, slug};

/// A serial port.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Port {
    /// Its path now: `/dev/ttyUSB0`.
    pub path: String,
    /// Names that outlive replugging, below `/dev/serial/by-id`.
    pub by_id: Vec<String>,
    /// The USB device it belongs to.
    pub usb: Option<Usb>,
    /// The kernel writes its messages to it, and expects a log-in there.
    pub console: bool,
    /// Who has it open.
    pub process: Option<Process>,
    /// A configuration that reads it.
    pub snippet: String,
}

/// The USB device behind a port.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Usb {
    /// Vendor and product, as `usb = "…"` has them: `2341:0043`.
    pub id: String,
    /// The number that tells it from its like.
    pub serial: Option<String>,
    /// What it calls itself.
    pub product: Option<String>,
}

pub(super) fn ports(root: &Path, holders: &Holders) -> Vec<Port> {
    let mut by_id = by_id(root);
    let mut devices = HashSet::new();
    let consoles = attribute(&root.join("sys/class/tty/console"), "active").unwrap_or_default();
    entries(&root.join("sys/class/tty"), "tty")
        .into_iter()
        .filter_map(|(name, class)| {
            // Terminals of the screen and of programs have no device.
            let interface = class.join("device").canonicalize().ok()?;
            // A PC announces 32 ports and has two: the others' type is none.
            if attribute(&class, "type").is_some_and(|kind| kind == "0") {
                return None;
            }
            let usb = interface.ancestors().find(|at| at.join("idVendor").exists()).and_then(usb);
            let path = format!("/dev/{name}");
            let mut by_id = by_id.remove(&name).unwrap_or_default();
            by_id.sort();
            let stable = by_id.first().cloned().unwrap_or_else(|| path.clone());
            let product = usb.as_ref().and_then(|usb| usb.product.clone());
            let mut device = slug(product.as_deref().unwrap_or(&name));
            if !devices.insert(device.clone()) {
                // Two of a kind, and each needs a name of its own.
                device = slug(&format!("{device}-{name}"));
            }
            Some(Port {
                process: holders.of_file(Path::new(&path)).cloned(),
                console: consoles.split_ascii_whitespace().any(|console| console == name),
                snippet: snippet(&device, &stable),
                path,
                by_id,
                usb,
            })
        })
        .collect()
}

fn snippet(device: &str, port: &str) -> String {
    format!(
        "[device.{device}]\ndriver = \"serial\"\nport = {port:?}\nbaud = 115200\n\
         format = \"json\"     # of lines such as {{\"t\":21.5}}\n[device.{device}.channel]\n\
         temperature = {{ field = \"t\", unit = \"Cel\" }}\n"
    )
}

/// The links of `/dev/serial/by-id`, by the port they lead to.
fn by_id(root: &Path) -> HashMap<String, Vec<String>> {
    let mut names: HashMap<String, Vec<String>> = HashMap::new();
    for (name, link) in entries(&root.join("dev/serial/by-id"), "") {
        let Ok(target) = fs::read_link(link) else { continue };
        let Some(port) = target.file_name().and_then(|name| name.to_str()) else { continue };
        names.entry(port.to_owned()).or_default().push(format!("/dev/serial/by-id/{name}"));
    }
    names
}

fn usb(device: &Path) -> Option<Usb> {
    let (vendor, product) = (attribute(device, "idVendor")?, attribute(device, "idProduct")?);
    Some(Usb {
        id: format!("{vendor}:{product}"),
        serial: attribute(device, "serial"),
        product: attribute(device, "product"),
    })
}
