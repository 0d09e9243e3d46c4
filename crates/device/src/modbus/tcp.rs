//! Modbus over TCP (TCP/IP, 3.1.3: the MBAP header).

use std::io;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::time;

use super::{Telegram, Trouble};

/// A header says at most so many bytes: the unit and a PDU (protocol, 4.1).
const LENGTH_MAX: usize = 254;

/// A connection. After any trouble but a refusal it is to be dropped: what is
/// still to come on it would be in the way.
#[derive(Debug)]
pub(super) struct Tcp<S> {
    stream: S,
    transaction: u16,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Tcp<S> {
    pub(super) fn over(stream: S) -> Tcp<S> {
        Tcp { stream, transaction: 0 }
    }

    /// Asks a unit; `patience` is how long the answer may take.
    pub(super) async fn ask(
        &mut self,
        unit: u8,
        request: Telegram<'_>,
        patience: Duration,
    ) -> Result<Vec<u8>, Trouble> {
        let exchange = time::timeout(patience, self.exchange(unit, request));
        exchange.await.unwrap_or(Err(Trouble::Silence))
    }

    async fn exchange(&mut self, unit: u8, request: Telegram<'_>) -> Result<Vec<u8>, Trouble> {
        self.transaction = self.transaction.wrapping_add(1);
        let [high, low] = self.transaction.to_be_bytes();
        let pdu = request.pdu();
        let mut sent = vec![high, low, 0, 0, 0, 1 + pdu.len() as u8, unit];
        sent.extend(pdu);
        self.stream.write_all(&sent).await?;
        loop {
            let mut header = [0; 6];
            self.stream.read_exact(&mut header).await?;
            let [first, second, protocol_high, protocol_low, length_high, length_low] = header;
            let length = usize::from(u16::from_be_bytes([length_high, length_low]));
            if [protocol_high, protocol_low] != [0, 0] || !(3..=LENGTH_MAX).contains(&length) {
                return Err(io::Error::from(io::ErrorKind::InvalidData).into());
            }
            let mut body = vec![0; length];
            self.stream.read_exact(&mut body).await?;
            // The answer to a question that nobody asks any more.
            if [first, second] != [high, low] {
                continue;
            }
            let answer = (body[0] == unit).then(|| request.answer(&body[1..])).flatten();
            return match answer {
                Some(answer) => answer.map(<[u8]>::to_vec).map_err(Trouble::Exception),
                None => Err(Trouble::Garbled(length)),
            };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Exception, Request, Table};
    use super::*;

    const PATIENCE: Duration = Duration::from_millis(100);

    #[tokio::test(start_paused = true)]
    async fn an_answer_bears_its_questions_number() {
        let (ours, mut server) = tokio::io::duplex(1024);
        let mut tcp = Tcp::over(ours);
        let request = Request { table: Table::Input, at: 8, count: 1 };
        let serving = async {
            let mut frame = [0; 12];
            server.read_exact(&mut frame).await.unwrap();
            assert_eq!(frame, [0, 1, 0, 0, 0, 6, 17, 4, 0, 8, 0, 1]);
            // Late, to another question; then the right one.
            server.write_all(&[9, 9, 0, 0, 0, 5, 17, 4, 2, 6, 6]).await.unwrap();
            server.write_all(&[0, 1, 0, 0, 0, 5, 17, 4, 2, 0, 10]).await.unwrap();
            server.read_exact(&mut frame).await.unwrap();
            server.write_all(&[0, 2, 0, 0, 0, 3, 17, 0x84, 2]).await.unwrap();
            server.read_exact(&mut frame).await.unwrap();
            server.write_all(&[0, 3, 0, 0, 0, 5, 18, 4, 2, 0, 10]).await.unwrap();
            server.read_exact(&mut frame).await.unwrap();
            server.write_all(b"HTTP/1.1 400 Bad Request").await.unwrap();
        };
        let asking = async {
            let mut ask = async || tcp.ask(17, Telegram::Read(&request), PATIENCE).await;
            assert_eq!(ask().await.unwrap(), [0, 10]);
            let refused = ask().await;
            assert!(matches!(refused, Err(Trouble::Exception(Exception(2)))), "{refused:?}");
            let another = ask().await;
            assert!(matches!(another, Err(Trouble::Garbled(5))), "{another:?}");
            let foreign = ask().await;
            assert!(matches!(foreign, Err(Trouble::Gone(_))), "{foreign:?}");
        };
        tokio::join!(asking, serving);
    }

    #[tokio::test(start_paused = true)]
    async fn silence_ends() {
        let (ours, _server) = tokio::io::duplex(1024);
        let request = Request { table: Table::Coil, at: 0, count: 1 };
        let silent = Tcp::over(ours).ask(1, Telegram::Read(&request), PATIENCE).await;
        assert!(matches!(silent, Err(Trouble::Silence)), "{silent:?}");
    }
}
