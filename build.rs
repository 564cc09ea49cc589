//! Rebuilds the library when a built-in model is added or removed.
fn main() {
    println!("cargo::rerun-if-changed=queries");
}
