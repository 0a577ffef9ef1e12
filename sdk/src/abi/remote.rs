//! Plugin side: the host's tables as [`Network`], [`Services`](crate::Services) and [`Lab`](crate::Lab).

use super::convert::*;
use crate::{
    Batch, Budget, Clean, CleanRequest, Error, Network, NetworkInfo, Output, OwnedNetwork, Pass, Result,
    Statistics, Step,
    lab::{ExpertsInfo, LabBackend, LabInfo, RealBatch},
    network::{NetworkBackend, Tensors},
    services::{Draw, Level, ServicesBackend, on_cpu},
};
use abi_stable::std_types::{RNone, RSlice, RSome, RStr, RVec};
use guard_abi::{
    BatchView, CleanTable, HostView, Interface, LabTable, LabView, NetworkHandle, NetworkTable, NetworkView,
    NetworksTable, NumbersTable, PassRequest, RandomRequest, ServicesTable, StepView, ids,
};
use std::{any::Any, marker::PhantomData, sync::Mutex};
use tch::{Device, Tensor};

/// The host's tables that this library knows how to use.
#[derive(Clone, Copy)]
pub struct HostTables {
    network: &'static NetworkTable,
    services: &'static ServicesTable,
    lab: &'static LabTable,
    /// None on hosts from before it.
    networks: Option<&'static NetworksTable>,
    /// Hosts before it was published do not share passes.
    clean: Option<&'static CleanTable>,
    /// None on hosts from before it.
    numbers: Option<&'static NumbersTable>,
}

impl HostTables {
    /// Asks the host for its tables; layouts are compared once per host.
    pub fn of(host: HostView<'_>) -> Result<Self> {
        static KNOWN: Mutex<Vec<(usize, HostTables)>> = Mutex::new(Vec::new());
        let mut known = KNOWN.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        let address = host.interface as usize;
        if let Some((_, tables)) = known.iter().find(|(of, _)| *of == address) {
            return Ok(*tables);
        }
        let tables = Self {
            network: table(host, ids::NETWORK, Interface::table::<NetworkTable>)?,
            services: table(host, ids::SERVICES, Interface::table::<ServicesTable>)?,
            lab: table(host, ids::LAB, Interface::table::<LabTable>)?,
            networks: match (host.interface)(RStr::from(ids::NETWORKS)).is_some() {
                true => Some(table(host, ids::NETWORKS, Interface::table::<NetworksTable>)?),
                false => None,
            },
            clean: table(host, ids::CLEAN, Interface::table::<CleanTable>).ok(),
            numbers: table(host, ids::NUMBERS, Interface::table::<NumbersTable>).ok(),
        };
        known.push((address, tables));
        Ok(tables)
    }

    /// The host's services during a call.
    pub fn services(self, host: HostView<'_>) -> RemoteServices<'_> {
        RemoteServices { tables: self, host }
    }

    /// A lent network during a call.
    pub fn network(self, view: NetworkView<'_>) -> Result<RemoteNetwork> {
        RemoteNetwork::new(self.network, view.data, false)
    }

    /// The lab during a call.
    pub fn lab(self, view: LabView<'_>) -> Result<RemoteLab<'_>> {
        let info = serde_json::from_str(&result((self.lab.describe)(view.data))?)?;
        Ok(RemoteLab { tables: self, view, info })
    }
}

fn table<T>(
    host: HostView<'_>,
    id: &str,
    check: fn(&Interface) -> Result<&'static T, guard_abi::LayoutMismatch>,
) -> Result<&'static T> {
    let interface = (host.interface)(RStr::from(id)).into_option().ok_or_else(|| {
        Error::with_code("interface", format!("this host does not offer `{id}`"))
            .help("use a newer guard-host")
    })?;
    check(&interface).map_err(|_| {
        Error::with_code(
            "interface",
            format!("this host's `{id}` has another layout than the plugin was built for"),
        )
        .help("rebuild the plugin against this host's SDK")
    })
}

/// A network of the host.
pub struct RemoteNetwork {
    table: &'static NetworkTable,
    data: *const (),
    owned: bool,
    info: NetworkInfo,
}

// SAFETY: the host's networks are `Send`, and its table's functions are shielded and bound to no thread.
unsafe impl Send for RemoteNetwork {}

impl RemoteNetwork {
    fn new(table: &'static NetworkTable, data: *const (), owned: bool) -> Result<Self> {
        let info = NetworkInfo {
            architecture: String::new(),
            classes: 0,
            input: [0; 3],
            mean: vec![],
            std: vec![],
            batch_norm: vec![],
        };
        // Made first, so that an owned network is released if describing it fails.
        let mut network = Self { table, data, owned, info };
        network.info = serde_json::from_str(&result((table.describe)(data))?)?;
        Ok(network)
    }

