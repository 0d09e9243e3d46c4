//! The package on a real Debian with systemd: in a container (native speed) and
//! in a virtual machine (GPIO, serial ports, power cuts).

mod checks;
mod container;
mod guest;
mod sensors;
mod trial;
mod vm;

pub(crate) use container::command as container;
pub(crate) use trial::Trial;
pub(crate) use vm::command as vm;
