use proptest::prelude::*;
use tokio::io::DuplexStream;

use super::super::Table;
use super::*;

const PATIENCE: Duration = Duration::from_millis(100);

fn holding(at: u16, count: u16) -> Request {
    Request { table: Table::Holding, at, count }
}

/// A slave's answer to a question in the spec's order: each register holds its
/// own number.
fn numbers(address: u8, at: u16, count: u16) -> Vec<u8> {
    let mut frame = vec![address, 3, 2 * count as u8];
    frame.extend((at..at + count).flat_map(u16::to_be_bytes));
    frame.extend(crc(&frame));
    frame
}

fn line() -> (Rtu<DuplexStream>, DuplexStream) {
    let (ours, theirs) = tokio::io::duplex(4096);
    (Rtu::over(ours, 115_200), theirs)
}

/// The next question: its address, first register and count.
async fn asked(slave: &mut DuplexStream) -> (u8, u16, u16) {
    let mut frame = [0; 8];
    slave.read_exact(&mut frame).await.unwrap();
    assert_eq!(crc(&frame[..6]), frame[6..], "a good question");
    let word = |at: usize| u16::from_be_bytes([frame[at], frame[at + 1]]);
    (frame[0], word(2), word(4))
}

/// The example of serial line, 6.2.2, and one of a real meter.
#[test]
fn the_checksum_is_that_of_the_specification() {
    assert_eq!(crc(&[0x02, 0x07]), [0x41, 0x12]);
    assert_eq!(frame(1, Telegram::Read(&holding(0, 10))), [1, 3, 0, 0, 0, 10, 0xc5, 0xcd]);
}

#[tokio::test(start_paused = true)]
async fn an_answer_is_found_behind_noise_an_echo_and_others_answers() {
    let (mut rtu, mut slave) = line();
    slave.write_all(b"\xff\x00old").await.unwrap();
    let answering = async {
        assert_eq!(asked(&mut slave).await, (7, 10, 2));
        for bytes in
            [frame(7, Telegram::Read(&holding(10, 2))), numbers(8, 10, 2), numbers(7, 90, 1)]
        {
            slave.write_all(&bytes).await.unwrap();
        }
        let mut wrong = numbers(7, 66, 2);
        wrong[4] ^= 1;
        slave.write_all(&wrong).await.unwrap();
        for byte in numbers(7, 10, 2) {
            slave.write_all(&[byte]).await.unwrap();
            time::sleep(Duration::from_millis(1)).await;
        }
    };
    let request = holding(10, 2);
    let (answer, ()) = tokio::join!(rtu.ask(7, Telegram::Read(&request), PATIENCE), answering);
    assert_eq!(answer.unwrap(), [0, 10, 0, 11]);
}

#[tokio::test(start_paused = true)]
async fn a_late_answer_is_never_taken_for_anothers() {
    let (mut rtu, mut slave) = line();
    let (first, second) = (holding(0, 2), holding(10, 2));
    let silent = rtu.ask(1, Telegram::Read(&first), PATIENCE).await;
    assert!(matches!(silent, Err(Trouble::Silence)), "{silent:?}");
    let slow = async {
        let (_, at, count) = asked(&mut slave).await;
        // The spacer is there: only now comes the answer to the first question.
        let spacer = asked(&mut slave).await;
        assert_eq!(spacer, (1, 10, 1));
        slave.write_all(&numbers(1, at, count)).await.unwrap();
        slave.write_all(&numbers(1, 10, 1)).await.unwrap();
        assert_eq!(asked(&mut slave).await, (1, 10, 2));
        slave.write_all(&numbers(1, 10, 2)).await.unwrap();
        // Everything is answered: the next needs no spacer.
        assert_eq!(asked(&mut slave).await, (1, 0, 2));
        slave.write_all(&numbers(1, 0, 2)).await.unwrap();
    };
    let asking = async {
        assert_eq!(rtu.ask(1, Telegram::Read(&second), PATIENCE).await.unwrap(), [0, 10, 0, 11]);
        assert_eq!(rtu.ask(1, Telegram::Read(&first), PATIENCE).await.unwrap(), [0, 0, 0, 1]);
    };
    tokio::join!(asking, slow);
}

