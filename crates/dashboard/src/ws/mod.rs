//! WebSocket (RFC 6455) with permessage-deflate (RFC 7692), the server's half.
//!
//! Our own, for one reason: a server's frames aren't masked, so one frame can be
//! made, compressed once, and sent to every client as the same bytes. For that
//! the compressor starts anew with each message (`server_no_context_takeover`),
//! and so does the client's: no client costs a window of memory, and a message
//! never inflates beyond the limit of messages.

mod deflate;
mod frame;
mod inbound;
mod prepared;
mod socket;

pub(crate) use deflate::{Agreed, agree};
pub(crate) use inbound::{Event, Wrong};
pub(crate) use prepared::Prepared;
pub(crate) use socket::{Broken, Socket};

/// Why a connection is closed (section 7.4.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Code(pub(crate) u16);

impl Code {
    pub(crate) const AWAY: Code = Code(1001);
    pub(crate) const PROTOCOL: Code = Code(1002);
    pub(crate) const NOT_UTF8: Code = Code(1007);
    pub(crate) const POLICY: Code = Code(1008);
    pub(crate) const TOO_LONG: Code = Code(1009);

    /// Whether it may be sent: those that are registered, or left to libraries
    /// and applications (section 7.4.2).
    fn is_sendable(self) -> bool {
        matches!(self.0, 1000..=1003 | 1007..=1014 | 3000..=4999)
    }
}
