//! What runs found, as tables, as JSON, and as pages.

mod compare;
mod csv;
mod json;
mod legacy;
mod page;
mod run;
mod summary;
mod table;

pub use compare::{compare, comparison_page, latex, markdown};
pub use csv::{csv, csv_table};
pub use json::{evaluation_json, json, summary_json};
pub use legacy::{
    CAVEATS, Legacy, LegacyRow, Ranking, attack_efficiency, legacy, legacy_of_network, ranking_score,
    relative_drop, robustness_ratio,
};
pub use page::page;
pub use run::{RESULTS, RunRecord};
pub use summary::{Robust, Row, Spread, Summary, summary};
pub use table::{evaluation_table, table};