    fn own(table: &'static NetworkTable, handle: NetworkHandle) -> Result<OwnedNetwork> {
        Ok(OwnedNetwork::new(Self::new(table, handle.data, true)?))
    }
}

impl Drop for RemoteNetwork {
    fn drop(&mut self) {
        if self.owned {
            (self.table.release)(self.data);
        }
    }
}

impl NetworkBackend for RemoteNetwork {
    fn info(&self) -> &NetworkInfo {
        &self.info
    }

    fn pass(&self, images: &Tensor, pass: Pass) -> Result<Output> {
        let (space, mode, wants) = pass_code(pass);
        let output =
            result((self.table.pass)(self.data, &PassRequest { input: lend(images), space, mode, wants }))?;
        Ok(Output {
            logits: take(output.logits),
            embedding: output.embedding.into_option().map(take),
            statistics: output
                .statistics
                .into_iter()
                .map(|each| Statistics {
                    layer: each.layer.into_string(),
                    mean: take(each.mean),
                    variance: take(each.variance),
                    running_mean: take(each.running_mean),
                    running_variance: take(each.running_variance),
                })
                .collect(),
            features: take_named(output.features),
        })
    }

    fn tensors(&self) -> Result<Tensors> {
        let tensors = result((self.table.tensors)(self.data))?;
        Ok(Tensors { parameters: take_named(tensors.parameters), buffers: take_named(tensors.buffers) })
    }

    fn rebind(&self, parameters: &[&Tensor]) -> Result<Box<dyn NetworkBackend>> {
        let views: Vec<_> = parameters.iter().map(|tensor| lend(tensor)).collect();
        let handle = result((self.table.rebind)(self.data, RSlice::from_slice(&views)))?;
        Ok(Box::new(Self::new(self.table, handle.data, true)?))
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}

/// The view of a network that goes back to the host.
fn view_of<'a>(network: &'a Network) -> Result<NetworkView<'a>> {
    let remote = network.backend().as_any().downcast_ref::<RemoteNetwork>();
    let remote = remote.ok_or_else(|| {
        Error::with_code("interface", "only networks that the host made can be passed to it")
    })?;
    Ok(NetworkView { data: remote.data, lent: PhantomData })
}

/// Lends a batch.
pub(super) fn batch_view<'a>(batch: &Batch<'a>) -> BatchView<'a> {
    BatchView {
        images: lend(batch.images),
        labels: lend(batch.labels),
        soft_labels: batch.soft_labels.map_or(RNone, |soft| RSome(lend(soft))),
        ids: RSlice::from_slice(batch.ids),
        space: space_code(batch.space),
    }
}

/// The host's services.
pub struct RemoteServices<'a> {
    tables: HostTables,
    host: HostView<'a>,
}

impl RemoteServices<'_> {
    fn step<'b>(&'b self, step: &Step<'b>) -> StepView<'b> {
        StepView {
            stage: RStr::from(step.stage),
            iteration: step.iteration,
            iterations: step.iterations,
            host: self.host,
        }
    }
}

/// A draw in its frozen form.
fn request<'a>(draw: &Draw<'a>) -> Result<RandomRequest<'a>> {
    Ok(RandomRequest {
        stream: RStr::from(draw.stream),
        draw: draw.draw,
        ids: RSlice::from_slice(draw.ids),
        shape: RSlice::from_slice(draw.shape),
        distribution: distribution_code(draw.distribution),
        kind: kind_code(draw.kind)?,
    })
}

