//! What a person asks of a journal, in the shape that is shown, whether the engine runs or not.

use tidemill_core::identity::DeliveryId;
use tidemill_journal::{Journal, JournalError};

use crate::{
    admin::ListQuery,
    dispatcher::RedriveError,
    views::{DeadLetterDetail, DeadLetterPage},
};

/// How many dead letters a page has, unless asked for fewer.
const PAGE: usize = 1000;

/// A page of dead letters.
pub async fn list(
    journal: &dyn Journal,
    query: &ListQuery,
) -> Result<DeadLetterPage, JournalError> {
    let limit = query.limit.unwrap_or(PAGE).clamp(1, PAGE);
    let lines = journal
        .dead_letters(query.filter(), query.after, limit)
        .await?;
    let next = lines
        .last()
        .filter(|_| lines.len() == limit)
        .map(|line| line.seq);
    Ok(DeadLetterPage {
        dead_letters: lines.into_iter().map(Into::into).collect(),
        next,
    })
}

/// All that is known of a dead letter.
pub async fn show(journal: &dyn Journal, id: DeliveryId) -> Result<DeadLetterDetail, RedriveError> {
    let dead = journal
        .dead_letter(id)
        .await?
        .ok_or(RedriveError::Unknown(id))?;
    Ok(dead.into())
}
