//! The forwarder against the embedded broker, with a real store between.

mod broker;
mod commands;
mod forwarding;
mod handshake;
mod lanes;
mod misbehaving;
mod probe;
mod sparkplug;
mod support;
mod tls;
