//! Pins: builds that retention leaves alone.

use greenroom_model::write::PINNED;
use greenroom_model::*;

use super::builds::put_properties;
use crate::engine::{Cond, Select};
use crate::schema::*;
use crate::work::{Fault, Unit};

/// Pins a build, or takes that back. Its property says so, also to whoever follows the events: of what has ended nothing else may
/// change.
pub async fn pin(unit: &mut Unit<'_>, id: BuildId, pinned: bool, by: &str) -> Result<(), Fault> {
    let build = unit.get::<Build>(id).await?;
    let said = Properties::from([(PINNED.to_owned(), Property(pinned.into(), by.to_owned()))]);
    put_properties(unit, &build, &said).await?;
    let mark = unit.first(Select::from(&BUILD_MARKS).filter(Cond::eq("buildid", id.0))).await?;
    let logs_removed_at = match mark {
        Some(mut fields) => {
            (0..4).for_each(|_| fields.skip());
            fields.opt_int()?
        }
        None => None,
    };
    let row = vec![id.0.into(), pinned.into(), by.into(), unit.at.0.into(), logs_removed_at.into()];
    unit.upsert(&BUILD_MARKS, row);
    Ok(())
}
