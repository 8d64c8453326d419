//! Duties: what one master at a time does for all. One shape for all kinds: a row bears who has it, and each move of it is one
//! conditional UPDATE (by the row's version, in the transaction that proves this master's own place).
//!
//! Nobody takes a duty from a master that is active. So whoever has one keeps it until it gives it up or loses its place, which
//! the fence of its every write tells: that a master *has* a duty needs no look into the database.

use std::sync::Arc;

use greenroom_model::write::Duty;
use greenroom_model::*;

use crate::work::{Fault, Kind, Unit};

/// An entity that one master at a time has.
pub trait Held: Kind {
    fn name(&self) -> &str;
    fn holder(&self) -> Option<MasterId>;
    fn holder_mut(&mut self) -> &mut Option<MasterId>;
}

macro_rules! held {
    ($($ty:ty),*) => {$(
        impl Held for $ty {
            fn name(&self) -> &str {
                &self.name
            }
            fn holder(&self) -> Option<MasterId> {
                self.master
            }
            fn holder_mut(&mut self) -> &mut Option<MasterId> {
                &mut self.master
            }
        }
    )*};
}
held!(Scheduler, ChangeSource, Notifier);

/// This master has the duty from now on.
pub async fn claim(unit: &mut Unit<'_>, duty: &Duty) -> Result<(), Fault> {
    match duty {
        Duty::Scheduler(id) => {
            let it = unit.get::<Scheduler>(*id).await?;
            take(unit, &it).await
        }
        Duty::ChangeSource(id) => {
            let it = unit.get::<ChangeSource>(*id).await?;
            take(unit, &it).await
        }
        Duty::Notifier { name, new } => notifier(unit, name, new.as_ref()).await,
    }
}

/// This master has the duty no more.
pub async fn release(unit: &mut Unit<'_>, duty: &Duty) -> Result<(), Fault> {
    let me = unit.master;
    match duty {
        Duty::Scheduler(id) => {
            let it = unit.get::<Scheduler>(*id).await?;
            free(unit, &it, me);
        }
        Duty::ChangeSource(id) => {
            let it = unit.get::<ChangeSource>(*id).await?;
            free(unit, &it, me);
        }
        Duty::Notifier { name, .. } => {
            if let Some(it) = named(unit, name).await? {
                free(unit, &it, me);
            }
        }
    }
    Ok(())
}

/// A master has no duties any more.
pub async fn free_all(unit: &mut Unit<'_>, master: MasterId) -> Result<(), Fault> {
    free_kind::<Scheduler>(unit, master).await?;
    free_kind::<ChangeSource>(unit, master).await?;
    free_kind::<Notifier>(unit, master).await
}

async fn free_kind<E: Held>(unit: &mut Unit<'_>, master: MasterId) -> Result<(), Fault> {
    for it in unit.every::<E>().await? {
        free(unit, &it, master);
    }
    Ok(())
}

fn free<E: Held>(unit: &mut Unit<'_>, it: &Arc<E>, from: MasterId) {
    if it.holder() == Some(from) {
        unit.change(it, EventName::Updated, |it| *it.holder_mut() = None);
    }
}

/// Whether this master has it.
pub fn is_mine<E: Held>(unit: &Unit<'_>, it: &E) -> bool {
    it.holder() == Some(unit.master)
}

/// Refused unless this master has it.
pub fn prove<E: Held>(unit: &Unit<'_>, it: &E) -> Result<(), Fault> {
    if is_mine(unit, it) {
        return Ok(());
    }
    Err(Refusal::Held(format!("the {} {} is not this master's", E::NAME, it.name())).into())
}

/// Takes it, unless a master that is active has it.
async fn take<E: Held>(unit: &mut Unit<'_>, it: &Arc<E>) -> Result<(), Fault> {
    let me = unit.master;
    if let Some(other) = active_holder(unit, it.as_ref()).await? {
        let text = format!("the master {} runs the {} {}", other.name, E::NAME, it.name());
        return Err(Refusal::Held(text).into());
    }
    if !is_mine(unit, it.as_ref()) {
        unit.change(it, EventName::Updated, |it| *it.holder_mut() = Some(me));
    }
    Ok(())
}

