//! One connection's conversation with the server, without I/O and without a clock of its own: messages and time go in,
//! [`Effect`]s come out. So every corner of the protocol can be played through in a test.

use std::collections::VecDeque;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use greenroom_config::{Channel, Irc};
use irc_proto::{CapSubCommand, Command, Message, Prefix};
use tokio::time::Instant;

use super::accounts::{Account, Accounts, Speaker};
use super::channels::{Channels, Presence};
use super::names::{CaseMapping, is_channel};
use super::registration::{Registration, Step};
use super::text::plain;

/// How long the server may take until it welcomes us.
const WELCOME_WITHIN: Duration = Duration::from_secs(60);
/// How long NickServ may take before channels are joined all the same.
const IDENTIFY_WITHIN: Duration = Duration::from_secs(10);
/// How often the wanted nick is tried while we have another one.
const REGAIN_EVERY: Duration = Duration::from_secs(60);
/// How long the answer to a question about an account may take.
const ACCOUNT_WITHIN: Duration = Duration::from_secs(10);
/// How many nicks are tried.
const NICK_TRIES: u32 = 12;
/// How a PING that we send begins.
const MARK: &str = "gr-";

/// What is to be done. Its `Debug` shows no more of a command than its verb, for some hold passwords.
pub enum Effect {
    /// Send this at once.
    Urgent(Command),
    /// Send this when flood control lets it.
    Send(Command),
    /// The server has welcomed us.
    Welcomed,
    /// A channel's presence has changed.
    Channel(String),
    /// Everything that was sent before this mark has been taken by the server.
    Confirmed(u64),
    /// The server would not deliver what we sent there.
    Refused {
        /** A channel or nick. */
        target: String,
        /** In its words. */
        why: String,
    },
    /// Somebody said something that may be meant for us.
    Heard(Heard),
    /// The answer to a question: the account behind a nick, if there is one.
    Identified(u16, Option<String>),
    /// The connection is over.
    Over(Over),
}

impl fmt::Debug for Effect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Effect::Urgent(command) => write!(f, "Urgent({})", verb(command)),
            Effect::Send(command) => write!(f, "Send({})", verb(command)),
            Effect::Welcomed => f.write_str("Welcomed"),
            Effect::Channel(name) => write!(f, "Channel({name})"),
            Effect::Confirmed(mark) => write!(f, "Confirmed({mark})"),
            Effect::Refused { target, why } => write!(f, "Refused({target}, {why})"),
            Effect::Heard(heard) => heard.fmt(f),
            Effect::Identified(token, account) => write!(f, "Identified({token}, {account:?})"),
            Effect::Over(over) => over.fmt(f),
        }
    }
}

/// The first word of a command.
pub(super) fn verb(command: &Command) -> String {
    String::from(command).split(' ').next().unwrap_or_default().to_owned()
}

/// Why a connection is over.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Over {
    /// For people.
    pub why: String,
    /// Trying again at once is pointless, or unwelcome: the server said no.
    pub refused: bool,
}

/// A command, perhaps.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Heard {
    /// Who.
    pub speaker: Speaker,
    /// The account, if that is known already.
    pub account: Account,
    /// Where the answer goes: the channel, or the speaker's nick.
    pub reply_to: String,
    /// The text behind our name, without control characters.
    pub text: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// Nothing was sent.
    New,
    /// Not welcomed yet.
    Registering { until: Instant },
    /// Welcomed; waiting for NickServ.
    Identifying { until: Instant },
    /// In business.
    Ready,
    /// Done for.
    Over,
}

/// See the module.
pub struct Session {
    config: Arc<Irc>,
    phase: Phase,
    registration: Registration,
    nick: String,
    nick_tries: u32,
    next_regain: Instant,
    case: CaseMapping,
    /// What others see of us behind our nick (`!user@host`), in bytes.
    mask_bytes: Option<usize>,
    accounts: Accounts,
    questions: Vec<(u16, Instant)>,
    channels: Channels,
    heard_at: Instant,
    /// PINGs without an answer, oldest first.
    marks: VecDeque<(u64, Instant)>,
    last_mark: u64,
    effects: Vec<Effect>,
}

impl Session {
    /// Before anything was said. `channels` are those to be in.
    pub fn new(config: Arc<Irc>, channels: &[Channel], now: Instant) -> Self {
        let case = CaseMapping::default();
        Self {
            registration: Registration::new(&config),
            nick: config.nick.clone(),
            config,
            phase: Phase::New,
            nick_tries: 0,
            next_regain: now,
            case,
            mask_bytes: None,
            accounts: Accounts::default(),
            questions: Vec::new(),
            channels: Channels::new(channels, case),
            heard_at: now,
            marks: VecDeque::new(),
            last_mark: 0,
            effects: Vec::new(),
        }
    }

