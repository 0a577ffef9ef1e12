//! Tensors, errors and small enums in their frozen form and back.

use super::shim;
use crate::{
    Budget, CleanRequest, Error, InputGradient, Mode, Norm, Pass, Result, Space, State,
    services::{Distribution, Level},
};
use abi_stable::std_types::{RNone, ROption, RSome, RString};
use guard_abi::{BudgetView, Failure, NamedHandle, Outcome, TensorHandle, TensorView};
use std::{marker::PhantomData, mem::ManuallyDrop, ops::Deref};
use tch::{Device, Kind, Tensor};
use torch_sys::C_tensor;

/// Hands a tensor over.
pub fn give(tensor: Tensor) -> TensorHandle {
    let tensor = ManuallyDrop::new(tensor);
    // SAFETY: the pointer is a heap-allocated at::Tensor whose Rust owner was just defused; the shim deletes it.
    unsafe { TensorHandle::new(tensor.as_ptr().cast_mut().cast(), shim::guard_shim_release) }
}

/// Takes a tensor over.
pub fn take(handle: TensorHandle) -> Tensor {
    // SAFETY: the handle owns the at::Tensor and gives it up here; both sides use one libtorch and one allocator.
    unsafe { Tensor::from_ptr(handle.into_pointer().cast()) }
}

/// Lends a tensor.
pub fn lend(tensor: &Tensor) -> TensorView<'_> {
    // SAFETY: the view's lifetime is that of the borrow.
    unsafe { TensorView::new(tensor.as_ptr().cast_mut().cast()) }
}

/// A tensor of the other side, not freed here.
pub struct Borrowed<'a> {
    tensor: ManuallyDrop<Tensor>,
    lent: PhantomData<&'a ()>,
}

impl Deref for Borrowed<'_> {
    type Target = Tensor;

    fn deref(&self) -> &Tensor {
        &self.tensor
    }
}

/// The tensor behind a view.
pub fn borrow(view: TensorView<'_>) -> Borrowed<'_> {
    // SAFETY: the view guarantees a live at::Tensor for its lifetime; ManuallyDrop keeps us from freeing it.
    let tensor = unsafe { Tensor::from_ptr(view.as_pointer().cast()) };
    Borrowed { tensor: ManuallyDrop::new(tensor), lent: PhantomData }
}

/// Hands a tensor over as C has it: a pointer that the other side deletes.
pub fn give_pointer(tensor: Tensor) -> *mut C_tensor {
    ManuallyDrop::new(tensor).as_ptr().cast_mut()
}

/// A tensor of C's, not freed here.
///
/// # Safety
/// The pointer is to a live `at::Tensor` for the lifetime that the caller chooses.
pub unsafe fn borrow_pointer<'a>(pointer: *const C_tensor) -> Borrowed<'a> {
    // SAFETY: promised by the caller; ManuallyDrop keeps us from freeing it.
    let tensor = unsafe { Tensor::from_ptr(pointer.cast_mut()) };
    Borrowed { tensor: ManuallyDrop::new(tensor), lent: PhantomData }
}

/// What keeps libtorch's operations from taking a tensor, if anything does.
pub fn unusable(tensor: &Tensor) -> Option<&'static str> {
    if !tensor.defined() {
        Some("undefined")
    } else if tensor.is_sparse() || tensor.is_mkldnn() {
        Some("not dense")
    } else if !matches!(tensor.device(), Device::Cpu | Device::Cuda(_)) {
        Some("without values")
    } else {
        None
    }
}

/// Hands named tensors over.
pub fn give_named(tensors: Vec<(String, Tensor)>) -> abi_stable::std_types::RVec<NamedHandle> {
    tensors
        .into_iter()
        .map(|(name, tensor)| NamedHandle { name: name.into(), tensor: give(tensor) })
        .collect()
}

/// Takes named tensors over.
pub fn take_named(tensors: abi_stable::std_types::RVec<NamedHandle>) -> Vec<(String, Tensor)> {
    tensors.into_iter().map(|named| (named.name.into_string(), take(named.tensor))).collect()
}

/// A result in its frozen form.
pub fn outcome<T>(result: Result<T>) -> Outcome<T> {
    result.map_err(failure).into()
}

/// A frozen result back.
pub fn result<T>(outcome: Outcome<T>) -> Result<T> {
    outcome.into_result().map_err(error)
}

/// An error in its frozen form.
pub fn failure(error: Error) -> Failure {
    let option = |text: Option<String>| text.map_or(RNone, |text| RSome(RString::from(text)));
    Failure {
        code: error.code.into(),
        message: error.message.into(),
        help: option(error.help),
        causes: error.causes.into_iter().map(RString::from).collect(),
        option_path: option(error.option_path),
    }
}

