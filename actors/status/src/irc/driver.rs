//! The life of a notifier's connection: connect, talk, lose it, wait, connect again, for ever. All I/O of IRC is here.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use futures_util::stream::FuturesUnordered;
use futures_util::{FutureExt, SinkExt, StreamExt};
use irc_proto::Command;
use rand::Rng;
use rand::rngs::StdRng;
use serde::Serialize;
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, interval, sleep, sleep_until, timeout};
use tokio_util::codec::Framed;

use super::accounts::Account;
use super::backoff::Backoff;
use super::channels::Presence;
use super::commands::{Answer, Asker, Desk, Membership, Request};
use super::connect::{Duplex, connect};
use super::flood::Bucket;
use super::names::is_channel;
use super::outbox::{Next, NotSaid, Outbox, Reply};
use super::session::{Effect, Heard, Over, Session};
use super::text::{brief, room, split};
use super::wire::Wire;

/// How long a line may take to be written.
const WRITE_WITHIN: Duration = Duration::from_secs(30);
/// How long the notifier may be claimed by nobody before the connection is given up: it may just be born anew.
const UNCLAIMED_FOR: Duration = Duration::from_secs(30);
/// How long our farewell may take.
const QUIT_WITHIN: Duration = Duration::from_secs(2);
/// Commands answered at the same time; more are told to come again.
const ANSWERS_AT_ONCE: usize = 8;
/// The most lines that one line of ours is split into.
const PIECES: usize = 3;
/// Commands of one person: so many at once, then one each so long. More are not answered.
const ASKS_AT_ONCE: u32 = 6;
const ASK_EVERY: Duration = Duration::from_secs(3);
/// The most persons that are counted.
const MOST_ASKERS: usize = 256;

/// Something to be said, with the reply that tells how that went.
pub struct Order {
    /// Lines by place; they are split as needed.
    pub lines: Vec<(String, Vec<String>)>,
    /// Where the outcome goes.
    pub reply: Reply,
}

/// How the connection is, for whoever waits for it and for people.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Status {
    /// `connecting`, `registering`, `joining`, `ready` or `waiting`.
    pub state: &'static str,
    /// We are welcomed, and it is known of each channel whether it would have us.
    pub settled: bool,
    /// Our nick.
    pub nick: String,
    /// Channels, and how far each is: `joined`, `joining` or the server's refusal.
    pub channels: BTreeMap<String, String>,
    /// Why the last connection ended.
    pub last_error: Option<String>,
    /// How often we were welcomed.
    pub connected: u64,
    /// Lines sent and received, by all connections.
    pub sent: u64,
    /// See `sent`.
    pub received: u64,
    /// Lines that wait for flood control.
    pub queued: usize,
    /// Answers that were left out because too many lines waited.
    pub dropped: u64,
    /// Lines of the server that were no messages.
    pub unreadable: u64,
}

/// What a command is worked on for.
struct Asked {
    request: Request,
    asker: Asker,
}

type Answering = FuturesUnordered<BoxFuture<'static, (Asker, Answer)>>;

/// See the module.
pub struct Driver {
    desk: Arc<Desk>,
    orders: mpsc::Receiver<Order>,
    stop: watch::Receiver<bool>,
    status: Arc<watch::Sender<Status>>,
    claims: Claims,
    dice: StdRng,
    askers: HashMap<String, Bucket>,
}

/// Whether this master runs the notifier, as the notifier's present birth tells.
type Claims = watch::Receiver<watch::Receiver<bool>>;

/// One connection.
struct Talk {
    wire: Framed<Box<dyn Duplex>, Wire>,
    session: Session,
    outbox: Outbox,
    bucket: Bucket,
    answers: Answering,
    /// Commands that wait for an account.
    pending: HashMap<u16, Asked>,
    /// Since when this master does not run the notifier.
    unclaimed: Option<Instant>,
}

enum Turn {
    Message(Option<Result<irc_proto::Message, irc_proto::error::ProtocolError>>),
    Tick,
    Order(Order),
    Answered(Asker, Answer),
    Send,
    Stop,
}

impl Driver {
    /// Before the first connection.
    pub fn new(
        desk: Arc<Desk>,
        orders: mpsc::Receiver<Order>,
        stop: watch::Receiver<bool>,
        status: Arc<watch::Sender<Status>>,
        claims: Claims,
        dice: StdRng,
    ) -> Self {
        Self { desk, orders, stop, status, claims, dice, askers: HashMap::new() }
    }