    /// Introduces us.
    pub fn begin(&mut self, now: Instant) {
        self.phase = Phase::Registering { until: now + WELCOME_WITHIN };
        self.urgent(raw("CAP", &["LS", "302"]));
        if let Some(password) = &self.config.password {
            let pass = Command::PASS(password.expose().to_owned());
            self.effects.push(Effect::Urgent(pass));
        }
        self.urgent(Command::NICK(self.nick.clone()));
        let user = self.config.user.as_deref().unwrap_or(&self.config.nick).to_owned();
        let real = plain(self.config.real_name.as_deref().unwrap_or("Greenroom"));
        self.urgent(Command::USER(user, "0".to_owned(), real));
    }

    /// What is to be done since the last call.
    pub fn effects(&mut self) -> Vec<Effect> {
        std::mem::take(&mut self.effects)
    }

    /// Our nick at the moment.
    pub fn nick(&self) -> &str {
        &self.nick
    }

    /// How many bytes others see before what we say, if the server has shown it.
    pub fn prefix_bytes(&self) -> Option<usize> {
        self.mask_bytes.map(|mask| self.nick.len() + mask)
    }

    /// How names are compared here.
    pub fn case(&self) -> CaseMapping {
        self.case
    }

    /// Whether we are in business.
    pub fn ready(&self) -> bool {
        self.phase == Phase::Ready
    }

    /// The channels and how far each is.
    pub fn channels(&self) -> impl Iterator<Item = (&str, &Presence)> {
        self.channels.all()
    }

    /// Whether we are in a channel.
    pub fn joined(&self, channel: &str) -> bool {
        self.channels.joined(channel, self.case)
    }

    /// Whether it is known of each channel that we are in it, or that it would not have us.
    pub fn settled(&self) -> bool {
        self.ready() && self.channels.settled()
    }

    /// Wants one more channel.
    pub fn join(&mut self, channel: &str, now: Instant) {
        let channel = Channel { name: channel.to_owned(), key: None };
        self.channels.want(&channel, self.case);
        self.channels.retry(now);
        self.join_due(now);
    }

    /// Leaves a channel for good.
    pub fn leave(&mut self, channel: &str) {
        if self.channels.unwant(channel, self.case) {
            self.effects.push(Effect::Send(Command::PART(channel.to_owned(), None)));
        }
    }

    /// Asks for the account behind a nick; the answer is [`Effect::Identified`] with this number. None if too many ask.
    pub fn identify(&mut self, speaker: Speaker, now: Instant) -> Option<u16> {
        let (token, ask) = self.accounts.ask(speaker)?;
        self.questions.push((token, now + ACCOUNT_WITHIN));
        // somebody waits for it, and it must not wait behind announcements
        self.urgent(ask);
        Some(token)
    }

    /// A PING whose answer confirms all that was sent before it.
    pub fn mark(&mut self, now: Instant) -> (u64, Command) {
        self.last_mark += 1;
        self.marks.push_back((self.last_mark, now));
        (self.last_mark, Command::PING(format!("{MARK}{}", self.last_mark), None))
    }

    /// Time passes.
    pub fn tick(&mut self, now: Instant) {
        match self.phase {
            Phase::Registering { until } if now >= until => {
                let why = format!("the server did not welcome us within {} s", WELCOME_WITHIN.as_secs());
                return self.over(why, false);
            }
            Phase::Identifying { until } if now >= until => {
                tracing::warn!(irc.server = %self.config.server, "NickServ does not answer; channels are joined without it");
                self.in_business(now);
            }
            Phase::New | Phase::Over => return,
            _ => {}
        }
        self.watch_silence(now);
        self.expire_questions(now);
        if self.ready() {
            self.join_due(now);
            self.regain(now);
        }
    }

    fn watch_silence(&mut self, now: Instant) {
        if let Some((_, sent)) = self.marks.front()
            && now >= (*sent).max(self.heard_at) + self.config.ping_timeout.get()
        {
            return self.over("ping timeout".to_owned(), false);
        }
        let silent = now.saturating_duration_since(self.heard_at) >= self.config.ping_interval.get();
        if silent && self.marks.is_empty() {
            let (_, ping) = self.mark(now);
            self.urgent(ping);
        }
    }

