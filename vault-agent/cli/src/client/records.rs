//! Where the audit log begins, which tells what nobody knows any more.

use shared::audit::Record;
use shared::time::Time;

use super::{Client, Error};
use host::hint::Failure;
use machine::local::{AUDIT, AuditPage, AuditQuery};

impl Client {
    /// Returns when the first record was written that the server has at hand: what was read before
    /// is in its archive, or it burnt with another server. Nothing of one without records.
    pub fn audit_begins(&self) -> Result<Option<Time>, Error> {
        let query = AuditQuery { limit: Some(1), ..AuditQuery::default() };
        let page: AuditPage = self.get(AUDIT, &query.parameters())?;
        let Some(text) = page.records.first() else { return Ok(None) };
        let malformed = |_| Failure::remote("the server sent an audit record of another shape");
        let record = Record::parse(text.as_bytes()).map_err(malformed).map_err(Error::Answer)?;
        Ok(Some(record.time))
    }
}
