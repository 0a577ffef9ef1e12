//! The pass over the batch of a training step as it is, which the step's regularizers share: computed when it is first asked
//! for, and not at all where the host's own forward has computed it.

use guard_sdk::{
    Batch, Clean, CleanRequest, InputGradient, Mode, Network, Result, Tensor, network::NetworkBackend,
};
use std::cell::{OnceCell, RefCell};

/// The passes of one step. They hold for the network and the batch they were made for, and are computed anew for any other.
pub struct SharedPasses {
    network: *const (),
    images: *const (),
    labels: *const (),
    eval: OnceCell<Entry>,
    train: OnceCell<Entry>,
}

/// One pass, and what is known of it.
struct Entry {
    images: Tensor,
    logits: Tensor,
    losses: Tensor,
    values: OnceCell<Tensor>,
    graph: OnceCell<Tensor>,
}

fn address(backend: &dyn NetworkBackend) -> *const () {
    std::ptr::from_ref(backend).cast()
}

impl SharedPasses {
    /// Nothing computed yet.
    pub fn new(network: &Network, batch: &Batch) -> Self {
        Self {
            network: address(network.backend()),
            images: batch.images.as_ptr().cast(),
            labels: batch.labels.as_ptr().cast(),
            eval: OnceCell::new(),
            train: OnceCell::new(),
        }
    }

    /// Takes over a pass of the host in these modes: `logits` `[N,K]` with graph to `images`, the leaf of [`Clean::leaf`].
    ///
    /// # Errors
    /// If the batch's labels do not fit.
    pub fn with(self, batch: &Batch, modes: &[Mode], images: &Tensor, logits: &Tensor) -> Result<Self> {
        for &mode in modes {
            let losses = batch.cross_entropy_each(logits)?;
            let entry = Entry::new(images.shallow_clone(), logits.shallow_clone(), losses);
            let _ = self.entry(mode).set(entry);
        }
        Ok(self)
    }

    fn entry(&self, mode: Mode) -> &OnceCell<Entry> {
        match mode {
            Mode::Eval => &self.eval,
            Mode::Train => &self.train,
        }
    }

    fn fits(&self, network: &Network, batch: &Batch) -> bool {
        let there = (self.network, self.images, self.labels);
        let images: *const () = batch.images.as_ptr().cast();
        there == (address(network.backend()), images, batch.labels.as_ptr().cast())
    }

    /// What is asked of the pass, from what is known.
    fn clean(&self, network: &Network, batch: &Batch, request: CleanRequest) -> Result<Clean> {
        let entry = match self.entry(request.mode).get() {
            Some(entry) => entry,
            None => {
                let asked = CleanRequest { gradient: InputGradient::None, ..request };
                // Others will want the graph, whatever the mode of who asks first.
                let Clean { images, logits, losses, .. } =
                    tch::with_grad(|| Clean::compute(network, batch, asked))?;
                self.entry(request.mode).get_or_init(|| Entry::new(images, logits, losses))
            }
        };
        let gradient = tch::with_grad(|| entry.gradient(request.gradient))?;
        let [images, logits, losses] =
            [&entry.images, &entry.logits, &entry.losses].map(Tensor::shallow_clone);
        Ok(Clean { images, logits, losses, gradient })
    }
}

impl Entry {
    fn new(images: Tensor, logits: Tensor, losses: Tensor) -> Self {
        Self { images, logits, losses, values: OnceCell::new(), graph: OnceCell::new() }
    }

    fn gradient(&self, wanted: InputGradient) -> Result<Option<Tensor>> {
        let known = match wanted {
            InputGradient::None => return Ok(None),
            InputGradient::Graph => &self.graph,
            InputGradient::Value => match self.graph.get() {
                Some(graph) => return Ok(Some(graph.detach())),
                None => &self.values,
            },
        };
        if known.get().is_none()
            && let Some(gradient) = Clean::gradient_of(&self.losses, &self.images, wanted)?
        {
            let _ = known.set(gradient);
        }
        Ok(known.get().map(Tensor::shallow_clone))
    }
}

/// The passes of the steps that are being made, the innermost last.
#[derive(Default)]
pub struct Sharing(RefCell<Vec<SharedPasses>>);

impl Sharing {
    /// Shares `passes` while `body` runs.
    pub fn during<T>(&self, passes: SharedPasses, body: impl FnOnce() -> T) -> T {
        struct End<'a>(&'a Sharing);
        impl Drop for End<'_> {
            fn drop(&mut self) {
                let ended = self.0.0.borrow_mut().pop();
                drop(ended);
            }
        }
        self.0.borrow_mut().push(passes);
        let _end = End(self);
        body()
    }

    /// What is asked of a pass, from the shared ones if they are of this network and batch.
    pub fn clean(&self, network: &Network, batch: &Batch, request: CleanRequest) -> Result<Clean> {
        let passes = self.0.borrow();
        match passes.last().filter(|passes| passes.fits(network, batch)) {
            Some(passes) => passes.clean(network, batch, request),
            None => Clean::compute(network, batch, request),
        }
    }
}
