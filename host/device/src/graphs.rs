//! Functions that are replayed from CUDA graphs: a pass that would launch a hundred small kernels launches one graph.
//!
//! The recorder is a library of its own (`graphs/graphs.cpp`, built by `cargo xtask graphs`), which links libtorch's CUDA part;
//! [`load_graphs`] opens it. `graphed.cpp` replays, whatever recorded.

use crate::{checked, cuda::open_library};
use guard_sdk::{
    Error, Result, Tensor,
    autograd::{Graph, grad},
};
use std::{
    ffi::{CStr, CString, c_char, c_void},
    marker::PhantomData,
    mem::transmute,
    os::unix::ffi::OsStrExt,
    path::Path,
    ptr::{self, NonNull},
    sync::OnceLock,
};
use torch_sys::C_tensor;

type Version = unsafe extern "C" fn() -> i32;
type Enter = unsafe extern "C" fn(*mut *mut c_void) -> *mut c_char;
type Begin = unsafe extern "C" fn(*mut c_void, *mut *mut c_void) -> *mut c_char;
type Replay = unsafe extern "C" fn(*mut c_void) -> *mut c_char;
type Free = unsafe extern "C" fn(*mut c_void);

#[repr(C)]
struct GuardRecorded {
    _opaque: [u8; 0],
}

unsafe extern "C" {
    fn guard_device_symbol(path: *const c_char, name: *const c_char) -> *mut c_void;
    fn guard_device_recorded(
        tensors: *const *const C_tensor,
        forward: *mut c_void,
        backward: *mut c_void,
        replay: Replay,
        free: Free,
        made: *mut *mut GuardRecorded,
    ) -> *mut c_char;
    fn guard_device_replayed(
        recorded: *const GuardRecorded,
        x: *const C_tensor,
        output: *mut *mut C_tensor,
    ) -> *mut c_char;
    fn guard_device_recorded_free(recorded: *mut GuardRecorded);
}

/// The functions of the library, as it has them.
struct Recorder {
    enter: Enter,
    leave: Replay,
    begin: Begin,
    end: Replay,
    replay: Replay,
    free: Free,
}

static RECORDER: OnceLock<Recorder> = OnceLock::new();

/// What the functions of the library are counted by.
const VERSION: i32 = 1;

/// Opens the library that records, for the whole process. CUDA must be open.
///
/// # Errors
/// Code `no-graphs` if the library cannot be opened, or is not this host's.
pub fn load_graphs(library: &Path) -> Result<()> {
    let refused = |what: String| {
        Error::with_code("no-graphs", format!("`{}` {what}", library.display()))
            .help("build it with `cargo xtask graphs`")
    };
    open_library(library).map_err(|error| refused(format!("cannot be opened: {}", error.message)))?;
    let path = CString::new(library.as_os_str().as_bytes()).map_err(|_| refused("is no path".into()))?;
    let symbol = |name: &CStr| {
        // SAFETY: texts that end in a zero; the library is open.
        let found = unsafe { guard_device_symbol(path.as_ptr(), name.as_ptr()) };
        match found.is_null() {
            true => Err(refused(format!("has no `{}`", name.to_string_lossy()))),
            false => Ok(found),
        }
    };
    // SAFETY: the version says that the functions are those of this file.
    unsafe {
        let version = transmute::<*mut c_void, Version>(symbol(c"guard_graphs_version")?)();
        if version != VERSION {
            return Err(refused(format!("is of version {version}, needed is {VERSION}")));
        }
        let recorder = Recorder {
            enter: transmute::<*mut c_void, Enter>(symbol(c"guard_graphs_enter")?),
            leave: transmute::<*mut c_void, Replay>(symbol(c"guard_graphs_leave")?),
            begin: transmute::<*mut c_void, Begin>(symbol(c"guard_graphs_begin")?),
            end: transmute::<*mut c_void, Replay>(symbol(c"guard_graphs_end")?),
            replay: transmute::<*mut c_void, Replay>(symbol(c"guard_graphs_replay")?),
            free: transmute::<*mut c_void, Free>(symbol(c"guard_graphs_free")?),
        };
        let _ = RECORDER.set(recorder);
    }
    Ok(())
}

/// Whether there is something to record with.
pub fn records_graphs() -> bool {
    RECORDER.get().is_some()
}

/// A function of one tensor that was recorded, with its derivative.
pub struct Graphed(NonNull<GuardRecorded>);

// SAFETY: what it points to belongs to it alone; libtorch's reference counts are atomic.
unsafe impl Send for Graphed {}

/// How often a function runs before it is recorded: libraries prepare what they need when they are first called.
const WARM_UP: usize = 3;

