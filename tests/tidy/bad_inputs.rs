//! Every bad input that is claimed to be dealt with has a test that carries its number:
//! `bad_input_74_...`.

use serde::Deserialize;

/// How many bad inputs the list of the project has.
const NUMBERS: std::ops::RangeInclusive<u32> = 1..=94;

/// `bad_inputs.toml`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Claims {
    /// Numbers that have a test.
    done: Vec<u32>,
}

/// Numbers that `claims` (the text of `bad_inputs.toml`) has, and `sources` no test for.
pub(crate) fn without_test(claims: &str, sources: &str) -> Vec<String> {
    let claims: Claims = match toml::from_str(claims) {
        Ok(claims) => claims,
        Err(error) => return vec![format!("bad_inputs.toml: {error}")],
    };
    let mut objections = Vec::new();
    for number in claims.done {
        if !NUMBERS.contains(&number) {
            objections.push(format!("there is no bad input {number}"));
        } else if !sources.contains(&format!("bad_input_{number}_")) {
            objections.push(format!("no test is called bad_input_{number}_..."));
        }
    }
    objections
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_without_a_test_is_objected_to() {
        let sources = "fn bad_input_7_length() {}\nfn bad_input_12_x() {}";
        assert!(without_test("done = [7, 12]", sources).is_empty());
        assert_eq!(without_test("done = [1, 7]", sources), ["no test is called bad_input_1_..."]);
        assert_eq!(without_test("done = [95]", sources), ["there is no bad input 95"]);
        assert_eq!(without_test("dun = [7]", sources).len(), 1);
    }
}