impl ServicesBackend for RemoteServices<'_> {
    fn log(&self, level: Level, message: &str) {
        (self.tables.services.log)(self.host.data, level_code(level), RStr::from(message));
    }

    fn metric(&self, name: &str, value: &Tensor) -> Result<()> {
        result((self.tables.services.metric)(self.host.data, RStr::from(name), lend(value)))
    }

    fn cancelled(&self) -> bool {
        (self.tables.services.cancelled)(self.host.data)
    }

    fn progress(&self, fraction: f64) {
        (self.tables.services.progress)(self.host.data, fraction);
    }

    fn device(&self) -> Device {
        match (self.tables.services.device)(self.host.data) {
            index if index >= 0 => Device::Cuda(index as usize),
            _ => Device::Cpu,
        }
    }

    fn random(&self, draw: &Draw) -> Result<Tensor> {
        result((self.tables.services.random)(self.host.data, &request(draw)?)).map(take)
    }

    fn numbers(&self, draw: &Draw) -> Result<Vec<f64>> {
        match self.tables.numbers {
            Some(table) => result((table.numbers)(self.host.data, &request(draw)?)).map(RVec::into_vec),
            None => on_cpu(&self.random(draw)?),
        }
    }

    fn attack(&self, name: &str, options: &serde_json::Value) -> Result<u64> {
        result((self.tables.services.attack)(
            self.host.data,
            RStr::from(name),
            RStr::from(options.to_string().as_str()),
        ))
    }

    fn regularizer(&self, name: &str, options: &serde_json::Value) -> Result<u64> {
        result((self.tables.services.regularizer)(
            self.host.data,
            RStr::from(name),
            RStr::from(options.to_string().as_str()),
        ))
    }

    fn perturb(
        &self,
        key: u64,
        step: &Step,
        network: &Network,
        batch: &Batch,
        budget: &Budget,
    ) -> Result<Tensor> {
        let perturb = self.tables.services.perturb;
        result(perturb(
            self.host.data,
            key,
            &self.step(step),
            view_of(network)?,
            &batch_view(batch),
            &budget_view(budget),
        ))
        .map(take)
    }

    fn penalty(&self, key: u64, step: &Step, network: &Network, batch: &Batch) -> Result<Tensor> {
        let penalty = self.tables.services.penalty;
        result(penalty(self.host.data, key, &self.step(step), view_of(network)?, &batch_view(batch)))
            .map(take)
    }

    fn network(&self, name: &str) -> Result<OwnedNetwork> {
        let networks = self.tables.networks.ok_or_else(|| {
            Error::with_code("interface", format!("this host does not offer `{}`", ids::NETWORKS))
                .help("use a newer guard-host")
        })?;
        let handle = result((networks.network)(self.host.data, RStr::from(name)))?;
        RemoteNetwork::own(self.tables.network, handle)
    }

    fn clean(&self, network: &Network, batch: &Batch, request: CleanRequest) -> Result<Clean> {
        // A network that a method has wrapped is its own, and shared with nobody.
        let (Some(table), Ok(view)) = (self.tables.clean, view_of(network)) else {
            return Clean::compute(network, batch, request);
        };
        let asked = clean_code(request);
        let output = result((table.clean)(self.host.data, view, &batch_view(batch), &asked))?;
        Ok(Clean {
            images: take(output.images),
            logits: take(output.logits),
            losses: take(output.losses),
            gradient: output.gradient.into_option().map(take),
        })
    }
}

/// The host's lab.
pub struct RemoteLab<'a> {
    tables: HostTables,
    view: LabView<'a>,
    info: LabInfo,
}

impl LabBackend for RemoteLab<'_> {
    fn info(&self) -> &LabInfo {
        &self.info
    }

    fn teacher(&self) -> Result<OwnedNetwork> {
        RemoteNetwork::own(self.tables.network, result((self.tables.lab.teacher)(self.view.data))?)
    }

    fn fresh_network(&self, draw: u64) -> Result<OwnedNetwork> {
        RemoteNetwork::own(self.tables.network, result((self.tables.lab.fresh)(self.view.data, draw))?)
    }

    fn real(&self, class: Option<i64>, count: u64, draw: u64) -> Result<RealBatch> {
        if class.is_some_and(|class| class < 0) {
            return Err(Error::new(format!("there is no class {}", class.unwrap_or_default())));
        }
        let batch = result((self.tables.lab.real)(self.view.data, class.unwrap_or(-1), count, draw))?;
        Ok(RealBatch { images: take(batch.images), labels: take(batch.labels), ids: batch.ids.into_vec() })
    }

    fn training_loss(&self, network: &Network, batch: &Batch) -> Result<Tensor> {
        result((self.tables.lab.training_loss)(self.view.data, view_of(network)?, &batch_view(batch)))
            .map(take)
    }

    fn experts(&self) -> Result<ExpertsInfo> {
        Ok(serde_json::from_str(&result((self.tables.lab.experts)(self.view.data))?)?)
    }

    fn expert(&self, trajectory: u64, snapshot: u64) -> Result<OwnedNetwork> {
        RemoteNetwork::own(
            self.tables.network,
            result((self.tables.lab.expert)(self.view.data, trajectory, snapshot))?,
        )
    }
}
