//! Who somebody is: the services account behind a nick.
//!
//! A nick proves nothing, it is whoever took it first. The account is told by the server: with each message (`account-tag`), or with
//! joins and logins (`extended-join` with `account-notify`, and WHOX for those who were there before us), or when it is asked
//! about one nick (WHOX, else WHOIS). What is remembered is forgotten as soon as its owner might be out of sight.

use std::collections::HashMap;

use irc_proto::Command;

use super::names::CaseMapping;

/// The most nicks whose accounts are remembered; further ones are asked about when it matters.
const MOST_REMEMBERED: usize = 10_000;
/// The token of WHOX questions about whole channels; the others count below it.
const CHANNEL_TOKEN: u16 = 999;
/// The most questions under way.
const MOST_QUESTIONS: usize = 16;

/// What a WHOX answer is asked to hold: token, user, host, nick, account.
const FIELDS: &str = "%tuhna";

/// Somebody who spoke.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Speaker {
    /// The nick at that moment.
    pub nick: String,
    /// The user name, as the server shows it.
    pub user: String,
    /// The host, as the server shows it.
    pub host: String,
}

/// Whether an account is known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Account {
    /// Logged in under this name, or not logged in.
    Known(Option<String>),
    /// The server must be asked.
    Unknown,
}

/// A question about one nick, until it is answered.
#[derive(Debug)]
struct Question {
    token: u16,
    who: Speaker,
    /// What was told so far: the person is the same, and the account.
    same: bool,
    account: Option<String>,
}

/// What is known of accounts on one connection.
#[derive(Debug, Default)]
pub struct Accounts {
    /// Each message bears its sender's account.
    pub tags: bool,
    /// Joins bear accounts.
    pub joins: bool,
    /// Logins and logouts of those in our channels are told.
    pub changes: bool,
    /// The server answers WHO with accounts.
    pub whox: bool,
    remembered: HashMap<String, Option<String>>,
    questions: Vec<Question>,
    last_token: u16,
}

impl Accounts {
    /// The account of whoever sent a message with this `account` tag.
    pub fn of(&self, tag: Option<&str>, nick: &str, case: CaseMapping) -> Account {
        if self.tags {
            // without the tag the sender is not logged in
            return Account::Known(tag.map(str::to_owned));
        }
        if !self.follows() {
            return Account::Unknown;
        }
        self.remembered.get(&case.fold(nick)).map_or(Account::Unknown, |known| Account::Known(known.clone()))
    }

    /// Whether what was heard once stays true until told otherwise.
    fn follows(&self) -> bool {
        self.joins && self.changes
    }

    /// A person with this account is in a channel of ours. `*` and `0` mean none.
    pub fn learn(&mut self, nick: &str, account: &str, case: CaseMapping) {
        if self.follows() && self.remembered.len() < MOST_REMEMBERED {
            let account = (account != "*" && account != "0").then(|| account.to_owned());
            self.remembered.insert(case.fold(nick), account);
        }
    }

    /// A person is called otherwise now; a question under way is about nobody any more.
    pub fn renamed(&mut self, from: &str, to: &str, case: CaseMapping) {
        let known = self.remembered.remove(&case.fold(from));
        self.remembered.remove(&case.fold(to));
        if let Some(known) = known {
            self.remembered.insert(case.fold(to), known);
        }
        self.disturb(from, case);
    }

    /// A person is out of sight, or may be.
    pub fn forget(&mut self, nick: &str, case: CaseMapping) {
        self.remembered.remove(&case.fold(nick));
        self.disturb(nick, case);
    }

    /// We left a channel: who was seen only there is out of sight.
    pub fn forget_all(&mut self) {
        self.remembered.clear();
    }

    /// How many are remembered.
    #[cfg(test)]
    fn remembered(&self) -> usize {
        self.remembered.len()
    }

    fn disturb(&mut self, nick: &str, case: CaseMapping) {
        for question in &mut self.questions {
            if case.same(&question.who.nick, nick) {
                question.same = false;
                question.account = None;
            }
        }
    }

    /// Asks who is in a channel that we joined, if the answer can be kept.
    pub fn ask_channel(&self, channel: &str) -> Option<Command> {
        let useful = self.whox && self.follows() && !self.tags;
        useful.then(|| who(channel, CHANNEL_TOKEN))
    }

