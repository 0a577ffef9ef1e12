//! Cuts the line that a problem points at out of its text, made fit for a terminal, and measures where the carets go.
//!
//! The rule: columns count characters, carets count cells. Tabs become spaces, and control and direction characters
//! become a visible mark, so that no recipe can move the carets or the cursor.

use std::ops::Range;

/// How far a tab reaches, in cells.
const TAB: usize = 4;

/// One line of a text and a part of it.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Cut {
    /// Line, from 1.
    pub line: usize,
    /// Column of the part in characters, from 1.
    pub column: usize,
    /// The line as it is shown.
    pub shown: String,
    /// Cells before the part.
    pub indent: usize,
    /// Cells of the part, at least 1; a part of several lines ends with its first line.
    pub carets: usize,
}

/// Finds the line where `range` (bytes of `text`) starts. Any range is good: it is moved to the nearest character.
pub(super) fn cut(text: &str, range: &Range<usize>) -> Cut {
    let start = text.floor_char_boundary(range.start);
    let end = text.floor_char_boundary(range.end).max(start);
    let (before, after) = text.split_at(start);
    let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
    let line_end = after.find('\n').map_or(text.len(), |newline| start + newline);
    let line = text[line_start..line_end].trim_end_matches('\r');
    let line_end = line_start + line.len();

    // A start inside the line's own ending counts as its end.
    let lead = &text[line_start..start.min(line_end)];
    let part = &text[start.min(line_end)..end.clamp(start.min(line_end), line_end)];
    let shown_lead = show(lead, 0);
    let shown_part = show(part, shown_lead.cells);
    let rest = &line[lead.len() + part.len()..];
    let shown_rest = show(rest, shown_lead.cells + shown_part.cells);
    Cut {
        line: before.matches('\n').count() + 1,
        column: lead.chars().count() + 1,
        shown: shown_lead.text + &shown_part.text + &shown_rest.text,
        indent: shown_lead.cells,
        carets: shown_part.cells.max(1),
    }
}

/// The text without anything that could move the cursor.
pub(super) fn printable(text: &str) -> String {
    show(text, 0).text
}

struct Shown {
    text: String,
    cells: usize,
}

fn show(text: &str, column: usize) -> Shown {
    let mut shown = Shown { text: String::with_capacity(text.len()), cells: 0 };
    for c in text.chars() {
        if c == '\t' {
            let cells = TAB - (column + shown.cells) % TAB;
            shown.text.extend(std::iter::repeat_n(' ', cells));
            shown.cells += cells;
        } else {
            let c = if is_invisible(c) { '\u{FFFD}' } else { c };
            shown.text.push(c);
            shown.cells += cells(c);
        }
    }
    shown
}

/// Control characters, and those that reorder or hide text.
fn is_invisible(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{200B}'..='\u{200F}' | '\u{2028}'..='\u{202E}' | '\u{2060}'..='\u{206F}' | '\u{FEFF}')
}

/// Cells that a terminal gives a character: the wide blocks of Unicode's East Asian Width, and combining marks.
fn cells(c: char) -> usize {
    match c {
        '\u{0300}'..='\u{036F}'
        | '\u{1AB0}'..='\u{1AFF}'
        | '\u{1DC0}'..='\u{1DFF}'
        | '\u{20D0}'..='\u{20FF}'
        | '\u{FE00}'..='\u{FE0F}'
        | '\u{FE20}'..='\u{FE2F}' => 0,
        '\u{1100}'..='\u{115F}'
        | '\u{2E80}'..='\u{303E}'
        | '\u{3041}'..='\u{A4CF}'
        | '\u{A960}'..='\u{A97F}'
        | '\u{AC00}'..='\u{D7A3}'
        | '\u{F900}'..='\u{FAFF}'
        | '\u{FE30}'..='\u{FE6F}'
        | '\u{FF00}'..='\u{FF60}'
        | '\u{FFE0}'..='\u{FFE6}'
        | '\u{1F300}'..='\u{1F64F}'
        | '\u{1F680}'..='\u{1F6FF}'
        | '\u{1F900}'..='\u{1F9FF}'
        | '\u{20000}'..='\u{3FFFD}' => 2,
        _ => 1,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn drawn(text: &str, range: Range<usize>) -> (usize, usize, String) {
        let cut = cut(text, &range);
        let drawing = format!("{}\n{}{}", cut.shown, " ".repeat(cut.indent), "^".repeat(cut.carets));
        (cut.line, cut.column, drawing)
    }

    #[test]
    fn a_tab_is_one_column_and_up_to_four_cells() {
        let text = "a = 1\n\tbc\t= 2\n";
        assert_eq!(drawn(text, 7..9), (2, 2, "    bc  = 2\n    ^^".into()));
    }

    #[test]
    fn a_wide_character_is_one_column_and_two_cells() {
        let text = "\"漢字\" = 1";
        assert_eq!(drawn(text, 11..12), (1, 8, "\"漢字\" = 1\n         ^".into()));
        assert_eq!(drawn(text, 0..8), (1, 1, "\"漢字\" = 1\n^^^^^^".into()));
    }

    #[test]
    fn a_part_of_several_lines_ends_with_its_first_line() {
        assert_eq!(drawn("a = [\r\n1]", 4..9), (1, 5, "a = [\n    ^".into()));
    }

    #[test]
    fn an_escape_sequence_is_shown_and_not_obeyed() {
        let (_, _, drawing) = drawn("a\u{1b}[2Jb\u{202E}", 0..1);
        assert_eq!(drawing, "a\u{FFFD}[2Jb\u{FFFD}\n^");
    }

    #[test]
    fn any_range_is_good() {
        let text = "é\r\n漢";
        for start in 0..12 {
            for end in 0..12 {
                assert!(cut(text, &(start..end)).carets >= 1);
            }
        }
        assert_eq!(cut("", &(5..9)).column, 1);
    }
}
