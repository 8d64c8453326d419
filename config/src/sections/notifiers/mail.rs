//! `kind = "mail"`.

use std::collections::BTreeMap;
use std::num::NonZeroU32;
use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Deserializer};

use super::relay::{Relay, Security};
use super::samples::checked;
use crate::values::{Escape, Patterns, Regex, Secret, Size, Template, serde_fault, template_fault};

/// Headers that Greenroom writes itself, and those that would send the mail elsewhere.
const OWN_HEADERS: &[&str] = &[
    "from",
    "sender",
    "to",
    "cc",
    "bcc",
    "subject",
    "date",
    "message-id",
    "in-reply-to",
    "references",
    "mime-version",
    "auto-submitted",
    "list-id",
    "return-path",
    "received",
];

/// The keys of a mail notifier.
#[derive(Clone, Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Mail {
    /// What takes the mail: `smtp://host:port`, `smtps://…`, `smtp+starttls://user@host`, `sendmail:` or `sendmail:/path`.
    pub relay: Relay,
    /// The password of the relay's user.
    pub password: Option<Secret>,
    /// Authorities to trust beside the system's: a PEM file.
    pub tls_ca: Option<PathBuf>,
    /// The sender, such as `Greenroom <greenroom@example.org>`.
    pub from: MailAddress,
    /// Addresses that get every mail.
    #[serde(default)]
    pub to: Vec<MailAddress>,
    /// Whether those get it too whom it is about: who asked for the build, and the authors of the changes since the last good one.
    #[serde(default)]
    pub interested: bool,
    /// How people become addresses; the first rule that matches counts. Who matches none has the address that he is written with.
    #[serde(default)]
    pub lookup: Vec<AddressRule>,
    /// What is added to names without an address, such as `example.org`; without it such people get no mail.
    pub domain: Option<MailDomain>,
    /// Domains that interested people's addresses may have; when left out that of `from`.
    pub domains: Option<Patterns>,
    /// More headers.
    #[serde(default, deserialize_with = "headers")]
    pub headers: BTreeMap<String, String>,
    /// How many lines of the end of the failing step's log stand in the mail, at most 100.
    #[serde(default = "tail", deserialize_with = "at_most_100")]
    pub tail: u32,
    /// Whether the failing step's log is attached.
    #[serde(default)]
    pub attach_log: bool,
    /// How much of its end, at most 8 MiB.
    #[serde(default = "attach_limit", deserialize_with = "at_most_8_mib")]
    pub attach_limit: Size,
    /// Template of the subject.
    #[serde(default, deserialize_with = "subject")]
    pub subject: Option<Template>,
    /// File with the template of the text part.
    #[serde(default, deserialize_with = "text_file")]
    pub text_template: Option<Template>,
    /// File with the template of the HTML part.
    #[serde(default, deserialize_with = "html_file")]
    pub html_template: Option<Template>,
    /// The most addresses that one mail goes to.
    #[serde(default = "max_recipients")]
    pub max_recipients: NonZeroU32,
}

impl Mail {
    /// What does not fit together: the key, what is wrong with it, and help.
    pub(crate) fn faults(&self) -> Vec<(&'static str, &'static str, &'static str)> {
        let mut faults = Vec::new();
        if self.to.is_empty() && !self.interested {
            let help = "add to = [\"team@example.org\"], interested = true, or both";
            faults.push(("to", "nobody gets this mail", help));
        }
        let user = match &self.relay {
            Relay::Smtp(it) => it.user.as_ref().map(|_| it),
            Relay::Sendmail(_) => None,
        };
        match (user, &self.password) {
            (Some(_), None) => {
                faults.push((
                    "password",
                    "the relay's user has no password",
                    "add password = { file = \"…\" }",
                ));
            }
            (None, Some(_)) => {
                let help = "write the user before the host: smtps://user@host";
                faults.push(("password", "a password without a user is not used", help));
            }
            (Some(it), Some(_)) if it.security == Security::None && !it.is_local() => {
                let help = "use smtp+starttls:// or smtps://";
                faults.push(("relay", "the password would be sent for everybody on the way to read", help));
            }
            _ => {}
        }
        if !self.interested {
            let given = [
                ("lookup", !self.lookup.is_empty()),
                ("domain", self.domain.is_some()),
                ("domains", self.domains.is_some()),
            ];
            let unused = given.into_iter().filter(|(_, given)| *given);
            let message = "this is about interested people, who get no mail";
            faults.extend(unused.map(|(key, _)| (key, message, "add interested = true")));
        }
        faults
    }
}

