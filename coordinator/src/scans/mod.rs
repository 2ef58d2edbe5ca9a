//! `portsweep scans`: the scans that are kept here, listed, shown, exported, removed.

pub(crate) mod list;

use crate::cli::{ExitCode, Export, ScansAction, ScansRequest};
use crate::report::jsonl::Jsonl;
use crate::report::table::{self, View};
use crate::report::{csv, json};
use crate::scan::Account;
use crate::state::{Kept, Seen, State, StateError};
use coordinator_core::store::{ScanStatus, Store};
use protocol::plan::Plan;
use std::io::{self, Write};

/// Why it could not be done.
#[derive(Debug, thiserror::Error)]
pub enum ScansError {
    /// The state says why.
    #[error(transparent)]
    State(#[from] StateError),
    /// Standard output cannot be written, or what is stored cannot be read.
    #[error(transparent)]
    Io(#[from] io::Error),
}

impl ScansError {
    /// Its exit code.
    #[must_use]
    pub const fn exit(&self) -> ExitCode {
        match self {
            Self::State(error) => error.exit(),
            Self::Io(_) => ExitCode::Failed,
        }
    }
}

/// Does what is asked for. `width` is that of the terminal that `out` is; `None` where it is none.
///
/// # Errors
/// If the state cannot be read, a scan is not there, or `out` cannot be written.
pub fn carry_out(request: &ScansRequest, out: &mut dyn Write, width: Option<usize>) -> Result<(), ScansError> {
    let ScansRequest { state, action } = request;
    match action {
        ScansAction::List => list::write(out, &state.kept()?, width),
        ScansAction::Show(id) => show(out, state, id),
        ScansAction::Export(id, form) => export(out, state, id, *form),
        ScansAction::Remove(ids) => {
            // All are found before the first is removed: a slip removes nothing.
            let kept = ids.iter().map(|id| state.find(id)).collect::<Result<Vec<_>, _>>()?;
            Ok(kept.iter().try_for_each(Kept::remove)?)
        }
    }
}

fn show(out: &mut dyn Write, state: &State, id: &str) -> Result<(), ScansError> {
    with_result(state, id, |seen, account, store, status| {
        writeln!(out, "Command: {}", seen.request.command)?;
        writeln!(out, "Started: {}", list::minute(seen.request.started))?;
        writeln!(out)?;
        let (facts, mut rows) = account.read(store, status, std::time::Duration::ZERO)?;
        let by_port = seen.request.output().by_port;
        table::write(out, &facts, &mut rows, View { open_only: seen.request.output().open_only, by_port })?;
        if seen.is_resumable() {
            writeln!(out, "To go on with it: {}", state.resume_line(seen.record.id))?;
        }
        Ok(())
    })
}

fn export(out: &mut dyn Write, state: &State, id: &str, form: Export) -> Result<(), ScansError> {
    with_result(state, id, |seen, account, store, status| {
        let (facts, mut rows) = account.read(store, status, std::time::Duration::ZERO)?;
        match form {
            Export::Json => json::write(out, &facts, &mut rows),
            Export::Csv => csv::write(out, &facts, &mut rows),
            Export::Jsonl => {
                let mut jsonl = Jsonl::new(seen.request.output().open_only);
                account.for_each_found(store, &mut |vantage, found, signs| {
                    jsonl.committed(out, account.names(), vantage, found, signs)
                })?;
                jsonl.finish(out, &facts, &mut rows)
            }
        }
    })
}

/// Reads a scan's result at one moment and gives it to `f`, with its status if it is over.
fn with_result(
    state: &State,
    id: &str,
    f: impl FnOnce(&Seen, &Account, &dyn Store, Option<ScanStatus>) -> io::Result<()>,
) -> Result<(), ScansError> {
    let kept = state.find(id)?;
    let seen = kept.look()?.ok_or(StateError::Empty(kept.id()))?;
    let mut store = kept.read()?;
    store.begin_group().map_err(StateError::from)?;
    let plan = Plan::try_from(seen.record.plan.clone()).map_err(io::Error::other)?;
    let account = Account::new(&seen.record, &plan, &seen.request, seen.elapsed()).updated(seen.updated);
    let status = Some(seen.status()).filter(|status| *status != ScanStatus::Running);
    Ok(f(&seen, &account, &store, status)?)
}
