//! What may happen to a farm of masters, in any order.

use greenroom_db::Fate;
use proptest::prelude::*;

/// So many masters write.
pub const MASTERS: usize = 3;
/// So many clients follow.
pub const CLIENTS: usize = 3;

/// What the bus does with what it is given.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lie {
    Nothing,
    Loses,
    Doubles,
    /// It keeps it and hands it over later, in another order.
    Holds,
}

/// An actor of a master that dies and is born again.
pub const MORTAL: [&str; 5] = ["data", "broker", "hub/actors", "db-reader", "db-writer"];

/// One thing that happens.
#[derive(Debug, Clone)]
pub enum Step {
    /// A master changes what others change, too.
    Write { master: usize },
    /// A master adds a change, which nobody else has.
    Change { master: usize },
    /// All masters change the same entities at the same time.
    Together,
    /// What becomes of one of the next commits, whoever makes it.
    Commit(Fate),
    /// How the bus is from now on.
    Bus(Lie),
    /// What the bus has held back comes now.
    Release,
    /// A client takes in some events.
    Follow { client: usize, events: usize },
    /// A client's connection breaks; it goes on from its clock, at another master.
    Break { client: usize, master: usize },
    /// A client begins with the state that a master has, which may be an old one; it listens later.
    Begin { client: usize, master: usize },
    /// An actor of a master dies.
    Die { master: usize, actor: usize },
    /// Somebody looks at a master's console, which is kept from then on.
    Look { master: usize },
    /// A master removes all but its newest events.
    Prune { master: usize },
    /// Another process takes a master's place.
    TakeOver { master: usize },
    /// Time passes, in milliseconds.
    Pass(u64),
}

/// A play.
pub fn steps() -> impl Strategy<Value = Vec<Step>> {
    let fate = prop_oneof![Just(Fate::AnswerLost), Just(Fate::Lost), Just(Fate::RolledBack)];
    let lie = prop_oneof![2 => Just(Lie::Nothing), 2 => Just(Lie::Loses), 1 => Just(Lie::Doubles), 2 => Just(Lie::Holds)];
    let (master, client) = (0..MASTERS, 0..CLIENTS);
    let step = prop_oneof![
        12 => master.clone().prop_map(|master| Step::Write { master }),
        5 => master.clone().prop_map(|master| Step::Change { master }),
        4 => Just(Step::Together),
        4 => fate.prop_map(Step::Commit),
        3 => lie.prop_map(Step::Bus),
        2 => Just(Step::Release),
        8 => (client.clone(), 0..12usize).prop_map(|(client, events)| Step::Follow { client, events }),
        4 => (client.clone(), master.clone()).prop_map(|(client, master)| Step::Break { client, master }),
        2 => (client, master.clone()).prop_map(|(client, master)| Step::Begin { client, master }),
        3 => (master.clone(), 0..MORTAL.len()).prop_map(|(master, actor)| Step::Die { master, actor }),
        3 => master.clone().prop_map(|master| Step::Look { master }),
        1 => master.clone().prop_map(|master| Step::Prune { master }),
        1 => master.prop_map(|master| Step::TakeOver { master }),
        4 => (1..400u64).prop_map(Step::Pass),
    ];
    prop::collection::vec(step, 1..90)
}
