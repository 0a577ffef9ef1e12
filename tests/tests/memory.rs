//! Nothing is left behind at the boundary. Alone in its file, so that no other test's memory is counted.

use guard_sdk::{Kind, Network};
use guard_tests::{Bench, Examples};
use serde_json::json;
use std::fs;

const CALLS: usize = 100_000;
/// Room for the allocator; a single forgotten pointer a call would be more.
const ALLOWED: i64 = 2 << 20;

/// Resident memory of this process in bytes.
fn resident() -> i64 {
    let statm = fs::read_to_string("/proc/self/statm").expect("a Linux process can read its own size");
    let pages: i64 =
        statm.split(' ').nth(1).expect("the second field is the resident size").parse().expect("a number");
    pages * 4096
}

#[test]
fn a_hundred_thousand_crossings_leave_no_memory_behind() {
    let bench = Bench::new(&["guard_misbehaving"]);
    let examples = Examples::new(Kind::Float, 2).frozen();
    let (context, network, batch) = (bench.context(), Network::lend(&examples.model), examples.batch());
    // Tensors in and out, and a network made, owned by the plugin, and released.
    let mut crossing = bench.regularizer("crossing", json!({})).unwrap();
    // An error crosses twice: from the host to the plugin, and back.
    let mut failing = bench.regularizer("calls-key", json!({ "key": 99 })).unwrap();
    let mut calls = |count: usize| {
        for _ in 0..count {
            assert!(crossing.penalty(&context, &network, &batch).is_ok());
            assert!(failing.penalty(&context, &network, &batch).is_err());
        }
    };
    calls(CALLS / 20);
    let before = resident();
    calls(CALLS);
    let grown = resident() - before;
    assert!(grown <= ALLOWED, "{grown} bytes after {CALLS} calls");
}
