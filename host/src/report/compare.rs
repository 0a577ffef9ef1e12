//! Several runs side by side. Only what was measured on the same footing shares a table: the same images of the same data, the
//! same norm and the same attacks.

use super::{
    page::{document, escaped, figures},
    run::RunRecord,
    summary::{Row, Summary, codes},
    table::{CLEAN, caption, cells, header, table},
};
use guard_sdk::Budget;
use serde_json::Value;
use std::fmt::Write;

/// The runs as tables, one for each footing, in the order in which they come. Runs of one name are told apart by their
/// directories.
pub fn compare(runs: &[RunRecord]) -> Vec<Summary> {
    let mut groups: Vec<(Value, Summary)> = Vec::new();
    for run in runs {
        let mut summary = run.summary();
        if summary.rows.is_empty() {
            continue;
        }
        summary.options = run.attack_options();
        if runs.len() > 1 {
            let label = label(run, runs);
            for row in &mut summary.rows {
                row.variant = match run.plan.variants.len() {
                    1 => label.clone(),
                    _ => format!("{label}: {}", row.variant),
                };
            }
        }
        let footing = run.footing();
        let group =
            groups.iter_mut().find(|(other, group)| *other == footing && same_footing(group, &summary));
        match group {
            Some((_, group)) => merge(group, summary),
            None => groups.push((footing, summary)),
        }
    }
    groups.into_iter().map(|(_, group)| group).collect()
}

fn label(run: &RunRecord, runs: &[RunRecord]) -> String {
    let alike = runs.iter().filter(|other| other.plan.name == run.plan.name).count();
    if alike == 1 { run.plan.name.clone() } else { run.path.display().to_string() }
}

fn same_footing(one: &Summary, other: &Summary) -> bool {
    let footing = |summary: &Summary| {
        let norm = summary.budgets.first().map(|budget| budget.norm);
        (
            summary.dataset.clone(),
            summary.images,
            summary.split,
            summary.attacks.clone(),
            summary.knowledge,
            norm,
        )
    };
    footing(one) == footing(other)
}

/// Takes over the rows of `other`; the budgets become those of both, in rising order.
fn merge(group: &mut Summary, other: Summary) {
    let mut budgets = group.budgets.clone();
    budgets.extend(other.budgets.iter().filter(|budget| !group.budgets.contains(budget)));
    budgets.sort_by(|one, other| one.epsilon.total_cmp(&other.epsilon));
    let place = |row: &mut Row, own: &[Budget]| {
        let of = |budget: &Budget| row.robust.get(own.iter().position(|each| each == budget)?)?.clone();
        row.robust = budgets.iter().map(of).collect();
    };
    group.rows.iter_mut().for_each(|row| place(row, &group.budgets));
    group.rows.extend(other.rows.into_iter().map(|mut row| {
        place(&mut row, &other.budgets);
        row
    }));
    group.budgets = budgets;
}

/// The tables as Markdown.
pub fn markdown(groups: &[Summary]) -> String {
    groups.iter().map(table).collect::<Vec<_>>().join("\n")
}

/// The tables as one page that needs nothing from outside.
pub fn comparison_page(title: &str, groups: &[Summary], runs: &[RunRecord]) -> String {
    let mut body: String = runs
        .iter()
        .filter_map(RunRecord::unfinished)
        .map(|told| format!("<p>{}</p>\n", escaped(&told)))
        .collect();
    body.extend(groups.iter().map(figures));
    body.push_str("<h2>To repeat it</h2>\n<pre><code>");
    for run in runs {
        let told = format!("# {}\n{}", run.path.display(), run.begun.typed.command());
        let _ = writeln!(body, "{}", escaped(&told));
    }
    document(title, &(body + "</code></pre>\n"))
}

/// The tables in LaTeX, with the rules of the package booktabs. A robust accuracy that a flag makes doubtful has a dagger.
pub fn latex(groups: &[Summary]) -> String {
    let mut text = String::new();
    for group in groups {
        let (header, numbers) = (header(group), header(group).len() - 2);
        let line = |cells: &[String]| cells.iter().map(|cell| tex(cell)).collect::<Vec<_>>().join(" & ");
        let _ = writeln!(
            text,
            "% {}\n\\begin{{tabular}}{{ll{}}}\n\\toprule\n{} \\\\\n\\midrule",
            caption(group).trim_end(),
            "r".repeat(numbers),
            line(&header)
        );
        for row in &group.rows {
            let dagger = if row.flags.is_empty() { "" } else { "$^\\dagger$" };
            let mut cells: Vec<String> = cells(group, row).iter().map(|cell| tex(cell)).collect();
            let robust = header.iter().position(|name| name == CLEAN).map_or(0, |clean| clean + 1);
            let columns = if group.each_attack { group.attacks.len() + 1 } else { 1 };
            let robust = cells.iter_mut().skip(robust).take(columns * group.budgets.len());
            for cell in robust.filter(|cell| *cell != "--") {
                cell.push_str(dagger);
            }
            let _ = writeln!(text, "{} \\\\", cells.join(" & "));
        }
        let flags = group.flags();
        text.push_str("\\bottomrule\n");
        if !flags.is_empty() {
            let codes = codes(flags.iter().map(|(flag, _)| *flag));
            let (columns, codes) = (header.len(), tex(&codes.join(", ")));
            let _ = writeln!(
                text,
                "\\multicolumn{{{columns}}}{{l}}{{\\footnotesize $^\\dagger$ doubtful: {codes}}} \\\\"
            );
        }
        text.push_str("\\end{tabular}\n");
        for (flag, who) in flags {
            let _ = writeln!(text, "% {}: {who}: {}", flag.code, flag.message);
        }
        text.push('\n');
    }
    text.trim_end().to_string() + "\n"
}

