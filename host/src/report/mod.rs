//! What a run found, as a table, as JSON, and as a page.

mod curve;
mod html;
mod json;
mod legacy;
mod summary;
mod table;

pub use html::page;
pub use json::{evaluation_json, json};
pub use legacy::{
    CAVEATS, Legacy, LegacyRow, Ranking, attack_efficiency, legacy, legacy_of_network, ranking_score,
    relative_drop, robustness_ratio,
};
pub use summary::{Row, Spread, Summary, summary};
pub use table::{evaluation_table, table};