impl Graphed {
    /// Records `function` and its derivative for inputs like `like`, on a GPU. It must ask for the same operations every time, and
    /// wait for none.
    ///
    /// # Errors
    /// Code `no-graphs` if nothing records; those of `function`, or if it does what cannot be recorded.
    pub fn record(like: &Tensor, function: &dyn Fn(&Tensor) -> Result<Tensor>) -> Result<Self> {
        let recorder =
            RECORDER.get().ok_or_else(|| Error::with_code("no-graphs", "nothing records graphs"))?;
        // The pass in which this happens may be one without gradients.
        tch::with_grad(|| Self::recorded(recorder, like, function))
    }

    fn recorded(
        recorder: &Recorder,
        like: &Tensor,
        function: &dyn Fn(&Tensor) -> Result<Tensor>,
    ) -> Result<Self> {
        let session = Session::enter(recorder)?;
        let input = like.detach().copy().set_requires_grad(true);
        let derivative = |output: &Tensor, slope: &Tensor| -> Result<Tensor> {
            Ok(grad(&(output * slope).sum(output.kind()), &[&input], Graph::Free)?.remove(0))
        };
        for _ in 0..WARM_UP {
            let output = function(&input)?;
            let _ = derivative(&output, &output.detach().ones_like())?;
        }
        let (forward, output) = session.recording(&|| function(&input))?;
        let slope = output.detach().ones_like();
        let (backward, gradient) = session.recording(&|| derivative(&output, &slope))?;
        let tensors = [input.detach(), output.detach(), slope, gradient];
        Self::made(&tensors, forward.into_raw(), backward.into_raw(), recorder.replay, recorder.free)
    }

    /// Of recordings that read and write `[input, output, slope, gradient]`.
    fn made(
        tensors: &[Tensor; 4],
        forward: *mut c_void,
        backward: *mut c_void,
        replay: Replay,
        free: Free,
    ) -> Result<Self> {
        let pointers = tensors.each_ref().map(|tensor| tensor.as_ptr());
        let mut made = ptr::null_mut();
        // SAFETY: four live tensors, recordings with the functions that belong to them, and a local to write to.
        checked(unsafe {
            guard_device_recorded(pointers.as_ptr(), forward, backward, replay, free, &mut made)
        })?;
        NonNull::new(made).map(Self).ok_or_else(|| Error::new("nothing was recorded"))
    }

    /// The function at `x`, of the shape that it was recorded for; can be differentiated once.
    ///
    /// # Errors
    /// If libtorch fails.
    pub fn apply(&self, x: &Tensor) -> Result<Tensor> {
        let mut output = ptr::null_mut();
        // SAFETY: made by `made` and not yet freed; a live tensor, and a local to write to.
        checked(unsafe { guard_device_replayed(self.0.as_ptr(), x.as_ptr(), &mut output) })?;
        // SAFETY: on success a new tensor for us to own.
        Ok(unsafe { Tensor::from_ptr(output) })
    }
}

impl Drop for Graphed {
    fn drop(&mut self) {
        // SAFETY: made by `made` and freed once, here; a graph of autograd may hold on to what it points to.
        unsafe { guard_device_recorded_free(self.0.as_ptr()) }
    }
}

/// While it lives, this thread's work goes to a stream of its own.
struct Session<'a> {
    recorder: &'a Recorder,
    raw: *mut c_void,
    _thread: PhantomData<*const ()>,
}

impl<'a> Session<'a> {
    fn enter(recorder: &'a Recorder) -> Result<Self> {
        let mut raw = ptr::null_mut();
        // SAFETY: a local to write to.
        checked(unsafe { (recorder.enter)(&mut raw) })?;
        Ok(Self { recorder, raw, _thread: PhantomData })
    }

    /// What `work` asks for, recorded, and the tensor that it will write.
    fn recording(&self, work: &dyn Fn() -> Result<Tensor>) -> Result<(Recording<'a>, Tensor)> {
        let mut raw = ptr::null_mut();
        // SAFETY: entered and not yet left, and a local to write to.
        checked(unsafe { (self.recorder.begin)(self.raw, &mut raw) })?;
        let written = work();
        // SAFETY: begun above, and ended once, whatever became of the work.
        let ended = checked(unsafe { (self.recorder.end)(raw) });
        // What has failed is not freed: see `guard_graphs_begin`.
        let written = written?;
        ended?;
        Ok((Recording { recorder: self.recorder, raw }, written))
    }
}

impl Drop for Session<'_> {
    fn drop(&mut self) {
        // SAFETY: entered once, left once, on the same thread.
        let _ = checked(unsafe { (self.recorder.leave)(self.raw) });
    }
}

