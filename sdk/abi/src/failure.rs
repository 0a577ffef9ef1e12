//! Errors are data.

use abi_stable::{
    StableAbi,
    std_types::{ROption, RResult, RString, RVec},
};

/// What went wrong, in a form that the other side can show, match and point with.
#[repr(C)]
#[derive(StableAbi, Debug, Clone)]
pub struct Failure {
    /// A stable word for the kind of failure, e.g. `panic`, `options`, `torch`, `busy`, `poisoned`, `cancelled`.
    pub code: RString,
    /// One sentence, lower-case, without full stop.
    pub message: RString,
    /// What the user can do about it.
    pub help: ROption<RString>,
    /// What led to it, outermost first.
    pub causes: RVec<RString>,
    /// Where in the method's options the cause lies, as a JSON pointer such as `/radius`.
    pub option_path: ROption<RString>,
}

/// The result of every fallible call across the boundary.
pub type Outcome<T> = RResult<T, Failure>;