    /// Talks until it is told to stop.
    pub async fn run(mut self) {
        let mut backoff = Backoff::new(self.desk.config.reconnect);
        loop {
            tokio::select! {
                () = claimed(&mut self.claims) => {}
                () = stopped(&mut self.stop) => return,
            }
            let begun = Instant::now();
            let Some(over) = self.one_connection().await else { return };
            let wait = backoff.after(begun.elapsed(), over.refused, self.dice.random());
            tracing::warn!(notifier.name = %self.desk.notifier, irc.server = %self.desk.config.server, why = %over.why,
                retry_ms = wait.as_millis() as u64, "no IRC connection");
            self.status.send_modify(|status| {
                status.state = "waiting";
                status.settled = false;
                status.channels.clear();
                status.last_error = Some(over.why.clone());
            });
            if self.pause(wait, &over.why).await {
                return;
            }
        }
    }

    /// Waits; whether it was told to stop. What is to be said meanwhile is refused.
    async fn pause(&mut self, wait: Duration, why: &str) -> bool {
        let end = sleep(wait);
        tokio::pin!(end);
        loop {
            tokio::select! {
                () = &mut end => return false,
                () = stopped(&mut self.stop) => return true,
                Some(order) = self.orders.recv() => {
                    let _ = order.reply.send(Err(NotSaid(why.to_owned())));
                }
            }
        }
    }

    /// Connects and talks until that is over; none if it was told to stop.
    async fn one_connection(&mut self) -> Option<Over> {
        self.status.send_modify(|status| status.state = "connecting");
        let connecting = connect(self.desk.config.clone());
        let stream = tokio::select! {
            stream = connecting => stream,
            () = stopped(&mut self.stop) => return None,
        };
        let wire = Wire::new().map_err(|error| error.to_string());
        let (stream, wire) = match (stream, wire) {
            (Ok(stream), Ok(wire)) => (stream, wire),
            (Err(error), _) => return Some(Over { why: brief(&error.to_string(), 300), refused: false }),
            (_, Err(why)) => return Some(Over { why, refused: false }),
        };
        let now = Instant::now();
        let config = &self.desk.config;
        let channels = self.desk.book.now().channels(&config.channels);
        let mut talk = Talk {
            wire: Framed::new(stream, wire),
            session: Session::new(config.clone(), &channels, now),
            outbox: Outbox::default(),
            bucket: Bucket::new(config.burst.get(), config.line_interval.get(), now),
            answers: FuturesUnordered::new(),
            pending: HashMap::new(),
            unclaimed: None,
        };
        self.status.send_modify(|status| status.state = "registering");
        talk.session.begin(now);
        let over = self.talk(&mut talk).await;
        talk.outbox.lost(over.as_ref().map_or("stopping", |it| &it.why));
        over
    }

    async fn talk(&mut self, talk: &mut Talk) -> Option<Over> {
        let mut ticks = interval(Duration::from_secs(1));
        loop {
            if let Err(over) = self.settle(talk).await {
                return Some(over);
            }
            self.publish(talk);
            let turn = self.turn(talk, &mut ticks).await;
            let now = Instant::now();
            match turn {
                Turn::Stop => {
                    let quit = Command::QUIT(Some("stopping".to_owned()));
                    let _ = timeout(QUIT_WITHIN, talk.wire.send(quit.into())).await;
                    return None;
                }
                Turn::Message(Some(Ok(message))) => {
                    self.status.send_if_modified(|status| {
                        status.received += 1;
                        false
                    });
                    talk.session.receive(message, now);
                }
                Turn::Message(Some(Err(error))) => return lost(error),
                Turn::Message(None) => return lost("the server closed the connection"),
                Turn::Tick => {
                    talk.outbox.give_up();
                    talk.session.tick(now);
                    if self.is_unclaimed(talk, now) {
                        return lost("another master runs this notifier");
                    }
                }
                Turn::Order(order) => self.order(talk, order),
                Turn::Answered(asker, answer) => self.tell(talk, &asker, answer, now),
                Turn::Send => {
                    if let Some(next) = talk.outbox.pop()
                        && let Err(over) = self.send_next(talk, next).await
                    {
                        return Some(over);
                    }
                }
            }
        }
    }

    /// Whether the notifier has been another master's for longer than a birth of ours takes.
    fn is_unclaimed(&self, talk: &mut Talk, now: Instant) -> bool {
        if *self.claims.borrow().borrow() {
            talk.unclaimed = None;
            return false;
        }
        now.saturating_duration_since(*talk.unclaimed.get_or_insert(now)) >= UNCLAIMED_FOR
    }

    async fn turn(&mut self, talk: &mut Talk, ticks: &mut tokio::time::Interval) -> Turn {
        let may_send = !talk.outbox.is_empty();
        let next_line = talk.bucket.next(Instant::now());
        tokio::select! {
            biased;
            () = stopped(&mut self.stop) => Turn::Stop,
            message = talk.wire.next() => Turn::Message(message),
            _ = ticks.tick() => Turn::Tick,
            () = sleep_until(next_line), if may_send => Turn::Send,
            Some((asker, answer)) = talk.answers.next(), if !talk.answers.is_empty() => Turn::Answered(asker, answer),
            Some(order) = self.orders.recv(), if !talk.outbox.busy() => Turn::Order(order),
        }
    }

