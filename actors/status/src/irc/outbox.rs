//! What waits to be sent: lines, and the mark that ends a message whose arrival must be known.

use std::collections::VecDeque;

use irc_proto::Command;
use tokio::sync::oneshot;

/// The most lines that wait; answers beyond are left out.
const MOST_LINES: usize = 400;

/// What was said, by place.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Spoken {
    /// Where the server has taken it.
    pub delivered: Vec<String>,
    /// Where it would not, and why.
    pub refused: Vec<(String, String)>,
}

/// The connection was not there, or was lost before the server confirmed. What was said may have arrived.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct NotSaid(pub String);

/// Where the outcome of a message goes.
pub type Reply = oneshot::Sender<Result<Spoken, NotSaid>>;

/// What comes next.
#[derive(Debug, PartialEq)]
pub enum Next {
    /// This line.
    Line(Command),
    /// A PING, to learn that all before it has arrived.
    Mark,
}

/// A message on its way.
struct Message {
    spoken: Spoken,
    reply: Reply,
    /// The PING that ends it, once that is sent.
    mark: Option<u64>,
}

/// See the module.
#[derive(Default)]
pub struct Outbox {
    /// Lines, and whether they belong to the message.
    queue: VecDeque<(Next, bool)>,
    message: Option<Message>,
    /// Lines that were left out.
    pub dropped: u64,
}

impl Outbox {
    /// One more line; whether there was room.
    pub fn push(&mut self, command: Command) -> bool {
        let room = self.queue.len() < MOST_LINES;
        if room {
            self.queue.push_back((Next::Line(command), false));
        } else {
            self.dropped += 1;
        }
        room
    }

    /// Whether a message is on its way. There is one at a time.
    pub fn busy(&self) -> bool {
        self.message.is_some()
    }

    /// A message to these places, each with its lines.
    pub fn say(
        &mut self,
        places: Vec<(String, Vec<Command>)>,
        unreachable: Vec<(String, String)>,
        reply: Reply,
    ) {
        let delivered = places.iter().map(|(place, _)| place.clone()).collect();
        for command in places.into_iter().flat_map(|(_, lines)| lines) {
            self.queue.push_back((Next::Line(command), true));
        }
        self.queue.push_back((Next::Mark, true));
        let spoken = Spoken { delivered, refused: unreachable };
        self.message = Some(Message { spoken, reply, mark: None });
    }

    /// What to send next.
    pub fn pop(&mut self) -> Option<Next> {
        self.queue.pop_front().map(|(next, _)| next)
    }

    /// Whether nothing waits.
    pub fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }

    /// How many lines wait.
    pub fn len(&self) -> usize {
        self.queue.len()
    }

    /// The message's PING was sent under this number.
    pub fn marked(&mut self, mark: u64) {
        if let Some(message) = &mut self.message {
            message.mark = Some(mark);
        }
    }

    /// The server would not deliver what we said there.
    pub fn refused(&mut self, place: &str, why: &str, same: impl Fn(&str, &str) -> bool) {
        let Some(message) = &mut self.message else { return };
        let before = message.spoken.delivered.len();
        message.spoken.delivered.retain(|it| !same(it, place));
        if message.spoken.delivered.len() < before {
            message.spoken.refused.push((place.to_owned(), why.to_owned()));
        }
    }

    /// The server has answered a PING.
    pub fn confirmed(&mut self, mark: u64) {
        if self.message.as_ref().is_some_and(|it| it.mark == Some(mark))
            && let Some(message) = self.message.take()
        {
            // whoever asked may have given up; the outcome is theirs to know then
            let _ = message.reply.send(Ok(message.spoken));
        }
    }

    /// Lets go of a message that nobody waits for any more: the rest of its lines is not sent.
    pub fn give_up(&mut self) {
        if self.message.as_ref().is_some_and(|it| it.reply.is_closed()) {
            self.message = None;
            self.queue.retain(|(_, of_message)| !of_message);
        }
    }

    /// The connection is gone, and with it everything that waited.
    pub fn lost(&mut self, why: &str) {
        self.queue.clear();
        if let Some(message) = self.message.take() {
            let _ = message.reply.send(Err(NotSaid(why.to_owned())));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(place: &str) -> Command {
        Command::PRIVMSG(place.to_owned(), "x".to_owned())
    }

    fn places(names: &[&str]) -> Vec<(String, Vec<Command>)> {
        names.iter().map(|name| ((*name).to_owned(), vec![line(name)])).collect()
    }

    fn same(one: &str, other: &str) -> bool {
        one.eq_ignore_ascii_case(other)
    }

    #[test]
    fn a_message_has_arrived_when_the_ping_after_it_is_answered() {
        let mut outbox = Outbox::default();
        let (reply, mut outcome) = oneshot::channel();
        outbox.push(line("ada"));
        outbox.say(places(&["#a", "#b"]), vec![("#c".into(), "banned".into())], reply);
        let sent: Vec<Next> = std::iter::from_fn(|| outbox.pop()).collect();
        assert_eq!(sent.len(), 4);
        assert_eq!(sent[3], Next::Mark);
        outbox.marked(7);
        outbox.refused("#B", "moderated", same);
        outbox.refused("#elsewhere", "no", same);
        outbox.confirmed(6);
        assert!(outcome.try_recv().is_err() && outbox.busy());
        outbox.confirmed(7);
        let spoken = outcome.try_recv().unwrap().unwrap();
        assert_eq!(spoken.delivered, ["#a"]);
        assert_eq!(spoken.refused, [("#c".into(), "banned".into()), ("#B".into(), "moderated".into())]);
    }

    #[test]
    fn a_lost_connection_is_told() {
        let mut outbox = Outbox::default();
        let (reply, mut outcome) = oneshot::channel();
        outbox.say(places(&["#a"]), Vec::new(), reply);
        outbox.lost("ping timeout");
        assert_eq!(outcome.try_recv().unwrap(), Err(NotSaid("ping timeout".into())));
        assert!(outbox.is_empty() && !outbox.busy());
    }

    #[test]
    fn what_nobody_waits_for_is_not_sent() {
        let mut outbox = Outbox::default();
        let (reply, outcome) = oneshot::channel();
        outbox.push(line("ada"));
        outbox.say(places(&["#a"]), Vec::new(), reply);
        outbox.give_up();
        assert_eq!(outbox.len(), 3);
        drop(outcome);
        outbox.give_up();
        assert_eq!(outbox.len(), 1);
        assert!(!outbox.busy());
    }

    #[test]
    fn it_is_bounded() {
        let mut outbox = Outbox::default();
        for _ in 0..1_000 {
            outbox.push(line("#a"));
        }
        assert_eq!((outbox.len(), outbox.dropped), (MOST_LINES, 600));
    }
}
