//! A network that counts what goes through it.

use guard_sdk::{
    NetworkInfo, Output, Pass, Result, Tensor,
    network::{NetworkBackend, Tensors},
};
use std::{
    any::Any,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

/// Counts the passes through a network, but not those through networks that are made of it.
pub struct Counting<N> {
    network: N,
    counts: Arc<Counts>,
}

/// What went through a network.
#[derive(Default)]
pub struct Counts {
    passes: AtomicU64,
    images: AtomicU64,
    towards_images: AtomicU64,
}

impl Counts {
    /// Passes since this was last asked.
    pub fn taken(&self) -> u64 {
        self.passes.swap(0, Ordering::Relaxed)
    }

    /// Images in all passes.
    pub fn images(&self) -> u64 {
        self.images.load(Ordering::Relaxed)
    }

    /// Images in passes whose images wanted a gradient.
    pub fn towards_images(&self) -> u64 {
        self.towards_images.load(Ordering::Relaxed)
    }
}

impl<N> Counting<N> {
    /// Counts from 0.
    pub fn new(network: N) -> Self {
        Self { network, counts: Arc::default() }
    }

    /// What is counted, now and later.
    pub fn counts(&self) -> Arc<Counts> {
        self.counts.clone()
    }
}

impl<N: NetworkBackend + 'static> NetworkBackend for Counting<N> {
    fn info(&self) -> &NetworkInfo {
        self.network.info()
    }

    fn pass(&self, images: &Tensor, pass: Pass) -> Result<Output> {
        let Counts { passes, images: all, towards_images } = &*self.counts;
        let count = images.size()[0] as u64;
        passes.fetch_add(1, Ordering::Relaxed);
        all.fetch_add(count, Ordering::Relaxed);
        towards_images.fetch_add(if images.requires_grad() { count } else { 0 }, Ordering::Relaxed);
        self.network.pass(images, pass)
    }

    fn tensors(&self) -> Result<Tensors> {
        self.network.tensors()
    }

    fn rebind(&self, parameters: &[&Tensor]) -> Result<Box<dyn NetworkBackend>> {
        self.network.rebind(parameters)
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}
