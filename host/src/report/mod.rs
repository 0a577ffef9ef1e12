//! What a run found, as a table, as JSON, and as a page.

mod arrays;
mod html;
mod json;
mod summary;
mod table;

pub use arrays::arrays;
pub use html::page;
pub use json::{evaluation_json, json};
pub use summary::{Row, Spread, Summary, summary};
pub use table::{evaluation_table, table};
