//! Who gets a mail: fixed addresses, and the people whom it is about.

use greenroom_config::{Mail, MailAddress, PersonPattern};

use crate::notice::{BuildNotice, Notice};

/// The recipients of one mail.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Recipients {
    /// Those of the configuration.
    pub fixed: Vec<MailAddress>,
    /// Those whom it is about.
    pub interested: Vec<MailAddress>,
    /// How many interested people were left out, since they have no address, or one of a foreign domain, or are too many.
    pub left_out: usize,
}

impl Recipients {
    /// All of them.
    pub fn all(&self) -> impl Iterator<Item = &MailAddress> {
        self.fixed.iter().chain(&self.interested)
    }

    /// Whether there is nobody.
    pub fn is_empty(&self) -> bool {
        self.fixed.is_empty() && self.interested.is_empty()
    }
}

/// Who gets this one.
pub(super) fn recipients(config: &Mail, notice: &Notice) -> Recipients {
    let mut found = Recipients::default();
    let most = config.max_recipients.get() as usize;
    for address in &config.to {
        add(&mut found.fixed, &[], address.clone());
    }
    found.fixed.truncate(most);
    if !config.interested {
        return found;
    }
    for person in people(notice) {
        match address_of(config, person) {
            Some(address)
                if is_allowed(config, &address) && found.fixed.len() + found.interested.len() < most =>
            {
                add(&mut found.interested, &found.fixed, address);
            }
            _ => found.left_out += 1,
        }
    }
    found
}

fn add(list: &mut Vec<MailAddress>, beside: &[MailAddress], address: MailAddress) {
    let known = |it: &MailAddress| it.address.eq_ignore_ascii_case(&address.address);
    if !list.iter().chain(beside).any(known) {
        list.push(address);
    }
}

/// Those whom a notice is about, as they are written, each once.
fn people(notice: &Notice) -> Vec<&str> {
    let mut found = Vec::new();
    match notice {
        Notice::Build(it) => found.extend(of(it)),
        Notice::Buildset(it) => found.extend(it.builds.iter().flat_map(of)),
        Notice::Digest(it) => found.extend(it.lines.iter().flat_map(|it| &it.blame).map(String::as_str)),
        Notice::WorkerMissing(it) => found.extend(it.admin.as_deref()),
        Notice::Test(_) => {}
    }
    let mut seen = std::collections::HashSet::new();
    found.retain(|it| seen.insert(*it));
    found
}

fn of(build: &BuildNotice) -> impl Iterator<Item = &str> {
    build.owners.iter().chain(&build.blame).map(String::as_str)
}

/// A person's address, by the first rule that matches; else the one that he is written with, else by `domain`.
fn address_of(config: &Mail, person: &str) -> Option<MailAddress> {
    let person = person.trim();
    let written = MailAddress::parse(person);
    let name = match person.split_once('<') {
        Some((name, _)) => name.trim().trim_matches('"').trim(),
        None => person,
    };
    let forms = [Some(person), Some(name), written.as_ref().map(|it| it.address.as_str())];
    for rule in &config.lookup {
        for form in forms.iter().flatten().filter(|it| !it.is_empty()) {
            let made = match &rule.pattern {
                PersonPattern::Glob(globs) if globs.matches(form) => rule.address.clone(),
                PersonPattern::Regex(regex) if regex.is_full_match(form) => {
                    let mut made = String::new();
                    if let Some(groups) = regex.get().captures(form) {
                        groups.expand(&rule.address, &mut made);
                    }
                    made
                }
                _ => continue,
            };
            // An empty address silences the person: what follows must not find one after all.
            return MailAddress::parse(&made.replace("{name}", form));
        }
    }
    written.or_else(|| {
        // Who is written with something like an address, which is none, is not guessed at.
        let domain = config.domain.as_ref().filter(|_| !person.contains(['<', '@']))?;
        MailAddress::parse(&format!("{person}@{}", domain.0))
    })
}