/// How a person becomes an address.
#[derive(Clone, Debug, PartialEq)]
pub struct AddressRule {
    /// Whom it is for.
    pub pattern: PersonPattern,
    /// The address: `{name}` stands for the name, `$1` for what the regular expression's first group matched. Empty: such people get
    /// no mail.
    pub address: String,
}

/// Whom a rule is for: matched against the whole text (`Ada <ada@example.org>`), the name in it and the address in it.
#[derive(Clone, Debug, PartialEq)]
pub enum PersonPattern {
    /// `match`: globs.
    Glob(Patterns),
    /// `regex`: a regular expression that matches all of it.
    Regex(Regex),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct RuleTable {
    #[serde(rename = "match")]
    glob: Option<Patterns>,
    regex: Option<Regex>,
    address: String,
}

impl<'de> Deserialize<'de> for AddressRule {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let help = "write { match = \"ada\", address = \"ada@example.org\" }";
        let rule = RuleTable::deserialize(deserializer)?;
        let pattern = match (rule.glob, rule.regex) {
            (Some(glob), None) => PersonPattern::Glob(glob),
            (None, Some(regex)) => PersonPattern::Regex(regex),
            _ => return Err(serde_fault("a rule has either `match` or `regex`", help)),
        };
        let fits = rule.address.is_empty() || rule.address.contains('@') || rule.address.contains('$');
        if !fits || rule.address.chars().any(char::is_control) {
            return Err(serde_fault(format_args!("`{}` makes no address", rule.address), help));
        }
        Ok(AddressRule { pattern, address: rule.address })
    }
}

/// A mail address, with a name or without.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MailAddress {
    /// The name for people.
    pub name: Option<String>,
    /// The address itself.
    pub address: String,
}

impl MailAddress {
    /// Reads `Ada <ada@example.org>`, `"Ada" <ada@example.org>` or `ada@example.org`.
    pub fn parse(text: &str) -> Option<Self> {
        let text = text.trim();
        if text.chars().any(char::is_control) {
            return None;
        }
        let (name, address) = match text.strip_suffix('>').and_then(|it| it.rsplit_once('<')) {
            Some((name, address)) => (name.trim().trim_matches('"').trim(), address.trim()),
            None => ("", text),
        };
        let (local, domain) = address.rsplit_once('@')?;
        let fits = is_local_part(local) && is_domain(domain);
        fits.then(|| MailAddress {
            name: Some(name.to_owned()).filter(|it| !it.is_empty()),
            address: address.to_owned(),
        })
    }

    /// What stands after the `@`, in lower case.
    pub fn domain(&self) -> String {
        self.address.rsplit_once('@').map_or_else(String::new, |(_, domain)| domain.to_lowercase())
    }
}

/// Dot-separated atoms: quoted local parts are legal and nobody has one.
fn is_local_part(text: &str) -> bool {
    let atom = |it: char| it.is_ascii_alphanumeric() || "!#$%&'*+-/=?^_`{|}~".contains(it);
    text.len() <= 64 && text.split('.').all(|part| !part.is_empty() && part.chars().all(atom))
}

fn is_domain(text: &str) -> bool {
    let label = |part: &str| {
        !part.is_empty()
            && part.len() <= 63
            && !part.starts_with('-')
            && !part.ends_with('-')
            && part.chars().all(|it| it.is_ascii_alphanumeric() || it == '-')
    };
    text.len() <= 253 && text.split('.').all(label)
}

impl<'de> Deserialize<'de> for MailAddress {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let help = "write it like \"ada@example.org\" or \"Ada Lovelace <ada@example.org>\"";
        MailAddress::parse(&text).ok_or_else(|| serde_fault("this is no mail address", help))
    }
}

/// A domain, such as `example.org`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MailDomain(pub String);

impl<'de> Deserialize<'de> for MailDomain {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let domain = text.strip_prefix('@').unwrap_or(&text);
        if is_domain(domain) {
            Ok(MailDomain(domain.to_owned()))
        } else {
            Err(serde_fault("this is no domain", "write it like \"example.org\""))
        }
    }
}

