//! The gateway from outside: the real binary, with a real serial line, broker,
//! browser and store around it.

#![expect(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "a test may panic, sleep and start threads: it is not the gateway"
)]

mod access;
mod alarms;
mod apply;
mod backlog;
mod clock;
mod command;
mod consumer;
mod crash;
mod delivery;
mod disk;
mod doctor;
mod feed;
mod history;
mod house;
mod isolation;
mod kills;
mod ledger;
mod login;
mod losses;
mod meters;
mod modbus;
mod noise;
mod outage;
mod outputs;
mod page;
mod recordings;
mod reload;
mod serial;
mod sparkplug;
#[expect(dead_code, reason = "the benchmark uses the rest")]
mod support;