fn tex(text: &str) -> String {
    let mut out = String::new();
    for character in text.chars() {
        match character {
            '&' | '%' | '$' | '#' | '_' | '{' | '}' => out.extend(['\\', character]),
            '\\' => out.push_str("\\textbackslash{}"),
            '~' => out.push_str("\\textasciitilde{}"),
            '^' => out.push_str("\\textasciicircum{}"),
            '±' => out.push_str("$\\pm$"),
            'ε' => out.push_str("$\\varepsilon$"),
            '–' => out.push_str("--"),
            other => out.push(other),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        engine::Flag,
        report::{
            csv::csv,
            summary::{Robust, Spread},
        },
    };
    use guard_sdk::{Norm, attack::Knowledge};

    fn summary(variant: &str, epsilons: &[f64], flagged: bool) -> Summary {
        let flag = Flag { code: "not-converged".into(), message: "it has not".into() };
        Summary {
            dataset: "digits".into(),
            images: 10,
            split: "test",
            attacks: vec!["pgd".into(), "fgsm".into()],
            options: vec!["steps 10".into(), String::new()],
            knowledge: Knowledge::WhiteBox,
            budgets: epsilons.iter().map(|&epsilon| Budget { norm: Norm::Linf, epsilon }).collect(),
            rows: vec![Row {
                variant: variant.into(),
                baseline: false,
                images_per_class: Some(10),
                network: "2 students".into(),
                clean: Spread::of(&[0.5, 0.7]),
                robust: epsilons
                    .iter()
                    .map(|_| {
                        Some(Robust {
                            worst: Spread::of(&[0.25]),
                            attacks: vec![Spread::of(&[0.25]), Spread::of(&[0.5])],
                        })
                    })
                    .collect(),
                curvature: None,
                flags: if flagged { vec![flag] } else { Vec::new() },
            }],
            each_attack: false,
        }
    }

    fn merged() -> Summary {
        let mut group = summary("a_b", &[0.1], true);
        assert!(same_footing(&group, &summary("c", &[0.2], false)));
        merge(&mut group, summary("c", &[0.05, 0.1], false));
        group
    }

    #[test]
    fn runs_with_other_radii_share_a_table_in_which_what_was_not_measured_is_open() {
        let text = markdown(&[merged()]);
        let rows: Vec<&str> = text.lines().filter(|line| line.starts_with('|')).collect();
        assert!(rows[0].contains("| ε = 0.05 | ε = 0.1 |"), "{text}");
        assert!(
            rows[2].contains("a_b") && rows[2].contains("| 60.0 ± 14.1 |        – |    25.0 |"),
            "{text}"
        );
        assert!(rows[3].contains("c") && rows[3].contains("|     25.0 |    25.0 |"), "{text}");
    }

    #[test]
    fn other_attacks_or_other_images_are_another_footing() {
        let one = summary("a", &[0.1], false);
        let fewer = Summary { images: 9, ..one.clone() };
        let weaker = Summary { attacks: vec!["fgsm".into()], ..one.clone() };
        assert!(!same_footing(&one, &fewer) && !same_footing(&one, &weaker));
    }

    #[test]
    fn latex_escapes_names_and_marks_doubtful_figures() {
        let text = latex(&[merged()]);
        assert!(text.contains("a\\_b & 2 students & 60.0 $\\pm$ 14.1 & -- & 25.0$^\\dagger$ \\\\"), "{text}");
        assert!(text.contains("c & 2 students & 60.0 $\\pm$ 14.1 & 25.0 & 25.0 \\\\"), "{text}");
        assert!(text.contains("% not-converged: a_b, 2 students: it has not"), "{text}");
    }

    #[test]
    fn attacks_have_columns_of_their_own_where_they_are_asked_for() {
        let text = latex(&[Summary { each_attack: true, ..merged() }]);
        let columns =
            ["0.05, pgd", "0.05, fgsm", "0.05, worst case", "0.1, pgd", "0.1, fgsm", "0.1, worst case"];
        let header = columns.map(|column| format!("$\\varepsilon$ = {column}")).join(" & ");
        assert!(text.contains(&header), "{text}");
        let doubtful = "-- & -- & -- & 25.0$^\\dagger$ & 50.0$^\\dagger$ & 25.0$^\\dagger$ \\\\";
        assert!(text.contains(doubtful), "{text}");
    }

    #[test]
    fn csv_has_a_line_for_every_figure() {
        let text = csv(&[merged()]).unwrap();
        assert_eq!(text.lines().count(), 1 + (1 + 3) + (1 + 6), "{text}");
        assert!(
            text.contains("digits,test,10,a_b,false,10,2 students,linf,0.1,fgsm,,0.5,,not-converged"),
            "{text}"
        );
    }
}
