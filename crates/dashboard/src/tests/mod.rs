//! The dashboard from outside: real sockets, a real WebSocket client.

mod access;
mod account;
mod answers;
mod attacks;
mod description;
mod live;
mod support;
