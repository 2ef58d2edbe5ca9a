//! The query of a page's address, from which the addresses of its links are made.

use actix_web::web::Query;

/// Names and values, in order; those without a value are left out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pairs(Vec<(String, String)>);

impl Pairs {
    /// Of a query. What cannot be read stays as it is, for the reader that says what is wrong with it.
    #[must_use]
    pub fn of(query: &str) -> Self {
        let read = Query::<Vec<(String, String)>>::from_query(query).map(Query::into_inner).unwrap_or_default();
        Self(read.into_iter().filter(|(_, value)| !value.is_empty()).collect())
    }

    /// As a query.
    #[must_use]
    pub fn text(&self) -> String {
        self.0.iter().map(|(name, value)| format!("{}={}", encoded(name), encoded(value))).collect::<Vec<_>>().join("&")
    }

    /// With a value for a name, in place of what it had.
    #[must_use]
    pub fn with(&self, name: &str, value: &str) -> Self {
        let mut pairs = self.without(&[name]);
        pairs.0.push((name.to_owned(), value.to_owned()));
        pairs
    }

    /// Without these.
    #[must_use]
    pub fn without(&self, names: &[&str]) -> Self {
        Self(self.0.iter().filter(|(name, _)| !names.contains(&name.as_str())).cloned().collect())
    }

    /// The address of the page at `path` with this query.
    #[must_use]
    pub fn at(&self, path: &str) -> String {
        if self.0.is_empty() { path.to_owned() } else { format!("{path}?{}", self.text()) }
    }
}

/// Percent-encoding (RFC 3986 section 2.1) of all but what is never special.
fn encoded(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' | b':' | b',' | b'/' => {
                encoded.push(char::from(byte));
            }
            _ => encoded.push_str(&format!("%{byte:02X}")),
        }
    }
    encoded
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_keep_what_else_filters() {
        let pairs = Pairs::of("state=open&address=&agent=a%26b%20%22c");
        assert_eq!(pairs.with("port", "22").at("/x"), "/x?state=open&agent=a%26b%20%22c&port=22");
        assert_eq!(pairs.with("state", "up").without(&["agent"]).at("/x"), "/x?state=up");
        assert_eq!(pairs.without(&["state", "agent"]).at("/x"), "/x");
    }
}
