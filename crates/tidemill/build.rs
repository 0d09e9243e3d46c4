//! Tells the binary when it was built: no clock that is right shows an earlier
//! time.

use std::time::{SystemTime, UNIX_EPOCH};

fn main() {
    println!("cargo::rerun-if-env-changed=SOURCE_DATE_EPOCH");
    println!("cargo::rerun-if-changed=Cargo.toml");
    #[expect(clippy::disallowed_methods, reason = "a build script isn't the gateway")]
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    let given = std::env::var("SOURCE_DATE_EPOCH").ok().and_then(|text| text.parse().ok());
    println!("cargo::rustc-env=TIDEMILL_BUILT={}", given.unwrap_or(now));
}