/// A graph.
struct Recording<'a> {
    recorder: &'a Recorder,
    raw: *mut c_void,
}

impl Recording<'_> {
    /// Hands it over.
    fn into_raw(self) -> *mut c_void {
        let raw = self.raw;
        std::mem::forget(self);
        raw
    }
}

impl Drop for Recording<'_> {
    fn drop(&mut self) {
        // SAFETY: not handed over, and freed once.
        unsafe { (self.recorder.free)(self.raw) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::Cell;
    use tch::{Device, Kind};

    /// In the place of a CUDA graph: what it does again, on memory that stays where it is.
    struct Again(Box<dyn Fn()>);

    thread_local! {
        static FREED: Cell<usize> = const { Cell::new(0) };
    }

    unsafe extern "C" fn replay(recording: *mut c_void) -> *mut c_char {
        // SAFETY: made by `sine`.
        unsafe { ((*recording.cast::<Again>()).0)() };
        ptr::null_mut()
    }

    unsafe extern "C" fn free(recording: *mut c_void) {
        // SAFETY: made by `sine`, freed once.
        drop(unsafe { Box::from_raw(recording.cast::<Again>()) });
        FREED.set(FREED.get() + 1);
    }

    /// sin, as if recorded; its activation is the input of the last forward.
    fn sine(count: i64) -> Graphed {
        let empty = || Tensor::zeros([count], (Kind::Double, Device::Cpu));
        let (input, output, slope, gradient, kept) = (empty(), empty(), empty(), empty(), empty());
        let raw = |work: Box<dyn Fn()>| Box::into_raw(Box::new(Again(work))).cast();
        let share = Tensor::shallow_clone;
        let (from, to, keep) = (share(&input), share(&output), share(&kept));
        let forward = raw(Box::new(move || {
            share(&keep).copy_(&from);
            share(&to).copy_(&from.sin());
        }));
        let (with, into, keep) = (share(&slope), share(&gradient), share(&kept));
        let backward = raw(Box::new(move || {
            share(&into).copy_(&(keep.cos() * &with));
            // As where graphs share their memory.
            let _ = share(&keep).fill_(9.0);
        }));
        Graphed::made(&[input, output, slope, gradient], forward, backward, replay, free).unwrap()
    }

    #[test]
    fn what_is_replayed_has_values_and_derivatives_of_its_own_inputs_in_any_order() {
        let before = FREED.get();
        let function = sine(3);
        let leaf = |values: [f64; 3]| Tensor::from_slice(&values).set_requires_grad(true);
        let (x, y) = (leaf([0.1, 0.2, 0.3]), leaf([1.0, 2.0, 3.0]));
        let (of_x, of_y) = (function.apply(&x).unwrap(), function.apply(&y).unwrap());
        assert!(of_x.equal(&x.detach().sin()) && of_y.equal(&y.detach().sin()));
        // The backward of the first input needs what the second has overwritten.
        for (output, input) in [(&of_x, &x), (&of_y, &y), (&of_y, &y)] {
            let found = grad(&(output * 2.0).sum(Kind::Double), &[input], Graph::Keep).unwrap().remove(0);
            assert!(found.equal(&(input.detach().cos() * 2.0)));
        }
        // As long as a graph of autograd can call it, it is there.
        drop(function);
        assert_eq!(FREED.get(), before);
        grad(&of_y.sum(Kind::Double), &[&y], Graph::Free).unwrap();
        drop((of_x, of_y));
        assert_eq!(FREED.get(), before + 2);
    }

    #[test]
    fn second_derivatives_are_refused_in_words() {
        let function = sine(1);
        let x = Tensor::from_slice(&[0.5]).set_requires_grad(true);
        let y = function.apply(&x).unwrap().sum(Kind::Double);
        let error = grad(&y, &[&x], Graph::Create).unwrap_err();
        assert!(error.message.contains("no second derivatives"), "{error}");
    }

    #[test]
    fn a_library_that_is_none_is_refused_with_what_to_do() {
        let error = load_graphs(Path::new("/nowhere/libguard_graphs.so")).unwrap_err();
        assert_eq!(error.code, "no-graphs");
        assert!(error.message.contains("/nowhere/libguard_graphs.so") && error.help.is_some(), "{error}");
        assert!(!records_graphs());
        let like = Tensor::zeros([1], (Kind::Float, Device::Cpu));
        assert_eq!(Graphed::record(&like, &|x| Ok(x.shallow_clone())).err().unwrap().code, "no-graphs");
    }
}
