//! The repository keeps its own rules: each check here goes over every file, and each has been
//! shown an offending text that it must object to.
//!
//! A check is a function from text to the objections it has, so that it can be tried without a
//! tree. What they hold: [`rust`] (size, head comment, leftovers, names), [`words`] (one word per
//! idea), [`links`] (no dead link), [`packages`] (the pure packages stay pure), [`bad_inputs`]
//! (every bad input that is claimed to be dealt with has a test).

mod bad_inputs;
mod links;
mod packages;
mod rust;
mod tree;
mod words;

use tree::{File, Tree};

/// Fails with every objection to every file that `wanted` picks.
fn each_file(wanted: impl Fn(&File) -> bool, check: impl Fn(&File) -> Vec<String>) {
    let tree = Tree::read();
    let files: Vec<_> = tree.files.iter().filter(|file| wanted(file)).collect();
    assert!(!files.is_empty(), "a check that looks at no file says nothing");
    let objections: Vec<_> = files
        .into_iter()
        .flat_map(|file| check(file).into_iter().map(|text| format!("{}: {text}", file.path)))
        .collect();
    assert!(objections.is_empty(), "{}", objections.join("\n"));
}

#[test]
fn rust_files_are_short() {
    each_file(File::is_rust, |file| rust::size(&file.text));
}

#[test]
fn rust_files_begin_with_what_they_are_for() {
    each_file(File::is_rust, |file| rust::head_comment(&file.text));
}

#[test]
fn nothing_is_left_over() {
    each_file(File::is_rust, |file| rust::leftovers(&file.text));
}

#[test]
fn modules_are_named_after_an_idea() {
    each_file(File::is_rust, |file| rust::module_name(&file.path));
}

#[test]
fn identifiers_use_our_words() {
    each_file(File::is_rust, |file| words::identifiers(&file.text));
}

#[test]
fn documents_use_our_words() {
    each_file(|file| file.is_rust() || file.is_markdown(), |file| words::anywhere(&file.text));
}

#[test]
fn links_lead_somewhere() {
    let tree = Tree::read();
    let exists = |path: &str| tree.root.join(path).exists();
    each_file(File::is_markdown, |file| links::dead(&file.path, &file.text, exists));
}

#[test]
fn pure_packages_depend_on_nothing_impure() {
    let is_pure = |file: &File| packages::PURE.iter().any(|pure| file.path == format!("{pure}/Cargo.toml"));
    each_file(is_pure, |file| packages::impure_dependencies(&file.text));
}

#[test]
fn pure_packages_touch_no_machine() {
    let is_pure = |file: &File| {
        packages::PURE.iter().any(|pure| file.path.starts_with(&format!("{pure}/src/")))
            && file.is_rust()
            && !file.is_test()
    };
    each_file(is_pure, |file| packages::impure_calls(&file.text));
}

#[test]
fn packages_take_the_lints_of_the_workspace() {
    let is_package = |file: &File| file.path.ends_with("/Cargo.toml");
    each_file(is_package, |file| packages::own_lints(&file.text));
}

#[test]
fn bad_inputs_that_are_dealt_with_have_a_test() {
    let tree = Tree::read();
    let sources = tree.files.iter().filter(|file| file.is_rust() && !file.path.contains("/tidy/"));
    let text: String = sources.map(|file| file.text.as_str()).collect();
    let objections = bad_inputs::without_test(include_str!("bad_inputs.toml"), &text);
    assert!(objections.is_empty(), "{}", objections.join("\n"));
}
