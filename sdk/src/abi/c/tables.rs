//! The types of `include/guard_plugin.h`, field by field. What they mean is said there.

use std::ffi::{c_char, c_void};

/// `at::Tensor`.
pub type Tensor = torch_sys::C_tensor;

/// `guard_error`.
#[repr(C)]
pub struct Error {
    pub code: [c_char; 64],
    pub message: [c_char; 2048],
    pub help: [c_char; 512],
    pub option_path: [c_char; 256],
}

/// `guard_batch`.
#[repr(C)]
pub struct Batch {
    pub images: *const Tensor,
    pub labels: *const Tensor,
    pub soft_labels: *const Tensor,
    pub ids: *const u64,
    pub count: usize,
    pub space: i32,
}

/// `guard_budget`.
#[repr(C)]
pub struct Budget {
    pub epsilon: f64,
    pub norm: i32,
}

/// `guard_draw`.
#[repr(C)]
pub struct Draw {
    pub stream: *const c_char,
    pub draw: u64,
    pub ids: *const u64,
    pub count: usize,
    pub shape: *const i64,
    pub dimensions: usize,
    pub distribution: i32,
    pub bits: i32,
}

/// `guard_step`.
#[repr(C)]
pub struct Step {
    pub stage: *const c_char,
    pub iteration: u64,
    pub iterations: u64,
    pub host: *const Host,
}

/// `guard_pass`.
#[repr(C)]
pub struct Pass {
    pub images: *const Tensor,
    pub space: i32,
    pub mode: i32,
    pub embedding: i32,
}

/// `guard_output`.
#[repr(C)]
pub struct Output {
    pub logits: *mut Tensor,
    pub embedding: *mut Tensor,
}

/// `guard_state`.
#[repr(C)]
pub struct State {
    pub version: u32,
    pub count: usize,
    pub json: *const c_char,
    pub names: *const *const c_char,
    pub tensors: *const *const Tensor,
}

/// `guard_network`, whatever it is.
pub type Network = c_void;
/// `guard_options`, whatever it is.
pub type Options = c_void;

/// `guard_state_writer`.
#[repr(C)]
pub struct StateWriter {
    pub put_json: extern "C" fn(*mut StateWriter, u32, *const c_char, *mut Error) -> i32,
    pub put_tensor: extern "C" fn(*mut StateWriter, *const c_char, *const Tensor, *mut Error) -> i32,
}

/// `guard_host`.
#[repr(C)]
pub struct Host {
    pub size: usize,
    pub log: extern "C" fn(*const Host, i32, *const c_char),
    pub metric: extern "C" fn(*const Host, *const c_char, *const Tensor, *mut Error) -> i32,
    pub cancelled: extern "C" fn(*const Host) -> i32,
    pub progress: extern "C" fn(*const Host, f64),
    pub device: extern "C" fn(*const Host) -> i32,
    pub random: extern "C" fn(*const Host, *const Draw, *mut *mut Tensor, *mut Error) -> i32,
    pub attack: extern "C" fn(*const Host, *const c_char, *const c_char, *mut u64, *mut Error) -> i32,
    pub regularizer: extern "C" fn(*const Host, *const c_char, *const c_char, *mut u64, *mut Error) -> i32,
    pub perturb: extern "C" fn(
        u64,
        *const Step,
        *const Network,
        *const Batch,
        *const Budget,
        *mut *mut Tensor,
        *mut Error,
    ) -> i32,
    pub penalty:
        extern "C" fn(u64, *const Step, *const Network, *const Batch, *mut *mut Tensor, *mut Error) -> i32,
    pub describe: extern "C" fn(*const Network) -> *const c_char,
    pub pass: extern "C" fn(*const Network, *const Pass, *mut Output, *mut Error) -> i32,
    pub parameter_count: extern "C" fn(*const Network) -> usize,
    pub parameter:
        extern "C" fn(*const Network, usize, *mut *const c_char, *mut *mut Tensor, *mut Error) -> i32,
    pub with_parameters:
        extern "C" fn(*const Network, *const *const Tensor, usize, *mut *mut Network, *mut Error) -> i32,
    pub release_network: extern "C" fn(*mut Network),
    pub release_tensor: extern "C" fn(*mut Tensor),
    pub options_json: extern "C" fn(*const Options) -> *const c_char,
    pub option_number: extern "C" fn(*const Options, *const c_char, *mut f64) -> i32,
    pub option_text: extern "C" fn(*const Options, *const c_char, *mut *const c_char) -> i32,
}

/// `guard_plugin`.
#[repr(C)]
pub struct Plugin {
    pub size: usize,
    pub torch_version: *const c_char,
    pub cxx11_abi: i32,
    pub torch_symbol: *const c_void,
    pub schema: Option<extern "C" fn(i32, *const c_char) -> *const c_char>,
    pub create: Option<Create>,
    pub release: Option<extern "C" fn(*mut c_void)>,
    pub save: Option<extern "C" fn(*mut c_void, *mut StateWriter, *mut Error) -> i32>,
    pub load: Option<extern "C" fn(*mut c_void, *const State, *mut Error) -> i32>,
    pub penalty: Option<Penalty>,
    pub attack_info: Option<extern "C" fn(*mut c_void) -> *const c_char>,
    pub perturb: Option<Perturb>,
}

/// `guard_plugin::create`.
pub type Create =
    extern "C" fn(i32, *const c_char, *const Options, *const Host, *mut *mut c_void, *mut Error) -> i32;

/// `guard_plugin::penalty`.
pub type Penalty = extern "C" fn(
    *mut c_void,
    *const Step,
    *const Network,
    *const Batch,
    *mut *mut Tensor,
    *mut Error,
) -> i32;

/// `guard_plugin::perturb`.
pub type Perturb = extern "C" fn(
    *mut c_void,
    *const Step,
    *const Network,
    *const Batch,
    *const Budget,
    *mut *mut Tensor,
    *mut Error,
) -> i32;

// SAFETY: the table is static and never changes; its functions may be called from any thread.
unsafe impl Sync for Plugin {}