    fn expire_questions(&mut self, now: Instant) {
        let (late, waiting) = self.questions.drain(..).partition(|(_, until)| *until <= now);
        self.questions = waiting;
        let late: Vec<(u16, Instant)> = late;
        for (token, _) in late {
            self.accounts.drop_question(token);
            self.effects.push(Effect::Identified(token, None));
        }
    }

    fn regain(&mut self, now: Instant) {
        if !self.case.same(&self.nick, &self.config.nick) && now >= self.next_regain {
            self.next_regain = now + REGAIN_EVERY;
            self.effects.push(Effect::Send(Command::NICK(self.config.nick.clone())));
        }
    }

    fn join_due(&mut self, now: Instant) {
        if self.ready() {
            let due = self.channels.due(now);
            self.effects.extend(due.into_iter().map(Effect::Send));
        }
    }

    fn urgent(&mut self, command: Command) {
        self.effects.push(Effect::Urgent(command));
    }

    fn over(&mut self, why: String, refused: bool) {
        if self.phase != Phase::Over {
            self.phase = Phase::Over;
            self.effects.push(Effect::Over(Over { why: plain(&why), refused }));
        }
    }

    /// The server says something.
    pub fn receive(&mut self, message: Message, now: Instant) {
        self.heard_at = now;
        if self.phase == Phase::Over {
            return;
        }
        if let Some((code, args)) = numeric(&message.command) {
            return self.replied(code, &args, now);
        }
        let from = speaker(message.prefix.as_ref());
        let tag = message.tags.as_ref().and_then(|tags| tags.iter().find(|t| t.0 == "account"));
        let tag = tag.and_then(|t| t.1.clone());
        match message.command {
            Command::PING(server, other) => self.urgent(Command::PONG(server, other)),
            Command::PONG(server, token) => self.ponged(&[Some(server), token]),
            Command::CAP(_, subcommand, one, two) => self.capabilities(subcommand, one, two),
            Command::AUTHENTICATE(challenge) => {
                let password = self.config.account_password.as_ref().map(|p| p.expose().to_owned());
                let steps = self.registration.challenged(&challenge, password.as_deref());
                self.take(steps);
            }
            Command::ERROR(why) => self.over(format!("the server closed the connection: {why}"), false),
            Command::PRIVMSG(target, text) => self.said(from, tag.as_deref(), &target, &text),
            Command::NOTICE(..) => {}
            command => {
                if let Some(from) = from {
                    self.moved(&from, command, now);
                }
            }
        }
    }

    /// Somebody came, went, or is called otherwise.
    fn moved(&mut self, from: &Speaker, command: Command, now: Instant) {
        let ours = self.case.same(&from.nick, &self.nick);
        match command {
            Command::NICK(to) if ours => self.nick = to,
            Command::NICK(to) => {
                self.accounts.renamed(&from.nick, &to, self.case);
                self.freed(&from.nick, now);
            }
            Command::JOIN(channel, ..) if ours => self.entered(from, &channel),
            Command::JOIN(_, Some(account), Some(_)) => {
                self.accounts.learn(&from.nick, &account, self.case);
            }
            Command::PART(channel, _) if ours => self.thrown_out(&channel, "parted", now),
            Command::PART(..) => self.accounts.forget(&from.nick, self.case),
            Command::QUIT(_) => {
                self.accounts.forget(&from.nick, self.case);
                self.freed(&from.nick, now);
            }
            Command::KICK(channel, who, why) if self.case.same(&who, &self.nick) => {
                let why = format!("kicked by {}: {}", from.nick, why.unwrap_or_default());
                self.thrown_out(&channel, &why, now);
            }
            Command::KICK(_, who, _) => self.accounts.forget(&who, self.case),
            Command::KILL(who, why) if self.case.same(&who, &self.nick) => {
                self.over(format!("killed by {}: {why}", from.nick), false);
            }
            Command::ACCOUNT(account) => self.accounts.learn(&from.nick, &account, self.case),
            Command::UserMODE(who, modes) if self.case.same(&who, &self.nick) => {
                // services tell that we are known by +r, where they do not by a reply
                let known = modes.iter().any(|mode| mode.flag() == "+r" || mode.flag() == "+R");
                if known {
                    self.identified(now);
                }
            }
            _ => {}
        }
    }

    fn entered(&mut self, from: &Speaker, channel: &str) {
        self.mask_bytes = Some(from.user.len() + from.host.len() + 2);
        if self.channels.entered(channel, self.case) {
            self.effects.push(Effect::Channel(channel.to_owned()));
            if let Some(ask) = self.accounts.ask_channel(channel) {
                self.effects.push(Effect::Send(ask));
            }
        }
    }

