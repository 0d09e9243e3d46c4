//! The forwarder against the embedded broker, with a real store between.

mod broker;
mod forwarding;
mod handshake;
mod misbehaving;
mod probe;
mod support;
mod tls;