fn headers<'de, D: Deserializer<'de>>(deserializer: D) -> Result<BTreeMap<String, String>, D::Error> {
    let headers = BTreeMap::<String, String>::deserialize(deserializer)?;
    for (name, value) in &headers {
        let printable = |it: char| it.is_ascii_graphic() && it != ':';
        if name.is_empty() || name.len() > 70 || !name.chars().all(printable) {
            return Err(serde_fault(format_args!("`{}` is no name of a header", name.escape_debug()), ""));
        }
        let lower = name.to_ascii_lowercase();
        if OWN_HEADERS.contains(&lower.as_str()) || lower.starts_with("content-") {
            let help = "there are `from`, `to` and `subject` for some of them";
            return Err(serde_fault(format_args!("`{name}` is written by Greenroom"), help));
        }
        if value.chars().any(char::is_control) {
            return Err(serde_fault(format_args!("`{name}` cannot hold control characters"), ""));
        }
    }
    Ok(headers)
}

fn at_most_100<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u32, D::Error> {
    match u32::deserialize(deserializer)? {
        lines @ 0..=100 => Ok(lines),
        _ => Err(serde_fault("at most 100 lines are kept", "attach-log = true sends more of the log")),
    }
}

fn at_most_8_mib<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Size, D::Error> {
    let size = Size::deserialize(deserializer)?;
    if size.bytes() > 8 << 20 { Err(serde_fault("at most 8 MiB can be attached", "")) } else { Ok(size) }
}

fn subject<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Template>, D::Error> {
    let source = String::deserialize(deserializer)?;
    let template = Template::parse("subject", &source, Escape::Plain).map_err(template_fault)?;
    checked(template).map(Some)
}

fn text_file<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Template>, D::Error> {
    let path = PathBuf::deserialize(deserializer)?;
    checked(Template::read(&path, Escape::Plain).map_err(template_fault)?).map(Some)
}

fn html_file<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Template>, D::Error> {
    let path = PathBuf::deserialize(deserializer)?;
    checked(Template::read(&path, Escape::Html).map_err(template_fault)?).map(Some)
}

fn tail() -> u32 {
    30
}

fn attach_limit() -> Size {
    Size::from_bytes(256 * 1024)
}

fn max_recipients() -> NonZeroU32 {
    NonZeroU32::MIN.saturating_add(49)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_taken_apart() {
        let parse = |text: &str| MailAddress::parse(text).map(|it| (it.name, it.address));
        let ada = "ada@example.org".to_owned();
        assert_eq!(parse("ada@example.org"), Some((None, ada.clone())));
        assert_eq!(
            parse(" Ada Lovelace <ada@example.org> "),
            Some((Some("Ada Lovelace".into()), ada.clone()))
        );
        assert_eq!(parse("\"Lovelace, Ada\" <ada@example.org>"), Some((Some("Lovelace, Ada".into()), ada)));
    }

    #[test]
    fn what_is_no_address_is_refused() {
        for text in [
            "",
            "ada",
            "@example.org",
            "ada@",
            "a b@example.org",
            "ada@exa mple.org",
            "ada@example.org\r\nBcc: eve@example.org",
            "ada@example.org, eve@example.org",
            "<ada@example.org> <eve@example.org",
            "ada@-example.org",
            "a..b@example.org",
            "Ada <ada@example.org>>",
            "ädä@example.org",
        ] {
            assert_eq!(MailAddress::parse(text), None, "{text:?}");
        }
    }

    #[test]
    fn a_header_cannot_take_the_place_of_ours() {
        let mail = |headers: serde_json::Value| {
            serde_json::from_value::<Mail>(serde_json::json!({
                "relay": "smtp://127.0.0.1:25", "from": "a@example.org", "headers": headers
            }))
        };
        assert!(mail(serde_json::json!({"Reply-To": "team@example.org", "X-Team": "core"})).is_ok());
        for bad in ["Bcc", "bcc", "Subject", "Content-Type", "X Y", "X:Y", "X\r\nBcc", "Ä", ""] {
            assert!(mail(serde_json::json!({bad: "x"})).is_err(), "{bad:?}");
        }
        assert!(mail(serde_json::json!({"X-Team": "core\r\nBcc: eve@example.org"})).is_err());
    }
}
