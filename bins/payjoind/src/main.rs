//! bins/payjoind
fn main() {}
