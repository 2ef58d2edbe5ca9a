//! The files of the repository, as the checks see them.

use std::fs;
use std::path::{Path, PathBuf};

/// Directories that hold no source of ours.
const SKIPPED: [&str; 3] = [".git", "target", "node_modules"];

/// A text file: its path from the root of the repository, with `/`, and what is in it.
pub(crate) struct File {
    pub(crate) path: String,
    pub(crate) text: String,
}

impl File {
    pub(crate) fn is_rust(&self) -> bool {
        self.path.ends_with(".rs")
    }

    pub(crate) fn is_markdown(&self) -> bool {
        self.path.ends_with(".md")
    }

    /// A file with nothing but tests in it.
    pub(crate) fn is_test(&self) -> bool {
        self.path.ends_with("/tests.rs") || self.path.contains("/tests/")
    }
}

/// Every Rust, Markdown and TOML file of the repository.
pub(crate) struct Tree {
    pub(crate) root: PathBuf,
    pub(crate) files: Vec<File>,
}

impl Tree {
    pub(crate) fn read() -> Self {
        let root = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/..")).to_owned();
        let mut files = Vec::new();
        walk(&root, "", &mut files);
        files.sort_by(|left, right| left.path.cmp(&right.path));
        Self { root, files }
    }
}

fn walk(directory: &Path, prefix: &str, files: &mut Vec<File>) {
    for entry in fs::read_dir(directory).expect("the repository can be listed") {
        let entry = entry.expect("the repository can be listed");
        let name = entry.file_name().to_string_lossy().into_owned();
        let kind = entry.file_type().expect("the repository can be listed");
        let path = format!("{prefix}{name}");
        if kind.is_dir() && !SKIPPED.contains(&name.as_str()) {
            walk(&entry.path(), &format!("{path}/"), files);
        } else if kind.is_file() && [".rs", ".md", ".toml"].iter().any(|end| name.ends_with(end)) {
            let text = fs::read_to_string(entry.path()).expect("a source file is UTF-8");
            files.push(File { path, text });
        }
    }
}

#[test]
fn the_tree_holds_this_file_and_nothing_that_was_built() {
    let tree = Tree::read();
    let this = tree.files.iter().find(|file| file.path == "tests/tidy/tree.rs");
    assert!(this.is_some_and(|file| file.is_rust() && file.text.contains("SKIPPED")));
    assert!(tree.files.iter().all(|file| !file.path.starts_with("target/")));
}
