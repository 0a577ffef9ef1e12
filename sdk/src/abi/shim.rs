//! Safe calls of the C++ shim (`shim.cpp`): differentiation, random state, and the state libtorch keeps per thread and
//! per process.

use crate::{Error, Result, autograd::Graph, error::first_lines};
use std::{
    ffi::{CStr, c_char},
    ptr,
};
use tch::{Device, Tensor};
use torch_sys::C_tensor;

unsafe extern "C" {
    fn guard_shim_free(message: *mut c_char);
    pub(super) fn guard_shim_release(tensor: *mut ());
    fn guard_shim_symbol() -> usize;
    fn guard_shim_grad(
        outputs: *const *const C_tensor,
        n_outputs: usize,
        inputs: *const *const C_tensor,
        n_inputs: usize,
        grad_outputs: *const *const C_tensor,
        keep_graph: bool,
        create_graph: bool,
        allow_unused: bool,
        gradients: *mut *mut C_tensor,
    ) -> *mut c_char;
    fn guard_shim_version(tensor: *const C_tensor, version: *mut i64) -> *mut c_char;
    fn guard_shim_send(tensor: *const C_tensor, gpu: i32, sent: *mut *mut C_tensor) -> *mut c_char;
    fn guard_shim_thread_state_save(state: *mut *mut ()) -> *mut c_char;
    fn guard_shim_thread_state_restore(state: *mut ());
    fn guard_shim_random_save(gpu: i32, state: *mut *mut C_tensor) -> *mut c_char;
    fn guard_shim_random_restore(gpu: i32, state: *const C_tensor) -> *mut c_char;
    fn guard_shim_random_seed(gpu: i32, seed: u64) -> *mut c_char;
    fn guard_shim_gpu(gpu: *mut i32, stream: *mut i64);
    fn guard_shim_set_gpu(gpu: i32, stream: i64);
    fn guard_shim_default_dtype() -> i32;
    fn guard_shim_threads() -> i32;
    fn guard_shim_deterministic() -> bool;
    fn guard_shim_set_process_state(dtype: i32, threads: i32, deterministic: bool);
    fn guard_shim_cpu_capability() -> *mut c_char;
    fn guard_shim_prepare_memory();
    fn guard_shim_cxx11_abi() -> bool;
    fn guard_shim_load(path: *const c_char) -> *mut c_char;
    fn guard_shim_equal(left: *const C_tensor, right: *const C_tensor, equal: *mut bool) -> *mut c_char;
}

/// Turns the shim's message into an error.
fn check(message: *mut c_char) -> Result<()> {
    if message.is_null() {
        return Ok(());
    }
    // SAFETY: a non-null message is a NUL-terminated string that the shim allocated for us; it is freed once, here.
    let text = unsafe {
        let text = CStr::from_ptr(message).to_string_lossy().into_owned();
        guard_shim_free(message);
        text
    };
    Err(Error::with_code("torch", first_lines(&text)))
}

/// See [`crate::autograd`].
pub(crate) fn grad(
    outputs: &[&Tensor],
    inputs: &[&Tensor],
    weights: Option<&[&Tensor]>,
    graph: Graph,
    allow_unused: bool,
) -> Result<Vec<Option<Tensor>>> {
    if outputs.iter().chain(inputs).chain(weights.unwrap_or_default()).any(|tensor| !tensor.defined()) {
        return Err(Error::with_code("torch", "an undefined tensor has no gradient"));
    }
    let pointers = |tensors: &[&Tensor]| tensors.iter().map(|tensor| tensor.as_ptr()).collect::<Vec<_>>();
    let (out, wrt, given) = (pointers(outputs), pointers(inputs), weights.map(pointers));
    let mut gradients = vec![ptr::null_mut(); inputs.len()];
    // SAFETY: every pointer comes from a live, defined tensor; the arrays have the lengths passed with them.
    check(unsafe {
        guard_shim_grad(
            out.as_ptr(),
            out.len(),
            wrt.as_ptr(),
            wrt.len(),
            given.as_ref().map_or(ptr::null(), |weights| weights.as_ptr()),
            graph != Graph::Free,
            graph == Graph::Create,
            allow_unused,
            gradients.as_mut_ptr(),
        )
    })?;
    Ok(gradients
        .into_iter()
        // SAFETY: the shim made each non-null pointer with `new at::Tensor` for us to own.
        .map(|pointer| (!pointer.is_null()).then(|| unsafe { Tensor::from_ptr(pointer) }))
        .collect())
}

/// How often the tensor was written in place; 0 for an undefined one.
pub fn version(tensor: &Tensor) -> Result<i64> {
    let mut version = 0;
    if tensor.defined() {
        // SAFETY: a live tensor and a local to write to.
        check(unsafe { guard_shim_version(tensor.as_ptr(), &mut version) })?;
    }
    Ok(version)
}

/// See [`crate::sent()`].
pub fn send(tensor: &Tensor, gpu: usize) -> Result<Tensor> {
    let mut sent = ptr::null_mut();
    // SAFETY: a live tensor, and a local to write to; the tensor that comes back is new and ours.
    unsafe {
        check(guard_shim_send(tensor.as_ptr(), i32::try_from(gpu).unwrap_or(i32::MAX), &mut sent))?;
        Ok(Tensor::from_ptr(sent))
    }
}

/// The instruction set that libtorch's kernels were chosen for, e.g. `AVX512`: equal bits need equal ones.
pub fn cpu_capability() -> String {
    // SAFETY: takes nothing; the message it gives is `check`'s to free.
    check(unsafe { guard_shim_cpu_capability() })
        .err()
        .map_or_else(|| "unknown".into(), |error| error.message)
}