    /// Does what the session asks for, until it asks for nothing more.
    async fn settle(&mut self, talk: &mut Talk) -> Result<(), Over> {
        loop {
            let effects = talk.session.effects();
            if effects.is_empty() {
                return Ok(());
            }
            for effect in effects {
                self.effect(talk, effect).await?;
            }
        }
    }

    async fn effect(&mut self, talk: &mut Talk, effect: Effect) -> Result<(), Over> {
        match effect {
            Effect::Urgent(command) => self.write(talk, command).await?,
            Effect::Send(command) => {
                talk.outbox.push(command);
            }
            Effect::Welcomed => {
                let nick = talk.session.nick().to_owned();
                tracing::info!(notifier.name = %self.desk.notifier, irc.server = %self.desk.config.server,
                    irc.nick = %nick, "connected to IRC");
                self.status.send_modify(|status| status.connected += 1);
            }
            Effect::Channel(name) => {
                let joined = talk.session.joined(&name);
                tracing::info!(notifier.name = %self.desk.notifier, irc.channel = %name, joined, "an IRC channel has changed");
            }
            Effect::Confirmed(mark) => talk.outbox.confirmed(mark),
            Effect::Refused { target, why } => {
                let case = talk.session.case();
                talk.outbox.refused(&target, &why, |one, other| case.same(one, other));
            }
            Effect::Heard(heard) => self.heard(talk, heard),
            Effect::Identified(token, account) => {
                if let Some(mut asked) = talk.pending.remove(&token) {
                    asked.asker.account = account;
                    self.work(talk, asked);
                }
            }
            Effect::Over(over) => return Err(over),
        }
        Ok(())
    }

    async fn send_next(&mut self, talk: &mut Talk, next: Next) -> Result<(), Over> {
        let command = match next {
            Next::Line(command) => command,
            Next::Mark => {
                let (mark, ping) = talk.session.mark(Instant::now());
                talk.outbox.marked(mark);
                ping
            }
        };
        self.write(talk, command).await
    }

    async fn write(&mut self, talk: &mut Talk, command: Command) -> Result<(), Over> {
        talk.bucket.take(Instant::now());
        let over = |why: String| Over { why, refused: false };
        match timeout(WRITE_WITHIN, talk.wire.send(command.into())).await {
            Ok(Ok(())) => {
                self.status.send_if_modified(|status| {
                    status.sent += 1;
                    false
                });
                Ok(())
            }
            Ok(Err(error)) => Err(over(error.to_string())),
            Err(_) => Err(over("the server does not read".to_owned())),
        }
    }

    /// Something to be said: to the places where we are, in lines that fit.
    fn order(&self, talk: &mut Talk, order: Order) {
        let (mut places, mut unreachable) = (Vec::new(), Vec::new());
        for (place, lines) in order.lines {
            let away = is_channel(&place) && !talk.session.joined(&place);
            if away {
                unreachable.push((place.clone(), why_away(&talk.session, &place)));
            } else {
                let commands = lines.iter().flat_map(|line| self.messages(talk, &place, line)).collect();
                places.push((place, commands));
            }
        }
        talk.outbox.say(places, unreachable, order.reply);
    }

    /// A line as one or more messages.
    fn messages(&self, talk: &Talk, place: &str, line: &str) -> Vec<Command> {
        let notices = self.desk.config.notices;
        let verb = if notices { "NOTICE" } else { "PRIVMSG" };
        let space = room(verb, place, talk.session.nick().len(), talk.session.prefix_bytes());
        let pieces = split(line, space, PIECES);
        let message = |text| {
            if notices {
                Command::NOTICE(place.to_owned(), text)
            } else {
                Command::PRIVMSG(place.to_owned(), text)
            }
        };
        pieces.into_iter().map(message).collect()
    }

    /// Somebody said something to us.
    fn heard(&mut self, talk: &mut Talk, heard: Heard) {
        if !self.desk.config.commands || !self.may_ask(&heard) {
            return;
        }
        let asker = Asker { account: None, nick: heard.speaker.nick.clone(), place: heard.reply_to };
        let request = match Request::parse(&heard.text) {
            Ok(request) => request,
            Err(why) => return self.reply(talk, &asker, &[why]),
        };
        let Some(act) = request.act() else { return self.work(talk, Asked { request, asker }) };
        if !self.desk.anybody_may(act) {
            let refused = self.desk.allowed(None, act).err().unwrap_or_default();
            return self.reply(talk, &asker, &[refused]);
        }
        let asked = Asked { request, asker };
        match heard.account {
            Account::Known(account) => {
                let asker = Asker { account, ..asked.asker };
                self.work(talk, Asked { asker, ..asked });
            }
            Account::Unknown => match talk.session.identify(heard.speaker, Instant::now()) {
                Some(token) => {
                    talk.pending.insert(token, asked);
                }
                None => self.reply(talk, &asked.asker, &["too many ask; try again".to_owned()]),
            },
        }
    }

