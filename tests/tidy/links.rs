//! Relative links of Markdown documents lead to a file of the repository.

/// Links in `text`, the document at `path`, to files that do not exist, as `exists` says of a path
/// from the root. Links to other places (`https:`) and within the document are not followed.
pub(crate) fn dead(path: &str, text: &str, exists: impl Fn(&str) -> bool) -> Vec<String> {
    let directory = path.rsplit_once('/').map_or("", |(directory, _)| directory);
    let mut objections = Vec::new();
    for (number, link) in links(text) {
        let target = link.split(['#', ' ']).next().unwrap_or_default();
        if target.is_empty() || target.contains("://") || target.starts_with("mailto:") {
            continue;
        }
        let from_root = match target.strip_prefix('/') {
            Some(absolute) => absolute.to_owned(),
            None => format!("{directory}/{target}").trim_start_matches('/').to_owned(),
        };
        if !exists(&from_root) {
            objections.push(format!("line {number}: {target} leads nowhere"));
        }
    }
    objections
}

/// What stands in `](...)` and after `[name]: ` outside of code blocks, with its line.
fn links(text: &str) -> Vec<(usize, &str)> {
    let mut links = Vec::new();
    let mut in_code = false;
    for (at, line) in text.lines().enumerate() {
        if line.trim_start().starts_with("```") {
            in_code = !in_code;
        }
        if in_code || line.starts_with("    ") {
            continue;
        }
        for (start, _) in line.match_indices("](") {
            let rest = &line[start + 2..];
            links.push((at + 1, rest.split(')').next().unwrap_or_default()));
        }
        let named = line.strip_prefix('[').and_then(|rest| rest.split_once("]: "));
        links.extend(named.map(|(_, target)| (at + 1, target)));
    }
    links
}

#[cfg(test)]
mod tests {
    use super::*;

    fn dead_at(path: &str, text: &str) -> Vec<String> {
        dead(path, text, |path| ["README.md", "deploy/labs/one.md"].contains(&path))
    }

    #[test]
    fn a_link_to_a_file_that_is_not_there_is_objected_to() {
        let text = "[a](README.md) and [b](GONE.md#part)\n![c](gone.png)\n[d]: nowhere.md";
        let expected = ["1: GONE.md", "2: gone.png", "3: nowhere.md"];
        let expected = expected.map(|line| format!("line {line} leads nowhere"));
        assert_eq!(dead_at("README.md", text), expected);
        assert_eq!(dead_at("deploy/labs/one.md", "[a](README.md)").len(), 1);
    }

    #[test]
    fn links_that_lead_somewhere_or_elsewhere_are_fine() {
        let text = "[a](/README.md) [b](one.md#x) [c](https://example.org/x) [d](#part)\n\
                    ```\n[e](gone.md)\n```\n    [f](gone.md)";
        assert_eq!(dead_at("deploy/labs/one.md", text), [""; 0]);
    }
}
