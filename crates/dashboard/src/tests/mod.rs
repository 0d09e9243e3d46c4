//! The dashboard from outside: real sockets, a real WebSocket client.

mod access;
mod answers;
mod attacks;
mod live;
mod support;
