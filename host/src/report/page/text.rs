//! Text and tables as HTML.

use std::fmt::Write;

/// Text that is no markup.
pub fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

/// A table whose columns from the third on are numbers.
pub fn table<H: AsRef<str>, C: AsRef<str>>(header: &[H], rows: impl Iterator<Item = Vec<C>>) -> String {
    let class = |column: usize| if column < 2 { "" } else { " class=\"number\"" };
    let mut html = "<div class=\"wide\"><table><tr>".to_string();
    for (column, name) in header.iter().enumerate() {
        let _ = write!(html, "<th{}>{}</th>", class(column), escaped(name.as_ref()));
    }
    html.push_str("</tr>\n");
    for row in rows {
        html.push_str("<tr>");
        for (column, cell) in row.iter().enumerate() {
            let _ = write!(html, "<td{}>{}</td>", class(column), escaped(cell.as_ref()));
        }
        html.push_str("</tr>\n");
    }
    html + "</table></div>\n"
}
