//! Capabilities and SASL: what is agreed on with the server before anything else.

use std::fmt;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use greenroom_config::{Irc, Sasl};
use irc_proto::Command;

use super::session::verb;

/// The longest piece of a SASL answer.
const PIECE: usize = 400;

/// What helps to tell who speaks.
const WANTED: &[&str] = &["account-tag", "account-notify", "extended-join"];

/// What the caller has to do. Its `Debug` shows no more of a command than its verb, for some hold passwords.
#[derive(PartialEq)]
pub enum Step {
    /// Send this now.
    Send(Command),
    /// The server agreed to a capability, or took it back.
    Capability(String, bool),
    /// It cannot go on.
    Failed(String),
}

impl fmt::Debug for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Step::Send(command) => write!(f, "Send({})", verb(command)),
            Step::Capability(name, on) => write!(f, "Capability({name}, {on})"),
            Step::Failed(why) => write!(f, "Failed({why})"),
        }
    }
}

/// How far it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// Capabilities are being told.
    Listing,
    /// Some have been asked for.
    Requesting,
    /// The mechanism was named.
    Authenticating,
    /// The answer was given.
    Answered,
    /// It is over.
    Done,
}

/// Negotiation on one connection.
#[derive(Debug)]
pub struct Registration {
    state: State,
    sasl: Sasl,
    account: String,
    offered: Vec<(String, Option<String>)>,
    logged_in: bool,
}

impl Registration {
    /// Before anything was said.
    pub fn new(config: &Irc) -> Self {
        Self {
            state: State::Listing,
            sasl: config.sasl,
            account: config.account_name().to_owned(),
            offered: Vec::new(),
            logged_in: false,
        }
    }

    /// The server welcomed us: it must not have skipped what was asked for.
    pub fn welcomed(&mut self) -> Result<(), String> {
        let skipped = self.sasl != Sasl::None && !self.logged_in;
        self.state = State::Done;
        if skipped { Err("the server knows no SASL".to_owned()) } else { Ok(()) }
    }

    /// `CAP`, from its subcommand on.
    pub fn capabilities(&mut self, subcommand: &str, more: bool, list: &str) -> Vec<Step> {
        match subcommand {
            "LS" if self.state == State::Listing => self.told(more, list),
            "ACK" => self.agreed(list),
            "NAK" if self.state == State::Requesting => {
                vec![self.refuse(format!("the server refused {list}"))]
            }
            "NEW" => {
                let new: Vec<&str> = list.split_whitespace().filter(|c| WANTED.contains(c)).collect();
                if new.is_empty() { Vec::new() } else { vec![request(&new)] }
            }
            "DEL" => list.split_whitespace().map(|c| Step::Capability(c.to_owned(), false)).collect(),
            _ => Vec::new(),
        }
    }

    fn told(&mut self, more: bool, list: &str) -> Vec<Step> {
        for word in list.split_whitespace().take(200) {
            let (name, value) = word.split_once('=').map_or((word, None), |(n, v)| (n, Some(v)));
            self.offered.push((name.to_owned(), value.map(str::to_owned)));
        }
        if more && self.offered.len() < 1_000 {
            return Vec::new();
        }
        let offers = |name: &str| self.offered.iter().any(|(n, _)| n == name);
        let mut ask: Vec<&str> = WANTED.iter().copied().filter(|name| offers(name)).collect();
        if self.sasl != Sasl::None {
            if !offers("sasl") {
                return vec![self.refuse("the server offers no SASL".to_owned())];
            }
            if let Some(refusal) = self.mechanism_missing() {
                return vec![self.refuse(refusal)];
            }
            ask.push("sasl");
        }
        if ask.is_empty() {
            return vec![self.end()];
        }
        self.state = State::Requesting;
        vec![request(&ask)]
    }

    fn mechanism_missing(&self) -> Option<String> {
        let mechanisms = self.offered.iter().find(|(n, _)| n == "sasl")?.1.as_deref()?;
        let wanted = self.mechanism();
        let there = mechanisms.split(',').any(|m| m.eq_ignore_ascii_case(wanted));
        (!there).then(|| format!("the server offers SASL, but not {wanted}"))
    }

    fn mechanism(&self) -> &'static str {
        if self.sasl == Sasl::External { "EXTERNAL" } else { "PLAIN" }
    }

    fn agreed(&mut self, list: &str) -> Vec<Step> {
        let mut steps: Vec<Step> = list
            .split_whitespace()
            .map(|c| Step::Capability(c.trim_start_matches('-').to_owned(), !c.starts_with('-')))
            .collect();
        if self.state == State::Requesting {
            if list.split_whitespace().any(|c| c == "sasl") {
                self.state = State::Authenticating;
                steps.push(Step::Send(Command::AUTHENTICATE(self.mechanism().to_owned())));
            } else if self.sasl == Sasl::None {
                steps.push(self.end());
            }
        }
        steps
    }

    /// `AUTHENTICATE`: the server waits for the answer. `password` is asked only now.
    pub fn challenged(&mut self, challenge: &str, password: Option<&str>) -> Vec<Step> {
        if self.state != State::Authenticating || challenge != "+" {
            return Vec::new();
        }
        self.state = State::Answered;
        let answer = match self.sasl {
            Sasl::External => String::new(),
            _ => {
                // authorisation identity, account, password
                STANDARD.encode(format!("\0{}\0{}", self.account, password.unwrap_or_default()))
            }
        };
        pieces(&answer).map(|piece| Step::Send(Command::AUTHENTICATE(piece))).collect()
    }

    /// A numeric reply.
    pub fn replied(&mut self, code: u16, text: &str) -> Vec<Step> {
        match code {
            // logged in, SASL succeeded, already logged in
            900 => {
                self.logged_in = true;
                Vec::new()
            }
            903 | 907 if self.state == State::Answered => {
                self.logged_in = true;
                vec![self.end()]
            }
            902 | 904 | 905 | 906 if self.state != State::Done => {
                vec![self.refuse(format!("the server refused to log us in: {text}"))]
            }
            _ => Vec::new(),
        }
    }

    fn end(&mut self) -> Step {
        self.state = State::Done;
        Step::Send(Command::Raw("CAP".to_owned(), vec!["END".to_owned()]))
    }

    fn refuse(&mut self, why: String) -> Step {
        // Without SASL there is no reason not to go on without what was refused.
        if self.sasl == Sasl::None {
            return self.end();
        }
        self.state = State::Done;
        Step::Failed(why)
    }
}

