//! The packages that hold decisions stay pure: no dependency and no call by which they could reach
//! a socket, a file, a clock or a random source. Theirs is what DESIGN.md "Parts" allows.

use toml::{Table, Value};

/// The directories of the pure packages.
pub(crate) const PURE: [&str; 3] = ["protocol", "agent/core", "coordinator/core"];

/// Packages with which one reaches the machine.
const IMPURE: [&str; 19] = [
    "actix",
    "actix-rt",
    "actix-web",
    "async-std",
    "fastrand",
    "getrandom",
    "hickory-resolver",
    "jiff",
    "libc",
    "mio",
    "nix",
    "rand",
    "rlimit",
    "rusqlite",
    "rustix",
    "socket2",
    "surge-ping",
    "tokio",
    "tokio-util",
];

/// Paths of the standard library that reach it without a dependency.
const IMPURE_CALLS: [&str; 9] = [
    "std::fs",
    "std::env",
    "std::process",
    "std::thread",
    "TcpStream",
    "TcpListener",
    "UdpSocket",
    "Instant::now",
    "SystemTime",
];

/// Impure packages among the dependencies of any kind in `manifest`.
pub(crate) fn impure_dependencies(manifest: &str) -> Vec<String> {
    let manifest: Table = match manifest.parse() {
        Ok(manifest) => manifest,
        Err(error) => return vec![format!("is no TOML: {error}")],
    };
    let mut names = Vec::new();
    collect(&Value::Table(manifest), &mut names);
    let impure = names.into_iter().filter(|name| IMPURE.contains(&name.as_str()));
    impure.map(|name| format!("depends on {name}")).collect()
}

/// Names under every table called `dependencies`, `dev-dependencies`, ..., also those of a target;
/// a renamed one counts as what it is.
fn collect(value: &Value, names: &mut Vec<String>) {
    let Some(table) = value.as_table() else {
        return;
    };
    for (key, value) in table {
        if key.ends_with("dependencies") {
            for (name, entry) in value.as_table().into_iter().flatten() {
                let renamed = entry.get("package").and_then(Value::as_str);
                names.push(renamed.unwrap_or(name).to_owned());
            }
        } else {
            collect(value, names);
        }
    }
}

/// Impure calls in `text`, tests at its end excepted.
pub(crate) fn impure_calls(text: &str) -> Vec<String> {
    let product = text.split("#[cfg(test)]\nmod tests {").next().unwrap_or_default();
    let mut objections = Vec::new();
    for (number, line) in product.lines().enumerate() {
        let code = line.split("//").next().unwrap_or_default();
        for call in IMPURE_CALLS.iter().filter(|call| code.contains(**call)) {
            objections.push(format!("line {}: {call}", number + 1));
        }
    }
    objections
}

/// Whether the package does without the lints of the workspace.
pub(crate) fn own_lints(manifest: &str) -> Vec<String> {
    let manifest: Option<Table> = manifest.parse().ok();
    let inherits =
        manifest.as_ref().and_then(|manifest| manifest.get("lints")?.get("workspace")?.as_bool()).unwrap_or(false);
    let objection = (!inherits).then(|| "has no `[lints] workspace = true`".to_owned());
    objection.into_iter().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_impure_dependency_is_objected_to() {
        for name in IMPURE {
            for manifest in [
                format!("[dependencies]\nserde = \"1\"\n{name} = \"1\""),
                format!("[dependencies]\n{name}.workspace = true"),
                format!("[dev-dependencies.{name}]\nversion = \"1\""),
                format!("[target.'cfg(unix)'.dependencies]\n{name} = \"1\""),
                format!("[dependencies]\nquiet = {{ package = \"{name}\", version = \"1\" }}"),
            ] {
                let expected = [format!("depends on {name}")];
                assert_eq!(impure_dependencies(&manifest), expected, "{manifest}");
            }
        }
        assert_eq!(impure_dependencies("[dependencies]\nserde = \"1\"\n[features]"), [""; 0]);
        assert_eq!(impure_dependencies("[dependencies").len(), 1);
    }

    #[test]
    fn every_impure_call_is_objected_to_but_in_tests_and_comments() {
        for call in IMPURE_CALLS {
            let text = format!("fn a() {{}}\nlet x = {call}(y);");
            assert_eq!(impure_calls(&text), [format!("line 2: {call}")]);
            assert_eq!(impure_calls(&format!("// {call}\n#[cfg(test)]\nmod tests {{\n{call}")), [""; 0]);
        }
    }

    #[test]
    fn a_package_with_lints_of_its_own_is_objected_to() {
        assert_eq!(own_lints("[package]\nname = \"x\"").len(), 1);
        assert_eq!(own_lints("[lints]\nworkspace = false").len(), 1);
        assert!(own_lints("[lints]\nworkspace = true").is_empty());
    }
}
