/// How a broker misbehaves: what real ones and real networks have been seen to
/// do. The default is to behave.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Behaviour {
    /// CONNACK with this code instead of 0: one of MQTT 3.1.1's (1 to 5) or of
    /// MQTT 5's (0x80 and up).
    pub refuse: Option<u8>,
    /// Close right after a CONNACK that let the client in.
    pub close_at_once: bool,
    /// Receive Maximum (MQTT 5): more than so many unacknowledged publishes end
    /// the connection.
    pub receive_maximum: Option<u16>,
    /// Maximum Packet Size (MQTT 5): a larger packet ends the connection.
    pub maximum_packet_size: Option<u32>,
    /// Server Keep Alive (MQTT 5), seconds.
    pub keep_alive: Option<u16>,
    /// Never acknowledge a publish.
    pub withhold_pubacks: bool,
    /// Acknowledge what came together in reverse order.
    pub reverse_pubacks: bool,
    /// Acknowledge each publish twice, and one that was never sent.
    pub double_pubacks: bool,
    /// Acknowledge with this reason (MQTT 5) and deliver nothing.
    pub puback_reason: Option<u8>,
    /// The same for publishes whose payload holds this text alone.
    pub refuse_on: Option<(String, u8)>,
    /// Never acknowledge a publish whose payload holds this text.
    pub lose_puback_on: Option<String>,
    /// Say in CONNACK that an earlier session is resumed, which it never is.
    pub claim_session: bool,
    /// Close without a word after so many publishes on a connection.
    pub close_after: Option<u64>,
    /// Close without a word on a publish whose payload holds this text.
    pub close_on: Option<String>,
    /// Neither read nor write, and keep the connection open: a peer that was
    /// stopped, a cable that was pulled.
    pub silent: bool,
    /// Answer no PINGREQ.
    pub withhold_pings: bool,
}
