//! One word per idea: the words that DESIGN.md does not use are not used for ideas of ours.
//!
//! What other people's libraries call their things (`tokio::task`, `JoinHandle`) is theirs; so only
//! names that are given here are looked at, where they are given.

/// Not ours, each with the word that is.
const FOREIGN: [(&str, &str); 8] = [
    ("job", "shard or scan"),
    ("task", "shard or scan"),
    ("worker", "agent or prober"),
    ("node", "agent"),
    ("manager", "what it decides"),
    ("helper", "what it does"),
    ("util", "what it does"),
    ("utils", "what it does"),
];

/// Not used in any text either. In two halves so that this file does not hold them.
const NOWHERE: [(&str, &str); 2] = [("white", "list"), ("black", "list")];

/// What stands before a name that is given.
const GIVING: [&str; 11] = ["fn", "struct", "enum", "trait", "mod", "type", "const", "static", "let", "mut", "for"];

/// Names given in `text`, by a keyword before or a colon after them, that have a foreign word.
pub(crate) fn identifiers(text: &str) -> Vec<String> {
    let mut objections = Vec::new();
    for (number, line) in text.lines().enumerate() {
        let code = without_strings_and_comment(line);
        for name in given_names(&code) {
            let found =
                (words_of(name).into_iter()).find_map(|word| FOREIGN.into_iter().find(|(foreign, _)| *foreign == word));
            if let Some((foreign, ours)) = found {
                objections.push(format!("line {}: `{name}`: not {foreign}, say {ours}", number + 1));
            }
        }
    }
    objections
}

/// Lines that hold a word that is used nowhere.
pub(crate) fn anywhere(text: &str) -> Vec<String> {
    let mut objections = Vec::new();
    for (number, line) in text.lines().enumerate() {
        let line = line.to_lowercase();
        for (left, right) in NOWHERE {
            if line.contains(&format!("{left}{right}")) {
                objections.push(format!("line {}: {left}{right}", number + 1));
            }
        }
    }
    objections
}

fn given_names(code: &str) -> Vec<&str> {
    let tokens = tokens(code);
    let mut names = Vec::new();
    for (at, token) in tokens.iter().enumerate() {
        if !token.starts_with(|c: char| c.is_alphabetic() || c == '_') {
            continue;
        }
        let after_keyword = at > 0 && GIVING.contains(&tokens[at - 1]);
        // A field or an argument, not the head of a path (`task::spawn`), whose colons are one token.
        let before_colon = tokens.get(at + 1) == Some(&":");
        let tail_of_path = at > 0 && (tokens[at - 1] == "::" || tokens[at - 1] == ".");
        // `let task::Id(x)`, `for tokio::task::Id`: a path, not a name.
        let head_of_path = tokens.get(at + 1) == Some(&"::");
        if (after_keyword || before_colon) && !tail_of_path && !head_of_path {
            names.push(*token);
        }
    }
    names
}

/// Identifiers, `::`, and single other characters; white space is left out.
fn tokens(code: &str) -> Vec<&str> {
    let mut tokens = Vec::new();
    let mut rest = code.trim_start();
    while let Some(first) = rest.chars().next() {
        let is_name = |c: char| c.is_alphanumeric() || c == '_';
        let length = if is_name(first) {
            rest.find(|c| !is_name(c)).unwrap_or(rest.len())
        } else if rest.starts_with("::") {
            2
        } else {
            first.len_utf8()
        };
        tokens.push(&rest[..length]);
        rest = rest[length..].trim_start();
    }
    tokens
}

/// The words of `snake_case` and `CamelCase` names, in lower case, plural `s` taken off.
fn words_of(name: &str) -> Vec<String> {
    let mut words = vec![String::new()];
    let mut after_lower = false;
    for c in name.chars() {
        if c == '_' || (c.is_uppercase() && after_lower) {
            words.push(String::new());
        }
        after_lower = c.is_lowercase() || c.is_ascii_digit();
        if c != '_' {
            words.last_mut().expect("never empty").extend(c.to_lowercase());
        }
    }
    words.iter().map(|word| word.strip_suffix('s').unwrap_or(word).to_owned()).collect()
}

/// Cuts a `//` comment and what stands between quotes. A line in the middle of a long string is
/// taken for code: it rarely gives names.
fn without_strings_and_comment(line: &str) -> String {
    let mut code = String::new();
    let mut in_string = false;
    let mut chars = line.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            '\\' if in_string => drop(chars.next()),
            '"' => in_string = !in_string,
            '/' if !in_string && chars.peek() == Some(&'/') => break,
            _ if !in_string => code.push(c),
            _ => {}
        }
    }
    code
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_with_foreign_words_are_objected_to() {
        for bad in [
            "struct ProbeTask;",
            "pub enum WorkerState {",
            "fn run_jobs(",
            "    let mut task = 1;",
            "    for node in nodes {",
            "    node_id: u32,",
            "mod helper;",
            "const MAX_TASKS: usize = 3;",
            "fn f(worker: Worker) {}",
        ] {
            assert_eq!(identifiers(bad).len(), 1, "{bad}");
        }
        assert_eq!(identifiers("\nlet task = 1;"), ["line 2: `task`: not task, say shard or scan"]);
    }

    #[test]
    fn words_of_other_libraries_are_theirs() {
        for good in [
            "tokio::task::spawn(probe);",
            "use tokio::task;",
            "let x = task::spawn_local(async {});",
            "let task::Id(x) = id;",
            "// a task of tokio: one",
            "let text = \"task: a\";",
            "let nodeless = 1; struct Multitasking;",
            "handle.task.abort()",
        ] {
            assert_eq!(identifiers(good), [""; 0], "{good}");
        }
    }

    #[test]
    fn words_that_stand_nowhere_are_objected_to() {
        for (left, right) in NOWHERE {
            let text = format!("fine\nA {}{right} of hosts", left.to_uppercase());
            assert_eq!(anywhere(&text), [format!("line 2: {left}{right}")]);
        }
        assert!(anywhere("an allow-list").is_empty());
    }
}
