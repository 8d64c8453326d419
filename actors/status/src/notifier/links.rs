//! Addresses of the page, as messages link to it.

use crate::transport::Farm;

/// A segment of a path.
fn segment(name: &str) -> String {
    let mut out = String::with_capacity(name.len());
    for byte in name.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            out.push(char::from(byte));
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
    out
}

/// A builder's page.
pub fn builder(farm: &Farm, name: &str) -> String {
    format!("{}builders/{}", farm.url, segment(name))
}

/// A build's page.
pub fn build(farm: &Farm, name: &str, number: i64) -> String {
    format!("{}/builds/{number}", builder(farm, name))
}

/// A log's page.
pub fn log(farm: &Farm, name: &str, number: i64, step: i64, slug: &str) -> String {
    format!("{}/steps/{step}/logs/{}", build(farm, name, number), segment(slug))
}

/// A worker's page.
pub fn worker(farm: &Farm, name: &str) -> String {
    format!("{}workers/{}", farm.url, segment(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_escaped() {
        let farm = Farm { title: "t".into(), url: "https://ci.example.org/x/".into() };
        assert_eq!(
            log(&farm, "a/b ü", 7, 2, "stdio"),
            "https://ci.example.org/x/builders/a%2Fb%20%C3%BC/builds/7/steps/2/logs/stdio"
        );
    }
}