fn request(capabilities: &[&str]) -> Step {
    Step::Send(Command::Raw("CAP".to_owned(), vec!["REQ".to_owned(), capabilities.join(" ")]))
}

/// Pieces of 400 bytes; one that is full is followed by another, `+` if there is nothing left.
fn pieces(answer: &str) -> impl Iterator<Item = String> {
    let mut pieces: Vec<String> =
        answer.as_bytes().chunks(PIECE).map(|piece| String::from_utf8_lossy(piece).into_owned()).collect();
    if answer.len().is_multiple_of(PIECE) {
        pieces.push("+".to_owned());
    }
    pieces.into_iter()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn registration(sasl: Sasl) -> Registration {
        Registration {
            state: State::Listing,
            sasl,
            account: "bot".to_owned(),
            offered: Vec::new(),
            logged_in: false,
        }
    }

    fn sent(steps: &[Step]) -> Vec<String> {
        let text = |step: &Step| match step {
            Step::Send(command) => String::from(command),
            other => format!("{other:?}"),
        };
        steps.iter().map(text).collect()
    }

    #[test]
    fn plain_over_two_lists() {
        let mut it = registration(Sasl::Plain);
        assert!(it.capabilities("LS", true, "multi-prefix account-tag").is_empty());
        let asked = it.capabilities("LS", false, "sasl=EXTERNAL,PLAIN extended-join");
        assert_eq!(sent(&asked), ["CAP REQ :account-tag extended-join sasl"]);
        let agreed = it.capabilities("ACK", false, "account-tag extended-join sasl");
        assert_eq!(sent(&agreed).last().unwrap(), "AUTHENTICATE PLAIN");
        assert!(agreed.contains(&Step::Capability("account-tag".into(), true)));
        let answer = it.challenged("+", Some("pw"));
        assert_eq!(sent(&answer), [format!("AUTHENTICATE {}", STANDARD.encode("\0bot\0pw"))]);
        assert!(it.replied(900, "").is_empty());
        assert_eq!(sent(&it.replied(903, "ok")), ["CAP END"]);
        assert_eq!(it.welcomed(), Ok(()));
    }

    #[test]
    fn external_answers_with_nothing() {
        let mut it = registration(Sasl::External);
        it.capabilities("LS", false, "sasl");
        assert_eq!(sent(&it.capabilities("ACK", false, "sasl")).last().unwrap(), "AUTHENTICATE EXTERNAL");
        assert_eq!(sent(&it.challenged("+", None)), ["AUTHENTICATE +"]);
        assert!(it.challenged("+", None).is_empty(), "once is enough");
    }

    #[test]
    fn without_the_login_that_was_asked_for_it_does_not_go_on() {
        let failed = |steps: Vec<Step>| matches!(steps.as_slice(), [Step::Failed(_)]);
        assert!(failed(registration(Sasl::Plain).capabilities("LS", false, "account-tag")));
        assert!(failed(registration(Sasl::Plain).capabilities("LS", false, "sasl=EXTERNAL")));
        let mut it = registration(Sasl::Plain);
        it.capabilities("LS", false, "sasl");
        assert!(failed(it.capabilities("NAK", false, "sasl")));
        let mut it = registration(Sasl::Plain);
        it.capabilities("LS", false, "sasl");
        it.capabilities("ACK", false, "sasl");
        it.challenged("+", Some("wrong"));
        assert!(failed(it.replied(904, "no")));
        // a server that knows nothing of capabilities
        assert!(registration(Sasl::Plain).welcomed().is_err());
        assert!(registration(Sasl::None).welcomed().is_ok());
    }

    #[test]
    fn without_sasl_nothing_is_worth_failing_for() {
        let mut it = registration(Sasl::None);
        assert_eq!(sent(&it.capabilities("LS", false, "account-tag")), ["CAP REQ account-tag"]);
        assert_eq!(sent(&it.capabilities("NAK", false, "account-tag")), ["CAP END"]);
        assert_eq!(sent(&registration(Sasl::None).capabilities("LS", false, "batch")), ["CAP END"]);
    }

    #[test]
    fn capabilities_may_come_and_go_later() {
        let mut it = registration(Sasl::None);
        it.capabilities("LS", false, "");
        assert_eq!(sent(&it.capabilities("NEW", false, "account-notify batch")), ["CAP REQ account-notify"]);
        let steps = it.capabilities("DEL", false, "account-tag");
        assert_eq!(steps, [Step::Capability("account-tag".into(), false)]);
        assert_eq!(it.capabilities("ACK", false, "account-notify").len(), 1, "and no second CAP END");
    }

    #[test]
    fn long_answers_come_in_pieces() {
        let lengths = |n: usize| pieces(&"x".repeat(n)).map(|p| p.len()).collect::<Vec<_>>();
        assert_eq!(lengths(0), [1]);
        assert_eq!(lengths(399), [399]);
        assert_eq!(lengths(400), [400, 1]);
        assert_eq!(lengths(801), [400, 400, 1]);
    }
}