    /// Asks about one person; the answer comes from [`Self::answered`] with the token. None if too much is asked already.
    pub fn ask(&mut self, who_spoke: Speaker) -> Option<(u16, Command)> {
        if self.questions.len() >= MOST_QUESTIONS {
            return None;
        }
        self.last_token = self.last_token % (CHANNEL_TOKEN - 1) + 1;
        let token = self.last_token;
        let nick = who_spoke.nick.clone();
        self.questions.push(Question { token, who: who_spoke, same: false, account: None });
        let ask = if self.whox { who(&nick, token) } else { Command::Raw("WHOIS".to_owned(), vec![nick]) };
        Some((token, ask))
    }

    /// A question that is not waited for any more.
    pub fn drop_question(&mut self, token: u16) {
        self.questions.retain(|question| question.token != token);
    }

    /// Takes a reply of the server: which questions it settles, each with the account. One who changed meanwhile has none.
    pub fn answered(&mut self, code: u16, args: &[String], case: CaseMapping) -> Vec<(u16, Option<String>)> {
        match (code, args) {
            // WHOX: me, token, user, host, nick, account
            (354, [_, token, user, host, nick, account]) => {
                let token = token.parse().unwrap_or(0);
                if token == CHANNEL_TOKEN {
                    self.learn(nick, account, case);
                } else if let Some(question) = self.questions.iter_mut().find(|q| q.token == token) {
                    question.same = case.same(&question.who.nick, nick)
                        && question.who.user == *user
                        && question.who.host == *host;
                    question.account = (account != "0" && account != "*").then(|| account.clone());
                }
                Vec::new()
            }
            // WHOIS: me, nick, user, host, *, real name
            (311, [_, nick, user, host, ..]) => {
                for question in self.about(nick, case) {
                    question.same = question.who.user == *user && question.who.host == *host;
                }
                Vec::new()
            }
            // WHOIS: me, nick, account, "is logged in as"
            (330, [_, nick, account, ..]) => {
                for question in self.about(nick, case) {
                    question.account = Some(account.clone());
                }
                Vec::new()
            }
            // the ends of WHO and WHOIS, and "no such nick": me, nick, …
            (315 | 318 | 401, [_, nick, ..]) => self.settle(nick, case),
            _ => Vec::new(),
        }
    }

    fn about<'a>(&'a mut self, nick: &str, case: CaseMapping) -> impl Iterator<Item = &'a mut Question> {
        let nick = case.fold(nick);
        self.questions.iter_mut().filter(move |q| case.fold(&q.who.nick) == nick)
    }

    fn settle(&mut self, nick: &str, case: CaseMapping) -> Vec<(u16, Option<String>)> {
        // Answers come in the order of questions, so the oldest about this nick is the one that ends.
        let Some(at) = self.questions.iter().position(|q| case.same(&q.who.nick, nick)) else {
            return Vec::new();
        };
        let question = self.questions.remove(at);
        vec![(question.token, question.account.filter(|_| question.same))]
    }
}

fn who(target: &str, token: u16) -> Command {
    Command::Raw("WHO".to_owned(), vec![target.to_owned(), format!("{FIELDS},{token}")])
}

#[cfg(test)]
mod tests {
    use super::*;

    const CASE: CaseMapping = CaseMapping::Rfc1459;

    fn ada() -> Speaker {
        Speaker { nick: "Ada".into(), user: "ada".into(), host: "example.org".into() }
    }

    fn args(words: &[&str]) -> Vec<String> {
        words.iter().map(|w| (*w).to_owned()).collect()
    }

    fn known(name: &str) -> Account {
        Account::Known(Some(name.to_owned()))
    }

    #[test]
    fn a_tag_is_the_whole_truth_when_messages_bear_tags() {
        let accounts = Accounts { tags: true, joins: true, changes: true, ..Default::default() };
        assert_eq!(accounts.of(Some("ada"), "x", CASE), known("ada"));
        assert_eq!(accounts.of(None, "x", CASE), Account::Known(None));
        // a tag that was not agreed on is worth nothing
        assert_eq!(Accounts::default().of(Some("ada"), "x", CASE), Account::Unknown);
    }

