//! Rules for Rust files: size, head comment, leftovers, names of modules.

/// Above this a file is two files. DESIGN: "Rust files up to 600 lines".
const LINES_MAX: usize = 600;

/// What must not stay in a file, written in two halves so that this file does not hold them.
const LEFTOVERS: [(&str, &str); 9] = [
    ("to", "do!"),
    ("unimpl", "emented!"),
    ("db", "g!"),
    ("#[all", "ow("),
    ("#![all", "ow("),
    ("#[ign", "ore"),
    ("FIX", "ME"),
    ("XX", "X"),
    ("TO", "DO"),
];

/// Names that say where something lies, not what it is.
const NO_IDEAS: [&str; 10] =
    ["util", "utils", "common", "types", "manager", "managers", "helper", "helpers", "misc", "shared"];

pub(crate) fn size(text: &str) -> Vec<String> {
    let lines = text.lines().count();
    let objection = (lines > LINES_MAX).then(|| format!("{lines} lines, at most {LINES_MAX}"));
    objection.into_iter().collect()
}

pub(crate) fn head_comment(text: &str) -> Vec<String> {
    let first = text.lines().find(|line| !line.trim().is_empty()).unwrap_or_default();
    let says_something = first.strip_prefix("//!").is_some_and(|rest| rest.trim().len() > 3);
    let objection = (!says_something).then(|| "no `//!` line at its head".to_owned());
    objection.into_iter().collect()
}

pub(crate) fn leftovers(text: &str) -> Vec<String> {
    let mut objections = Vec::new();
    for (number, line) in text.lines().enumerate() {
        for (left, right) in LEFTOVERS {
            let leftover = format!("{left}{right}");
            if holds_word(line, &leftover) {
                objections.push(format!("line {}: `{leftover}` is left over", number + 1));
            }
        }
    }
    objections
}

pub(crate) fn module_name(path: &str) -> Vec<String> {
    (path.trim_end_matches(".rs").split('/'))
        .filter(|part| NO_IDEAS.contains(part))
        .map(|part| format!("`{part}` is a place, not an idea"))
        .collect()
}

/// Whether `word` stands in `line` with no letter, digit or `_` before or after it.
fn holds_word(line: &str, word: &str) -> bool {
    let joins = |c: char| c.is_alphanumeric() || c == '_';
    let (first, last) = (word.chars().next(), word.chars().next_back());
    line.match_indices(word).any(|(at, _)| {
        let (before, after) = (&line[..at], &line[at + word.len()..]);
        let glued_before = first.is_some_and(joins) && before.ends_with(joins);
        let glued_after = last.is_some_and(joins) && after.starts_with(joins);
        !glued_before && !glued_after
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_file_is_objected_to() {
        assert!(size(&"x\n".repeat(600)).is_empty());
        assert_eq!(size(&"x\n".repeat(601)), ["601 lines, at most 600"]);
    }

    #[test]
    fn a_file_that_does_not_say_what_it_is_for_is_objected_to() {
        assert!(head_comment("\n//! Reads ports.\nuse x;").is_empty());
        for bad in ["", "use x;\n//! Late.", "// Not a doc comment.", "//!", "//! \n"] {
            assert_eq!(head_comment(bad).len(), 1, "{bad:?}");
        }
    }

    #[test]
    fn every_leftover_is_objected_to() {
        for (left, right) in LEFTOVERS {
            let text = format!("fn a() {{}}\n    {left}{right} x");
            assert_eq!(leftovers(&text), [format!("line 2: `{left}{right}` is left over")]);
        }
    }

    #[test]
    fn what_only_contains_a_leftover_is_none() {
        let (left, right) = LEFTOVERS[7];
        assert!(leftovers(&format!("mkstemp(\"/tmp/{left}{right}{right}{right}\")")).is_empty());
        assert!(leftovers(&format!("{}_list", "to".to_owned() + "do")).is_empty());
    }

    #[test]
    fn a_module_without_an_idea_is_objected_to() {
        assert!(module_name("agent/src/pacer.rs").is_empty());
        assert_eq!(module_name("agent/src/util.rs").len(), 1);
        assert_eq!(module_name("agent/src/helpers/mod.rs").len(), 1);
        assert!(module_name("agent/src/utility_of_a_probe.rs").is_empty());
    }
}