    fn thrown_out(&mut self, channel: &str, why: &str, now: Instant) {
        self.accounts.forget_all();
        if self.channels.refused(channel, &plain(why), now, self.case) {
            self.effects.push(Effect::Channel(channel.to_owned()));
        }
    }

    /// A nick is free again; perhaps it is ours.
    fn freed(&mut self, nick: &str, now: Instant) {
        if self.case.same(nick, &self.config.nick) {
            self.next_regain = now;
            self.regain(now);
        }
    }

    fn ponged(&mut self, tokens: &[Option<String>]) {
        let number = |token: &Option<String>| token.as_deref()?.strip_prefix(MARK)?.parse::<u64>().ok();
        // Servers answer in order. One that does not repeat the token answers the oldest.
        let answered = tokens.iter().find_map(number).or(self.marks.front().map(|(mark, _)| *mark));
        let Some(answered) = answered else { return };
        while self.marks.front().is_some_and(|(mark, _)| *mark <= answered) {
            if let Some((mark, _)) = self.marks.pop_front() {
                self.effects.push(Effect::Confirmed(mark));
            }
        }
    }

    fn capabilities(&mut self, subcommand: CapSubCommand, one: Option<String>, two: Option<String>) {
        // `CAP * LS * :…` is not the last of its kind
        let (more, list) = match (one, two) {
            (Some(star), Some(list)) => (star == "*", list),
            (Some(list), None) => (false, list),
            _ => (false, String::new()),
        };
        let steps = self.registration.capabilities(subcommand.to_str(), more, &list);
        self.take(steps);
    }

    fn take(&mut self, steps: Vec<Step>) {
        for step in steps {
            match step {
                Step::Send(command) => self.urgent(command),
                Step::Failed(why) => self.over(why, true),
                Step::Capability(name, on) => {
                    match name.as_str() {
                        "account-tag" => self.accounts.tags = on,
                        "account-notify" => self.accounts.changes = on,
                        "extended-join" => self.accounts.joins = on,
                        _ => {}
                    }
                    if !on {
                        self.accounts.forget_all();
                    }
                }
            }
        }
    }

    fn said(&mut self, from: Option<Speaker>, tag: Option<&str>, target: &str, text: &str) {
        let Some(speaker) = from.filter(|it| !self.case.same(&it.nick, &self.nick)) else { return };
        // CTCP: questions of programs to programs
        if text.starts_with('\x01') {
            return;
        }
        let text = plain(text);
        let text = if is_channel(target) {
            let Some(behind) = addressed(&text, &self.nick, self.case) else { return };
            behind.to_owned()
        } else {
            // In private our name is allowed, not needed.
            addressed(&text, &self.nick, self.case).unwrap_or(&text).to_owned()
        };
        let account = self.accounts.of(tag, &speaker.nick, self.case);
        let reply_to = if is_channel(target) { target.to_owned() } else { speaker.nick.clone() };
        self.effects.push(Effect::Heard(Heard { speaker, account, reply_to, text }));
    }

    /// A numeric reply.
    fn replied(&mut self, code: u16, args: &[String], now: Instant) {
        let last = args.last().map_or("", String::as_str);
        for (token, account) in self.accounts.answered(code, args, self.case) {
            self.questions.retain(|(asked, _)| *asked != token);
            self.effects.push(Effect::Identified(token, account));
        }
        let steps = self.registration.replied(code, last);
        self.take(steps);
        match code {
            1 => self.welcomed(args, now),
            5 => self.supports(args),
            432 | 433 | 436 | 437 if !self.welcomed_before() => self.next_nick(code),
            // the wanted nick is still taken
            432 | 433 | 436 => {}
            // we are seen under another host now
            396 => self.mask_bytes = None,
            // a channel or a nick that is held back for a while, as after a netsplit
            437 => {
                if let Some(channel) = args.get(1).filter(|it| is_channel(it)) {
                    self.thrown_out(&channel.clone(), last, now);
                }
            }
            464 => self.over(format!("the server refused our password: {last}"), true),
            465 | 463 => self.over(format!("the server will not have us: {last}"), true),
            900 => self.identified(now),
            _ if code >= 400 => self.refused(args, last, now),
            _ => {}
        }
    }

    fn welcomed_before(&self) -> bool {
        matches!(self.phase, Phase::Ready | Phase::Identifying { .. })
    }

