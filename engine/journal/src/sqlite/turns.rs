//! Whose turn it is in lanes and with keys: [`tidemill_core::turn`] is the rule. Each row says whether
//! it is blocked, so that order costs no memory and survives a crash.
//!
//! Nothing here looks at deliveries without lane and key, and nothing walks a lane: of those that
//! wait behind one another, only the first can have its turn.

use rusqlite::{OptionalExtension, Result, Statement};
use tidemill_core::{delivery::Seq, identity::DeliveryId, time::Timestamp, turn::Turn};

use super::statements::Statements;
use crate::{NewDelivery, Pending};

/// Where a delivery waits for its turn.
pub struct Place {
    trigger: String,
    turn: Turn,
}

/// Where the delivery with this number waits, or waited.
pub fn place(sql: &mut Statements<'_>, seq: Seq) -> Result<Place> {
    sql.place.query_row([seq], |row| {
        Ok(Place {
            trigger: row.get(0)?,
            turn: Turn {
                lane: row.get(1)?,
                key: row.get(2)?,
            },
        })
    })
}

/// Whether a delivery that is about to be added is blocked: all that is pending came before it.
pub fn is_blocked(sql: &mut Statements<'_>, new: &NewDelivery) -> Result<bool> {
    let trigger = &new.trigger;
    if new.dead.is_some() {
        return Ok(false);
    }
    if let Some(lane) = &new.lane
        && sql.in_lane.exists([trigger, lane])?
    {
        return Ok(true);
    }
    match &new.key {
        Some(key) => sql.with_key.exists([trigger, key]),
        None => Ok(false),
    }
}

/// A delivery has left what is pending: unblocks whoever waited for it alone, at most the next in its
/// lane and the next with its key.
pub fn pass_on(sql: &mut Statements<'_>, place: &Place) -> Result<Vec<Pending>> {
    let Place { trigger, turn } = place;
    let mut released = Vec::new();
    if let Some(lane) = &turn.lane {
        released.extend(unblock(&mut sql.pass_lane, trigger, lane)?);
    }
    if let Some(key) = &turn.key {
        released.extend(unblock(&mut sql.pass_key, trigger, key)?);
    }
    Ok(released)
}

fn unblock(statement: &mut Statement<'_>, trigger: &str, name: &str) -> Result<Option<Pending>> {
    let released = statement.query_row([trigger, name], |row| {
        Ok(Pending {
            seq: row.get(0)?,
            id: DeliveryId(row.get(1)?),
            trigger: trigger.to_owned(),
            due: Timestamp(row.get(2)?),
            size: row.get::<_, i64>(3)? as usize,
        })
    });
    released.optional()
}

#[cfg(test)]
mod tests {
    use rusqlite::Connection;

    use super::*;
    use crate::sqlite::open;

    /// However many wait in a lane: each step is a search, and what it finds is in order already.
    #[test]
    fn nothing_walks_a_lane() {
        let folder = tempfile::tempdir().unwrap();
        let conn = open::writer(&folder.path().join("journal.db")).unwrap();
        let sql = Statements::new(&conn).unwrap();
        for statement in [&sql.in_lane, &sql.with_key, &sql.pass_lane, &sql.pass_key] {
            let steps = plan(&conn, &statement.expanded_sql().unwrap());
            let searched = |step: &String| {
                step.starts_with("SEARCH") || step.contains("SUBQUERY") && !step.contains("TEMP")
            };
            assert!(steps.iter().all(searched), "{steps:?}");
            assert!(
                steps.iter().any(|step| step.contains("_turns")),
                "{steps:?}"
            );
        }
    }

    fn plan(conn: &Connection, sql: &str) -> Vec<String> {
        let mut explain = conn.prepare(&format!("EXPLAIN QUERY PLAN {sql}")).unwrap();
        let steps = explain.query_map([], |row| row.get("detail")).unwrap();
        steps.map(|step| step.unwrap()).collect()
    }
}