    /// Whether somebody has not asked too much lately.
    fn may_ask(&mut self, heard: &Heard) -> bool {
        let now = Instant::now();
        if self.askers.len() >= MOST_ASKERS {
            self.askers.retain(|_, bucket| !bucket.is_full(now));
        }
        let who = format!("{}@{}", heard.speaker.user, heard.speaker.host);
        if self.askers.len() >= MOST_ASKERS && !self.askers.contains_key(&who) {
            return false;
        }
        let bucket = self.askers.entry(who).or_insert_with(|| Bucket::new(ASKS_AT_ONCE, ASK_EVERY, now));
        let may = bucket.next(now) <= now;
        if may {
            bucket.take(now);
        }
        may
    }

    fn work(&self, talk: &mut Talk, asked: Asked) {
        if talk.answers.len() >= ANSWERS_AT_ONCE {
            return self.reply(talk, &asked.asker, &["too many ask; try again".to_owned()]);
        }
        let desk = self.desk.clone();
        let answering = async move {
            let Asked { request, asker } = asked;
            if let (Some(act), Some(account)) = (request.act(), &asker.account) {
                tracing::info!(notifier.name = %desk.notifier, irc.account = %account, irc.nick = %asker.nick, ?act,
                    "asked over IRC");
            }
            let answer = desk.answer(request, &asker).await;
            (asker, answer)
        };
        talk.answers.push(answering.boxed());
    }

    fn tell(&self, talk: &mut Talk, asker: &Asker, answer: Answer, now: Instant) {
        self.reply(talk, asker, &answer.lines);
        match answer.membership {
            Some(Membership::Join(channel)) => talk.session.join(&channel, now),
            Some(Membership::Leave(channel)) => talk.session.leave(&channel),
            None => {}
        }
    }

    fn reply(&self, talk: &mut Talk, asker: &Asker, lines: &[String]) {
        for (n, line) in lines.iter().enumerate() {
            let to_name = n == 0 && is_channel(&asker.place);
            let line = if to_name { format!("{}: {line}", asker.nick) } else { line.clone() };
            for message in self.messages(talk, &asker.place, &line) {
                talk.outbox.push(message);
            }
        }
    }

    fn publish(&self, talk: &Talk) {
        let session = &talk.session;
        self.status.send_if_modified(|status| {
            status.queued = talk.outbox.len();
            status.dropped = talk.outbox.dropped;
            status.unreadable = talk.wire.codec().refused;
            let settled = session.settled();
            let state = match (session.ready(), settled) {
                (false, _) => "registering",
                (true, false) => "joining",
                (true, true) => "ready",
            };
            let changed = (status.settled, status.state) != (settled, state);
            (status.settled, status.state) = (settled, state);
            if status.nick != session.nick() {
                status.nick = session.nick().to_owned();
            }
            status.channels = session.channels().map(|(name, it)| (name.to_owned(), in_words(it))).collect();
            changed
        });
    }
}

fn lost(why: impl ToString) -> Option<Over> {
    Some(Over { why: brief(&why.to_string(), 300), refused: false })
}

fn in_words(presence: &Presence) -> String {
    match presence {
        Presence::Joined => "joined".to_owned(),
        Presence::Wanted | Presence::Joining { .. } => "joining".to_owned(),
        Presence::Refused { why, .. } => why.clone(),
    }
}

fn why_away(session: &Session, place: &str) -> String {
    let known = session.channels().find(|(name, _)| session.case().same(name, place));
    match known {
        Some((_, Presence::Refused { why, .. })) => why.clone(),
        _ => "not in the channel".to_owned(),
    }
}

/// Ends when this master is the one that runs the notifier.
async fn claimed(claims: &mut Claims) {
    loop {
        let mut present = claims.borrow_and_update().clone();
        tokio::select! {
            yes = present.wait_for(|yes| *yes) => match yes {
                Ok(_) => return,
                // that birth is over; the next one tells
                Err(_) => if claims.changed().await.is_err() { std::future::pending::<()>().await },
            },
            Ok(()) = claims.changed() => {}
        }
    }
}

/// Ends when it is told to stop, or when nobody could tell any more.
async fn stopped(stop: &mut watch::Receiver<bool>) {
    let _ = stop.wait_for(|stop| *stop).await;
}
