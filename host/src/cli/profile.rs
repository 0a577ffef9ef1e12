//! `--profile FILE`: where the time goes, as a trace that Perfetto and Chrome open: a span for each stage, each of its steps, each term
//! of a loss and each call of a plugin.

use super::Failure;
use std::{fs::File, io::BufWriter, path::Path};
use tracing_chrome::{ChromeLayerBuilder, FlushGuard};
use tracing_subscriber::{layer::SubscriberExt, util::SubscriberInitExt};

/// Spans are written as long as it lives.
pub(super) struct Profile {
    _ends_the_file: FlushGuard,
}

impl Profile {
    pub fn start(path: &Path) -> Result<Self, Failure> {
        let file = File::create(path).map_err(|error| {
            Failure::usage(format!("`{}` cannot be written: {error}", path.display()))
                .help("name another file with `--profile`")
        })?;
        let (layer, guard) =
            ChromeLayerBuilder::new().writer(BufWriter::new(file)).include_args(true).build();
        tracing_subscriber::registry().with(layer).init();
        Ok(Self { _ends_the_file: guard })
    }
}