/// Lets CPU tensors be taken and freed without page faults: large ones in huge pages, unless THP_MEM_ALLOC_ENABLE says
/// otherwise, smaller ones from memory that malloc keeps (up to 256 MiB). To be called at the start of a program, before
/// there are other threads and before the first tensor.
pub fn prepare_memory() {
    // SAFETY: takes nothing; sets an environment variable and malloc's parameters, which no other thread uses so early.
    unsafe { guard_shim_prepare_memory() }
}

/// Loads a library, which is never unloaded. A C++ exception of its initialisers is an error.
///
/// # Errors
/// If the loader refuses it.
pub fn load(path: &CStr) -> Result<()> {
    // SAFETY: a text that ends in a zero. The library's initialisers run with the user's rights: the user named it.
    check(unsafe { guard_shim_load(path.as_ptr()) })
}

/// Which C++ ABI the shim was compiled with.
pub fn cxx11_abi() -> bool {
    // SAFETY: takes nothing and cannot fail.
    unsafe { guard_shim_cxx11_abi() }
}

/// True if both have the same shape, dtype and bytes.
pub fn equal(left: &Tensor, right: &Tensor) -> Result<bool> {
    let mut equal = false;
    // SAFETY: two live tensors and a local to write to.
    check(unsafe { guard_shim_equal(left.as_ptr(), right.as_ptr(), &mut equal) })?;
    Ok(equal)
}

/// The address that identifies the libtorch in this process.
pub fn symbol() -> usize {
    // SAFETY: takes nothing and cannot fail.
    unsafe { guard_shim_symbol() }
}

/// libtorch's state of this thread (grad mode, autocast, ...), put back when dropped.
pub struct ThreadState(*mut ());

impl ThreadState {
    /// Notes the present state.
    ///
    /// # Errors
    /// If libtorch cannot copy it.
    pub fn save() -> Result<Self> {
        let mut state = ptr::null_mut();
        // SAFETY: a local to write to.
        check(unsafe { guard_shim_thread_state_save(&mut state) })?;
        Ok(Self(state))
    }
}

impl Drop for ThreadState {
    fn drop(&mut self) {
        // SAFETY: made by `save` on this thread (raw pointers are not Send) and released once, here.
        unsafe { guard_shim_thread_state_restore(self.0) }
    }
}

/// The state of a generator of libtorch's own, put back when dropped.
pub struct RandomState {
    gpu: i32,
    state: Tensor,
}

impl RandomState {
    /// Notes the present state of `device`'s generator and seeds it.
    ///
    /// # Errors
    /// If libtorch refuses.
    pub fn seeded(device: Device, seed: u64) -> Result<Self> {
        let gpu = match device {
            Device::Cuda(index) => i32::try_from(index).unwrap_or(i32::MAX),
            _ => -1,
        };
        let mut state = ptr::null_mut();
        // SAFETY: a local to write to; on success it is a new tensor for us to own.
        let saved = unsafe {
            check(guard_shim_random_save(gpu, &mut state))?;
            Self { gpu, state: Tensor::from_ptr(state) }
        };
        // SAFETY: takes numbers.
        check(unsafe { guard_shim_random_seed(gpu, seed) })?;
        Ok(saved)
    }
}

impl Drop for RandomState {
    fn drop(&mut self) {
        // SAFETY: a live tensor. The state is one that libtorch itself gave out, so it cannot be refused.
        let _ = check(unsafe { guard_shim_random_restore(self.gpu, self.state.as_ptr()) });
    }
}

/// libtorch's state of the whole process that a method must leave alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ProcessState {
    /// The default dtype, as libtorch's `ScalarType`.
    pub default_dtype: i32,
    /// Number of threads inside operations.
    pub threads: i32,
    /// Whether deterministic algorithms are enforced.
    pub deterministic: bool,
    /// The GPU that operations go to, and the stream on it; -1 and 0 without CUDA. They are the thread's, but no part of
    /// [`ThreadState`].
    pub gpu: (i32, i64),
}

impl ProcessState {
    /// The present state.
    pub fn now() -> Self {
        let (mut gpu, mut stream) = (-1, 0);
        // SAFETY: takes two locals to write to; the others take nothing. None can fail.
        unsafe {
            guard_shim_gpu(&mut gpu, &mut stream);
            Self {
                gpu: (gpu, stream),
                default_dtype: guard_shim_default_dtype(),
                threads: guard_shim_threads(),
                deterministic: guard_shim_deterministic(),
            }
        }
    }

    /// Makes this the present state.
    pub fn set(self) {
        // SAFETY: takes numbers; the values come from `now` or are checked by libtorch.
        unsafe {
            guard_shim_set_process_state(self.default_dtype, self.threads, self.deterministic);
            guard_shim_set_gpu(self.gpu.0, self.gpu.1);
        }
    }

    /// What differs in `self` from `before`, in words.
    pub fn changes_since(self, before: Self) -> Vec<&'static str> {
        [
            (self.default_dtype != before.default_dtype, "the default dtype"),
            (self.threads != before.threads, "the number of threads"),
            (self.deterministic != before.deterministic, "the determinism flag"),
            (self.gpu.0 != before.gpu.0, "the present GPU"),
            (self.gpu.1 != before.gpu.1, "the present CUDA stream"),
        ]
        .into_iter()
        .filter_map(|(changed, what)| changed.then_some(what))
        .collect()
    }
}
