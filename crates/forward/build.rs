//! When the program was built: no certificate is checked against an earlier
//! time. `SOURCE_DATE_EPOCH` stands for it in a build that is to be repeated.

use std::time::{SystemTime, UNIX_EPOCH};

fn main() {
    println!("cargo::rerun-if-env-changed=SOURCE_DATE_EPOCH");
    println!("cargo::rerun-if-changed=Cargo.toml");
    let given = std::env::var("SOURCE_DATE_EPOCH").ok().and_then(|text| text.parse().ok());
    #[expect(clippy::disallowed_methods, reason = "the date of the build, not of a reading")]
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    println!("cargo::rustc-env=BUILT={}", given.unwrap_or(now));
}
