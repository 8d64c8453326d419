//! Cells of the console that somebody asks for and the cache has not are read once, and kept from then on.

use super::*;
use greenroom_db::{ConsoleCells, ConsoleCellsOf};

/// Somebody asks for the cells of these source stamps. While others are being read nothing happens; who asks again is heard again.
#[derive(Message)]
#[rtype(result = "()")]
pub struct KeepCells(pub Vec<SourceStampId>);

impl Handler<KeepCells> for DataActor {
    type Result = ();

    fn handle(&mut self, KeepCells(stamps): KeepCells, _: &mut Context<Self>) {
        let Some(life) = &mut self.life else { return };
        let stamps = life.cache.want_cells(stamps);
        if stamps.is_empty() {
            return;
        }
        let reader = self.below.reader.clone();
        self.tasks.spawn(
            async move { read(&reader, ConsoleCellsOf { stamps }).await.map(|it| (it.clock, it.value)) },
            |end| CellsRead(Box::new(end)),
        );
    }
}

/// Cells were read, or not.
#[derive(Message)]
#[rtype(result = "()")]
struct CellsRead(Box<TaskEnd<Result<(Clock, ConsoleCells), DataError>>>);

impl Handler<CellsRead> for DataActor {
    type Result = ();

    fn handle(&mut self, CellsRead(end): CellsRead, ctx: &mut Context<Self>) {
        let Some(life) = &mut self.life else { return };
        match *end {
            TaskEnd::Done(Ok((clock, cells))) => {
                let reached = life.cache.hot.clock.covers(&clock);
                life.cache.found_cells(clock, cells);
                if !reached {
                    self.settle();
                }
                self.see_to_cells();
            }
            // The database is away: who asks again makes it be tried again.
            TaskEnd::Done(Err(error)) => {
                tracing::debug!(error = %error, "cells of the console could not be read");
                life.cache.give_cells_up();
            }
            TaskEnd::Panicked(why) => fail(ctx, why),
        }
    }
}

impl DataActor {
    /// Takes over cells that were read, once the cache is as far.
    pub(super) fn see_to_cells(&mut self) {
        let Some(life) = &mut self.life else { return };
        if life.cache.adopt_cells() {
            self.below.published.store(Some(Arc::new(life.cache.hot.clone())));
        }
    }
}
