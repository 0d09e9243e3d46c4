//! `sqlx::migrate!` embeds the migrations but doesn't tell Cargo that it read them.

fn main() {
    println!("cargo:rerun-if-changed=../../migrations");
}