/// Takes it if nobody has it.
pub async fn take_if_free<E: Held>(unit: &mut Unit<'_>, it: &Arc<E>) -> Result<(), Fault> {
    if active_holder(unit, it.as_ref()).await?.is_none() {
        take(unit, it).await?;
    }
    Ok(())
}

/// The other master that has it, if it is active.
async fn active_holder<E: Held>(unit: &mut Unit<'_>, it: &E) -> Result<Option<Arc<Master>>, Fault> {
    let Some(other) = it.holder().filter(|holder| *holder != unit.master) else { return Ok(None) };
    Ok(unit.find::<Master>(other.0).await?.filter(|it| it.active))
}

async fn named(unit: &mut Unit<'_>, name: &str) -> Result<Option<Arc<Notifier>>, Fault> {
    let all = unit.every::<Notifier>().await?;
    Ok(all.into_iter().find(|it| it.name == name))
}

/// The row of a notifier is made by its first claim.
async fn notifier(unit: &mut Unit<'_>, name: &str, new: Option<&(NotifierId, String)>) -> Result<(), Fault> {
    let Some(known) = named(unit, name).await? else {
        let (id, kind) = new.ok_or_else(|| Refusal::NotFound(format!("notifier {name}")))?;
        let (name, kind, master) = (name.to_owned(), kind.clone(), Some(unit.master));
        unit.add(Notifier { id: *id, name, kind, master, version: 1 }, EventName::New);
        return Ok(());
    };
    let Some((_, kind)) = new.filter(|(_, kind)| *kind != known.kind) else {
        return take(unit, &known).await;
    };
    if active_holder(unit, known.as_ref()).await?.is_some() {
        return take(unit, &known).await; // which says who has it
    }
    let me = unit.master;
    unit.change(&known, EventName::Updated, |it| {
        it.master = Some(me);
        it.kind.clone_from(kind);
    });
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::Engine;
    use crate::engine::memory::Memory;
    use crate::ids::IdAllocator;
    use crate::schema::ALL;
    use crate::work::Cache;

    /// What two masters on one database would do, one after the other.
    #[actix_rt::test]
    async fn the_duty_of_a_master_that_runs_is_not_taken_from_it() {
        let engine = Memory::new(ALL);
        let (mut cache, ids) = (Cache::default(), IdAllocator::empty());
        let mut tx = engine.write().await.unwrap();
        let mut unit = Unit::new(&mut *tx, &mut cache, MasterId(1), &ids);
        for (id, name) in [(1, "one"), (2, "two")] {
            let (id, name, last_active) = (MasterId(id), name.to_owned(), Timestamp(0));
            unit.add(Master { id, name, active: true, last_active, epoch: 1, version: 1 }, EventName::New);
        }
        let scheduler =
            Scheduler { id: SchedulerId(1), name: "s".into(), enabled: true, master: None, version: 1 };
        unit.add(scheduler, EventName::New);
        let team = |id| Duty::Notifier { name: "team".into(), new: Some((NotifierId(id), "irc".to_owned())) };
        for duty in [team(1), Duty::Scheduler(SchedulerId(1))] {
            unit.master = MasterId(1);
            claim(&mut unit, &duty).await.unwrap();
            unit.master = MasterId(2);
            let held = claim(&mut unit, &duty).await;
            assert!(matches!(held, Err(Fault::Refused(Refusal::Held(_)))), "{held:?}");
            release(&mut unit, &duty).await.unwrap();
            assert!(claim(&mut unit, &duty).await.is_err(), "who does not have it cannot give it up");
        }
        let one = unit.get::<Master>(MasterId(1)).await.unwrap();
        unit.change(&one, EventName::Stopped, |it| it.active = false);
        claim(&mut unit, &team(2)).await.unwrap();
        let held = named(&mut unit, "team").await.unwrap().unwrap();
        assert_eq!((held.id, held.master), (NotifierId(1), Some(MasterId(2))));
        free_all(&mut unit, MasterId(1)).await.unwrap();
        unit.master = MasterId(3);
        claim(&mut unit, &Duty::Scheduler(SchedulerId(1))).await.unwrap();
        assert!(claim(&mut unit, &team(3)).await.is_err());
    }
}
