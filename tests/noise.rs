//! What a serial line may do without anybody losing a good line.

use std::hash::{BuildHasher as _, Hasher as _};

use crate::support::{Home, Port};

#[test]
fn good_lines_are_read_after_any_noise() {
    let mut port = Port::new();
    let home = Home::new(&port.config());
    let gateway = home.start();
    port.opened();
    let mut feed = gateway.feed();
    let mut n = 0;
    let mut good_line = |port: &mut Port, what: &str| {
        n += 1;
        // The end of the noise's own line first: what stands before it is lost.
        port.write(b"\n");
        port.line(&format!("{{\"n\":{n}}}"));
        let reading = feed.reading("weather/n", |r| r["value"].as_f64() == Some(f64::from(n)));
        assert_eq!(reading["quality"], "good", "after {what}");
    };
    good_line(&mut port, "nothing");
    port.write(&random(100_000));
    good_line(&mut port, "random bytes");
    port.write(&[0; 5_000]);
    good_line(&mut port, "NULs, as a sensor sends while it starts");
    port.write(&vec![b'x'; 1 << 20]);
    good_line(&mut port, "1 MiB without a newline");
    port.write(b"{\"n\":\"text\"}\n{\"m\":1}\n{\"n\":1e999}\n{\"n\":null}\n[]\n\n\r\n{\"n\":");
    good_line(&mut port, "JSON that isn't the sensor's");
    port.write("{\"n\":3}\u{fffd}\r\n".repeat(50).as_bytes());
    good_line(&mut port, "lines with rubbish behind them");

    gateway.device_is("weather", "ok");
    assert!(!gateway.log().contains("panicked"), "{}", gateway.log());
    // It listens, and doesn't talk back.
    assert_eq!(port.heard(), b"");
}

#[test]
fn noise_is_said_once_and_not_a_line_each() {
    let mut port = Port::new();
    let home = Home::new(&port.config());
    let gateway = home.start();
    port.opened();
    let before = gateway.log().lines().count();
    for _ in 0..2_000 {
        port.line("what is this");
    }
    port.line("{\"n\":1}");
    gateway.feed().reading("weather/n", |_| true);
    let lines = gateway.log().lines().count() - before;
    assert!(lines < 20, "{lines} lines of log for 2,000 of noise:\n{}", gateway.log());
}

fn random(n: usize) -> Vec<u8> {
    let mut state = std::hash::RandomState::new().build_hasher().finish() | 1;
    eprintln!("random bytes from {state}");
    let mut next = || {
        // xorshift64: Marsaglia, 2003.
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()[3]
    };
    (0..n).map(|_| next()).collect()
}