/// Whether interested people of this domain may get mail: changes come from anywhere, and may name anybody as their author.
fn is_allowed(config: &Mail, address: &MailAddress) -> bool {
    match &config.domains {
        Some(domains) => domains.matches(&address.domain()),
        None => address.domain() == config.from.domain(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::examples;

    fn config(more: Value) -> Mail {
        let mut all = json!({"relay": "smtp://127.0.0.1:25", "from": "ci@example.org", "interested": true});
        all.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        serde_json::from_value(all).unwrap()
    }

    fn found(more: Value, blame: &[&str]) -> (Vec<String>, usize) {
        let blame = blame.iter().map(|it| (*it).to_owned()).collect();
        let notice = BuildNotice { owners: Vec::new(), blame, ..examples::failed() };
        let all = recipients(&config(more), &Notice::Build(Box::new(notice)));
        (all.all().map(|it| it.address.clone()).collect(), all.left_out)
    }

    #[test]
    fn people_have_the_address_that_they_are_written_with() {
        let blame = ["Ada <ada@example.org>", "grace@example.org", "linus"];
        assert_eq!(found(json!({}), &blame), (vec!["ada@example.org".into(), "grace@example.org".into()], 1));
    }

    #[test]
    fn a_domain_is_added_to_bare_names() {
        let config = json!({"domain": "example.org"});
        assert_eq!(found(config, &["linus"]), (vec!["linus@example.org".into()], 0));
    }

    #[test]
    fn the_first_rule_that_matches_counts() {
        let config = json!({"lookup": [
            {"match": "Ada Lovelace", "address": "countess@example.org"},
            {"match": "*bot*", "address": ""},
            {"regex": "(\\w+)@old\\.example\\.org", "address": "${1}@example.org"},
            {"match": "l*", "address": "{name}.t@example.org"},
        ]});
        let blame = [
            "Ada Lovelace <ada@laptop>",
            "robot@example.org",
            "Al <alan@old.example.org>",
            "linus",
            "x@example.org",
        ];
        let wanted = ["countess@example.org", "alan@example.org", "linus.t@example.org", "x@example.org"];
        assert_eq!(found(config, &blame), (wanted.map(str::to_owned).to_vec(), 1));
    }

    #[test]
    fn foreign_domains_get_nothing_unless_they_are_allowed() {
        let blame = [
            "a@example.org",
            "b@sub.example.org",
            "c@example.com",
            "d@example.org.evil.com",
            "e@EXAMPLE.org",
        ];
        let own = vec!["a@example.org".to_owned(), "e@EXAMPLE.org".to_owned()];
        assert_eq!(found(json!({}), &blame), (own, 3));
        let some = found(json!({"domains": ["*.example.org", "example.com"]}), &blame);
        assert_eq!(some, (vec!["b@sub.example.org".to_owned(), "c@example.com".to_owned()], 3));
    }

    #[test]
    fn nobody_is_written_to_twice_or_in_crowds() {
        let same = ["ada@example.org", "Ada <ADA@example.org>", "Ada L <ada@example.org>"];
        assert_eq!(found(json!({"to": ["Ada@example.org"]}), &same), (vec!["Ada@example.org".to_owned()], 0));
        let many: Vec<String> = (0..100).map(|it| format!("p{it}@example.org")).collect();
        let many: Vec<&str> = many.iter().map(String::as_str).collect();
        let (some, left_out) = found(json!({"max-recipients": 10}), &many);
        assert_eq!((some.len(), left_out), (10, 90));
    }

    #[test]
    fn no_author_smuggles_in_another_recipient() {
        for author in [
            "Eve <eve@example.org>\r\nBcc: all@example.org",
            "eve@example.org, all@example.org",
            "eve@example.org\nRCPT TO:<all@example.org>",
            "<eve@example.org> <all@example.org",
            "eve@example.org>\r\nDATA",
        ] {
            assert_eq!(found(json!({}), &[author]), (vec![], 1), "{author:?}");
            assert_eq!(
                found(json!({"domain": "example.org"}), &[author]).0,
                Vec::<String>::new(),
                "{author:?}"
            );
        }
    }

    #[test]
    fn without_interested_only_the_fixed_ones_get_it() {
        let config = json!({"interested": false, "to": ["team@example.org"]});
        assert_eq!(found(config, &["ada@example.org"]), (vec!["team@example.org".to_owned()], 0));
    }
}