#[tokio::test(start_paused = true)]
async fn a_question_dropped_half_way_is_still_owed() {
    let (mut rtu, mut slave) = line();
    let dropped =
        time::timeout(PATIENCE / 2, rtu.ask(1, Telegram::Read(&holding(0, 1)), PATIENCE)).await;
    assert!(dropped.is_err());
    assert_eq!(asked(&mut slave).await, (1, 0, 1));
    let answering = async {
        assert_eq!(asked(&mut slave).await, (1, 10, 2), "a spacer");
        // It refuses, after it has answered the old question.
        slave.write_all(&numbers(1, 0, 1)).await.unwrap();
        let mut refusal = vec![1, 0x83, 2];
        refusal.extend(crc(&refusal));
        slave.write_all(&refusal).await.unwrap();
        assert_eq!(asked(&mut slave).await, (1, 10, 1));
        slave.write_all(&numbers(1, 10, 1)).await.unwrap();
    };
    let request = holding(10, 1);
    let (answer, ()) = tokio::join!(rtu.ask(1, Telegram::Read(&request), PATIENCE), answering);
    assert_eq!(answer.unwrap(), [0, 10]);
}

#[tokio::test(start_paused = true)]
async fn another_slaves_debts_are_its_own_and_silence_is_told_from_noise() {
    let (mut rtu, mut slave) = line();
    assert!(rtu.ask(1, Telegram::Read(&holding(0, 1)), PATIENCE).await.is_err());
    asked(&mut slave).await;
    let answering = async {
        assert_eq!(asked(&mut slave).await, (2, 0, 1), "no spacer for another slave");
        slave.write_all(&numbers(1, 0, 1)).await.unwrap();
        slave.write_all(&numbers(2, 5, 1)).await.unwrap();
        asked(&mut slave).await;
        slave.write_all(b"noise").await.unwrap();
        asked(&mut slave).await;
        let mut refusal = vec![3, 0x83, 2];
        refusal.extend(crc(&refusal));
        slave.write_all(&refusal).await.unwrap();
    };
    let asking = async {
        assert_eq!(rtu.ask(2, Telegram::Read(&holding(0, 1)), PATIENCE).await.unwrap(), [0, 5]);
        let noise = rtu.ask(2, Telegram::Read(&holding(0, 1)), PATIENCE).await;
        assert!(matches!(noise, Err(Trouble::Garbled(5))), "{noise:?}");
        let refused = rtu.ask(3, Telegram::Read(&holding(0, 1)), PATIENCE).await;
        assert!(matches!(refused, Err(Trouble::Exception(Exception(2)))), "{refused:?}");
    };
    tokio::join!(asking, answering);
    drop(slave);
    let gone = rtu.ask(1, Telegram::Read(&holding(0, 1)), PATIENCE).await;
    assert!(matches!(gone, Err(Trouble::Gone(_))), "{gone:?}");
}

proptest! {
    /// Whatever is on the line: no panic, and nothing but a frame with the right
    /// address, function, length and checksum is an answer.
    #[test]
    fn only_a_whole_answer_is_one(
        before in prop::collection::vec(any::<u8>(), 0..40),
        flip in prop::option::of((0usize..9, 0u8..8)),
        after in prop::collection::vec(any::<u8>(), 0..40),
    ) {
        let request = holding(3, 2);
        let mut good = numbers(9, 3, 2);
        if let Some((at, bit)) = flip {
            good[at] ^= 1 << bit;
        }
        let heard = [before.clone(), good.clone(), after].concat();
        match (answer(&heard, 9, Telegram::Read(&request)), flip) {
            (Some((Ok(data), end)), None) if end == before.len() + good.len() => {
                prop_assert_eq!(data, vec![0, 3, 0, 4]);
            }
            (None, Some(_)) => {}
            // Chance made another whole frame of the noise.
            (Some((_, end)), _) => {
                let frame = &heard[..end];
                let (body, sum) = frame.split_last_chunk::<2>().unwrap();
                prop_assert!((0..body.len()).any(|from| crc(&body[from..]) == *sum));
            }
            (None, None) => prop_assert!(false, "the answer was not found"),
        }
    }
}