    #[test]
    fn what_is_remembered_ends_when_its_owner_is_out_of_sight() {
        let mut accounts = Accounts { joins: true, changes: true, ..Default::default() };
        accounts.learn("Ada", "ada", CASE);
        accounts.learn("bob", "*", CASE);
        assert_eq!(accounts.of(None, "aDA", CASE), known("ada"));
        assert_eq!(accounts.of(None, "bob", CASE), Account::Known(None));
        accounts.renamed("ada", "eve", CASE);
        assert_eq!(accounts.of(None, "ada", CASE), Account::Unknown);
        assert_eq!(accounts.of(None, "eve", CASE), known("ada"));
        // bob takes over a name: what was known of it does not stay
        accounts.learn("mallory", "*", CASE);
        accounts.renamed("mallory", "eve", CASE);
        assert_eq!(accounts.of(None, "eve", CASE), Account::Known(None));
        accounts.forget("eve", CASE);
        assert_eq!(accounts.of(None, "eve", CASE), Account::Unknown);
        accounts.forget_all();
        assert_eq!(accounts.remembered(), 0);
    }

    #[test]
    fn without_both_kinds_of_news_nothing_is_remembered() {
        for (joins, changes) in [(true, false), (false, true), (false, false)] {
            let mut accounts = Accounts { joins, changes, ..Default::default() };
            accounts.learn("ada", "ada", CASE);
            assert_eq!(accounts.of(None, "ada", CASE), Account::Unknown);
        }
    }

    #[test]
    fn whox_answers_about_the_same_person_only() {
        let mut accounts = Accounts { whox: true, ..Default::default() };
        let (token, ask) = accounts.ask(ada()).unwrap();
        assert_eq!(ask, Command::Raw("WHO".into(), args(&["Ada", "%tuhna,1"])));
        let told = args(&["me", "1", "ada", "example.org", "ada", "ada-l"]);
        assert!(accounts.answered(354, &told, CASE).is_empty());
        assert_eq!(
            accounts.answered(315, &args(&["me", "Ada", "End"]), CASE),
            [(token, Some("ada-l".into()))]
        );

        let (token, _) = accounts.ask(ada()).unwrap();
        accounts.answered(354, &args(&["me", "2", "eve", "elsewhere", "ada", "ada-l"]), CASE);
        assert_eq!(accounts.answered(315, &args(&["me", "Ada", "End"]), CASE), [(token, None)]);
    }

    #[test]
    fn a_change_of_name_while_asking_proves_nothing() {
        let mut accounts = Accounts { whox: true, ..Default::default() };
        let (token, _) = accounts.ask(ada()).unwrap();
        accounts.answered(354, &args(&["me", "1", "ada", "example.org", "ada", "ada-l"]), CASE);
        accounts.renamed("ada", "other", CASE);
        assert_eq!(accounts.answered(315, &args(&["me", "Ada", "End"]), CASE), [(token, None)]);
    }

    #[test]
    fn whois_where_there_is_no_whox() {
        let mut accounts = Accounts::default();
        let (token, ask) = accounts.ask(ada()).unwrap();
        assert_eq!(ask, Command::Raw("WHOIS".into(), args(&["Ada"])));
        accounts.answered(311, &args(&["me", "Ada", "ada", "example.org", "*", "Ada L"]), CASE);
        accounts.answered(330, &args(&["me", "Ada", "ada-l", "is logged in as"]), CASE);
        assert_eq!(
            accounts.answered(318, &args(&["me", "Ada", "End"]), CASE),
            [(token, Some("ada-l".into()))]
        );
        // nobody of that name
        let (token, _) = accounts.ask(ada()).unwrap();
        assert_eq!(accounts.answered(401, &args(&["me", "Ada", "No such nick"]), CASE), [(token, None)]);
        assert!(accounts.answered(318, &args(&["me", "Ada", "End"]), CASE).is_empty());
    }

    #[test]
    fn channels_are_asked_only_for_what_can_be_kept() {
        let mut accounts = Accounts { whox: true, joins: true, changes: true, ..Default::default() };
        assert_eq!(accounts.ask_channel("#c"), Some(Command::Raw("WHO".into(), args(&["#c", "%tuhna,999"]))));
        accounts.answered(354, &args(&["me", "999", "ada", "h", "Ada", "ada-l"]), CASE);
        assert_eq!(accounts.of(None, "ada", CASE), known("ada-l"));
        assert_eq!(Accounts { tags: true, ..accounts }.ask_channel("#c"), None);
    }

    #[test]
    fn questions_are_bounded() {
        let mut accounts = Accounts::default();
        assert!((0..100).filter(|_| accounts.ask(ada()).is_some()).count() == MOST_QUESTIONS);
        accounts.drop_question(1);
        assert!(accounts.ask(ada()).is_some());
    }
}
