//! The boundary: adapters between the frozen types of `guard-abi` and the safe traits of this crate. The only unsafe code
//! of the SDK, and the only place where an abi_stable type appears.
//!
//! | file | side | what |
//! |---|---|---|
//! | `convert` | both | tensors, errors, enums |
//! | `shield` | both | panics become errors |
//! | `export` | plugin | `plugin!`: what a library shows to the loader |
//! | `exports` | plugin | the author's traits as tables of functions |
//! | `remote` | plugin | the host's tables as the safe `Network`, `Services`, `Lab` |
//! | `host` | host | the host's objects as tables of functions |
//! | `calls` | host | a plugin's tables as safe calls |
//! | `library` | host | a library file as tables |
//! | `c` | host | plugins in C and C++ |
//! | `shim` | both | libtorch functions that tch lacks |

pub mod c;
pub mod calls;
pub mod convert;
pub mod export;
pub mod exports;
pub mod host;
pub mod library;
mod remote;
pub mod shield;
pub mod shim;
