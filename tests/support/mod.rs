//! What stands around the gateway: [`Home`] and [`Gateway`] run the real binary,
//! [`Port`] is the serial line of its sensor, [`Broker`] a real mosquitto with
//! its [`Subscriber`], [`Feed`] a WebSocket client and [`Browser`] a real
//! Chromium.

mod backlog;
mod broker;
mod browser;
mod feed;
mod gateway;
pub(crate) mod http;
mod metronome;
mod port;
mod subscriber;
mod wait;

pub(crate) use broker::Broker;
pub(crate) use browser::Browser;
pub(crate) use feed::Feed;
pub(crate) use gateway::{Gateway, Home, binary};
pub(crate) use metronome::Metronome;
pub(crate) use port::Port;
pub(crate) use subscriber::{Message, Subscriber};
pub(crate) use wait::{PATIENCE, eventually, free_port};
