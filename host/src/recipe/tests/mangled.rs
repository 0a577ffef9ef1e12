//! Mangled recipes: whatever the bytes, the answer is a recipe or problems with their places.

use super::*;
use crate::mangle::Dice;

/// How many mangled recipes are read.
const MANGLED: usize = 2000;

/// Changes a few bytes, which mostly makes it no TOML.
fn mangle_bytes(dice: &mut Dice, text: &str) -> String {
    const SNIPPETS: [&str; 15] =
        ["\n", "[", "]", "{", "}", "=", "\"", "'", ".", "inf", "-1", "1e999", "\t", "漢", "\0"];
    let mut bytes = text.as_bytes().to_vec();
    let at = dice.below(bytes.len());
    let until = (at + dice.below(12)).min(bytes.len());
    match dice.below(4) {
        0 => drop(bytes.drain(at..until)),
        1 => bytes[at] = dice.below(256) as u8,
        2 => drop(bytes.splice(at..at, SNIPPETS[dice.below(SNIPPETS.len())].bytes())),
        _ => {
            let part = bytes[at..until].to_vec();
            let to = dice.below(bytes.len());
            drop(bytes.splice(to..to, part));
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// Moves whole keys and values, which mostly leaves it TOML.
fn mangle_lines(dice: &mut Dice, text: &str) -> String {
    let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
    let (one, other) = (dice.below(lines.len()), dice.below(lines.len()));
    match (dice.below(3), lines[one].split_once(" = "), lines[other].split_once(" = ")) {
        (0, Some((key, _)), Some((_, value))) => lines[one] = format!("{key} = {value}"),
        (1, Some((_, value)), Some((key, _))) => lines[one] = format!("{key} = {value}"),
        _ => drop(lines.remove(one)),
    }
    lines.join("\n") + "\n"
}

#[test]
fn no_mangled_recipe_crashes() {
    let mut dice = Dice(1);
    let (mut good, mut misread, mut refused) = (0, 0, 0);
    for _ in 0..MANGLED {
        let mut text = FULL.to_owned();
        for _ in 0..=dice.below(3) {
            text = match dice.below(5) {
                0 => mangle_bytes(&mut dice, &text),
                _ => mangle_lines(&mut dice, &text),
            };
        }
        let lines: Vec<&str> = text.lines().collect();
        let line = lines[dice.below(lines.len())].to_owned();
        let sets: Vec<String> = (dice.below(4) == 0).then_some(line).into_iter().collect();
        match load("my.toml", &text, &sets) {
            Ok(loaded) => {
                good += 1;
                assert!(!loaded.variants.is_empty());
            }
            Err(problems) => {
                let told = problems.to_string();
                match told.contains("invalid TOML") {
                    true => misread += 1,
                    false => refused += 1,
                }
                assert!(!told.is_empty(), "{text}");
                assert!(!told.contains(UNREADABLE), "{told}\n\n{text}");
                for problem in problems.as_slice() {
                    assert!(problem.location.is_some(), "{told}\n\n{text}");
                }
            }
        }
    }
    let each = [good, misread, refused];
    assert!(each.iter().all(|count| *count > MANGLED / 20), "good, misread, refused: {each:?}");
}
