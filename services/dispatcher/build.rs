//! Rebuilds when a migration is added: the compiler itself sees only those that it read before.

fn main() {
    println!("cargo::rerun-if-changed=../../migrations/dispatcher");
}