    fn welcomed(&mut self, args: &[String], now: Instant) {
        if self.welcomed_before() {
            return;
        }
        if let Some(nick) = args.first().filter(|nick| *nick != "*") {
            self.nick = nick.clone();
        }
        if let Err(why) = self.registration.welcomed() {
            return self.over(why, true);
        }
        self.effects.push(Effect::Welcomed);
        self.next_regain = now + REGAIN_EVERY;
        let password = self.config.account_password.as_ref().map(|p| p.expose().to_owned());
        let with_nickserv = self.config.uses_nickserv();
        if let Some(password) = &password {
            let account = self.config.account_name().to_owned();
            if with_nickserv {
                self.tell_nickserv(&format!("IDENTIFY {account} {password}"));
            }
            if !self.case.same(&self.nick, &self.config.nick) {
                // Whoever has our nick is most likely our own former connection.
                self.tell_nickserv(&format!("GHOST {} {password}", self.config.nick));
            }
        }
        if with_nickserv {
            self.phase = Phase::Identifying { until: now + IDENTIFY_WITHIN };
        } else {
            self.in_business(now);
        }
    }

    fn tell_nickserv(&mut self, text: &str) {
        let message = Command::PRIVMSG(self.config.nickserv.clone(), text.to_owned());
        self.effects.push(Effect::Send(message));
    }

    /// Services know us now: channels for the known will have us.
    fn identified(&mut self, now: Instant) {
        match self.phase {
            Phase::Identifying { .. } => self.in_business(now),
            Phase::Ready => {
                self.channels.retry(now);
                self.join_due(now);
            }
            _ => {}
        }
    }

    fn in_business(&mut self, now: Instant) {
        self.phase = Phase::Ready;
        self.join_due(now);
    }

    fn supports(&mut self, args: &[String]) {
        for word in args.iter().skip(1) {
            match word.split_once('=').unwrap_or((word, "")) {
                ("WHOX", _) => self.accounts.whox = true,
                ("CASEMAPPING", name) => {
                    self.case = CaseMapping::named(name);
                    self.channels.refold(self.case);
                }
                _ => {}
            }
        }
    }

    fn next_nick(&mut self, code: u16) {
        self.nick_tries += 1;
        if self.nick_tries > NICK_TRIES {
            let why = format!("no nick like {} is free, or the server takes none of them", self.config.nick);
            return self.over(why, code == 432);
        }
        self.nick = alternative(&self.config.nick, self.nick_tries);
        self.urgent(Command::NICK(self.nick.clone()));
    }

    /// An error reply: about a join, or about something that we said.
    fn refused(&mut self, args: &[String], why: &str, now: Instant) {
        let Some(target) = args.get(1).filter(|_| args.len() > 2).cloned() else { return };
        if self.channels.joining(&target, self.case) {
            tracing::warn!(irc.server = %self.config.server, irc.channel = %target, %why, "a channel would not have us");
            self.thrown_out(&target, why, now);
        } else {
            self.effects.push(Effect::Refused { target, why: plain(why) });
        }
    }
}

/// The n-th other nick: with `_`, `__`, then with numbers over a shortened one, since servers differ in length.
fn alternative(nick: &str, n: u32) -> String {
    let short = |most: usize| nick.chars().take(most).collect::<String>();
    match n {
        1 => format!("{nick}_"),
        2 => format!("{nick}__"),
        n => format!("{}{}", short(7), n),
    }
}

/// Code and arguments of a numeric reply, known to the library or not.
fn numeric(command: &Command) -> Option<(u16, Vec<String>)> {
    match command {
        Command::Response(response, args) => Some((*response as u16, args.clone())),
        Command::Raw(code, args) if code.len() == 3 => Some((code.parse().ok()?, args.clone())),
        _ => None,
    }
}

fn speaker(prefix: Option<&Prefix>) -> Option<Speaker> {
    match prefix? {
        Prefix::Nickname(nick, user, host) => {
            Some(Speaker { nick: nick.clone(), user: user.clone(), host: host.clone() })
        }
        Prefix::ServerName(_) => None,
    }
}

/// What stands behind `nick:` or `nick,`.
fn addressed<'a>(text: &'a str, nick: &str, case: CaseMapping) -> Option<&'a str> {
    let (name, behind) = text.split_at_checked(text.find([':', ','])?)?;
    case.same(name.trim_end(), nick).then(|| behind[1..].trim_start())
}

pub(crate) fn raw(verb: &str, args: &[&str]) -> Command {
    Command::Raw(verb.to_owned(), args.iter().map(|a| (*a).to_owned()).collect())
}

#[cfg(test)]
mod tests;