/// A frozen error back.
pub fn error(failure: Failure) -> Error {
    let option = |text: ROption<RString>| text.into_option().map(RString::into_string);
    Error {
        code: failure.code.into_string(),
        message: failure.message.into_string(),
        help: option(failure.help),
        causes: failure.causes.into_iter().map(RString::into_string).collect(),
        option_path: option(failure.option_path),
    }
}

/// A method's state in its frozen form.
pub fn give_state(state: State) -> guard_abi::State {
    guard_abi::State {
        version: state.version,
        json: state.json.to_string().into(),
        tensors: give_named(state.tensors),
    }
}

/// A method's state back.
pub fn take_state(state: guard_abi::State) -> Result<State> {
    Ok(State {
        version: state.version,
        json: serde_json::from_str(&state.json)?,
        tensors: take_named(state.tensors),
    })
}

/// See [`guard_abi::PassRequest::space`].
pub fn space_code(space: Space) -> u8 {
    match space {
        Space::Pixels => 0,
        Space::Normalised => 1,
    }
}

/// See [`guard_abi::PassRequest::space`].
pub fn space(code: u8) -> Result<Space> {
    match code {
        0 => Ok(Space::Pixels),
        1 => Ok(Space::Normalised),
        _ => Err(unknown("space", code)),
    }
}

/// See [`guard_abi::PassRequest`]: space, mode, wants.
pub fn pass_code(pass: Pass) -> (u8, u8, u32) {
    let wants = u32::from(pass.embedding) | u32::from(pass.statistics) << 1 | u32::from(pass.features) << 2;
    (space_code(pass.space), mode_code(pass.mode), wants)
}

fn mode_code(mode: Mode) -> u8 {
    u8::from(mode == Mode::Train)
}

fn mode(code: u8) -> Result<Mode> {
    match code {
        0 => Ok(Mode::Eval),
        1 => Ok(Mode::Train),
        _ => Err(unknown("mode", code)),
    }
}

/// See [`guard_abi::PassRequest`].
pub fn pass(request: &guard_abi::PassRequest<'_>) -> Result<Pass> {
    Ok(Pass {
        space: space(request.space)?,
        mode: mode(request.mode)?,
        embedding: request.wants & 1 != 0,
        statistics: request.wants & 2 != 0,
        features: request.wants & 4 != 0,
    })
}

/// See [`guard_abi::CleanRequest`].
pub fn clean_code(request: CleanRequest) -> guard_abi::CleanRequest {
    guard_abi::CleanRequest { mode: mode_code(request.mode), gradient: request.gradient as u8 }
}

/// See [`guard_abi::CleanRequest`].
pub fn clean_request(request: &guard_abi::CleanRequest) -> Result<CleanRequest> {
    let gradient = match request.gradient {
        0 => InputGradient::None,
        1 => InputGradient::Value,
        2 => InputGradient::Graph,
        code => return Err(unknown("gradient", code)),
    };
    Ok(CleanRequest { mode: mode(request.mode)?, gradient })
}

/// See [`BudgetView`].
pub fn budget_view(budget: &Budget) -> BudgetView {
    BudgetView { norm: u8::from(budget.norm == Norm::L2), epsilon: budget.epsilon }
}

/// See [`BudgetView`].
pub fn budget(view: &BudgetView) -> Result<Budget> {
    let norm = match view.norm {
        0 => Norm::Linf,
        1 => Norm::L2,
        code => return Err(unknown("norm", code)),
    };
    Ok(Budget { norm, epsilon: view.epsilon })
}

/// See [`guard_abi::RandomRequest::distribution`].
pub fn distribution_code(distribution: Distribution) -> u8 {
    u8::from(distribution == Distribution::Normal)
}

/// See [`guard_abi::RandomRequest::distribution`].
pub fn distribution(code: u8) -> Result<Distribution> {
    match code {
        0 => Ok(Distribution::Uniform),
        1 => Ok(Distribution::Normal),
        _ => Err(unknown("distribution", code)),
    }
}

/// libtorch's number of the two floating-point types that draws come in.
pub fn kind_code(kind: Kind) -> Result<i32> {
    match kind {
        Kind::Float => Ok(6),
        Kind::Double => Ok(7),
        other => Err(Error::new(format!("random numbers come as float32 or float64, not {other:?}"))),
    }
}

/// See [`kind_code`].
pub fn kind(code: i32) -> Result<Kind> {
    match code {
        6 => Ok(Kind::Float),
        7 => Ok(Kind::Double),
        _ => Err(Error::with_code("interface", format!("unknown dtype {code}"))),
    }
}

/// See [`guard_abi::ServicesTable::log`].
pub fn level_code(level: Level) -> u8 {
    level as u8
}

/// See [`guard_abi::ServicesTable::log`]; what is unknown is detail.
pub fn level(code: u8) -> Level {
    match code {
        0 => Level::Error,
        1 => Level::Warning,
        2 => Level::Information,
        _ => Level::Detail,
    }
}

fn unknown(what: &str, code: u8) -> Error {
    Error::with_code("interface", format!("unknown {what} {code}"))
}
