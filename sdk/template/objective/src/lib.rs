//! The objective `method-name` as a plugin of guard-host.
#![forbid(unsafe_code)]

mod method_name;

pub use method_name::{MethodName, MethodNameOptions};

guard_sdk::plugin! {
    // Choose an id that nobody else has; recipes tell plugins with methods of the same name apart by it.
    id: "example.method-name",
    objectives: [MethodName],
}
