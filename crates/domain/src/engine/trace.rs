//! A run of the engine as lines that can be kept, attached to a report, and run again.
//!
//! Events carry ids, generations and fingerprints, so a trace shows no secret.

use serde::{Deserialize, Serialize};

use super::{Action, Engine, Event};
use crate::policy::Policy;
use crate::secret::Fingerprint;
use crate::time::Timestamp;

/// One line of a trace.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "kind")]
pub enum TraceLine {
    /// An engine was made.
    Began {
        /// When.
        at: Timestamp,
        /// The number of its process.
        run: u32,
        /// Its rules' numbers.
        policy: Box<Policy>,
    },
    /// It was told something.
    Told {
        /// When.
        at: Timestamp,
        /// What.
        event: Box<Event>,
        /// A digest of what it answered.
        actions: Fingerprint,
    },
}

impl TraceLine {
    /// What the engine answered to `event` with `actions`.
    pub fn told(at: Timestamp, event: Event, actions: &[Action]) -> Self {
        Self::Told { at, event: Box::new(event), actions: digest(actions) }
    }
}

fn digest(actions: &[Action]) -> Fingerprint {
    Fingerprint::of(format!("{actions:?}").as_bytes())
}

/// The engine answers otherwise than it did when the trace was recorded.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[error("line {line}: told {event:?} at {at}, it answers otherwise than recorded: {actions:?}")]
pub struct Divergence {
    /// Which line of the trace, from 1.
    pub line: usize,
    /// When it was told.
    pub at: Timestamp,
    /// What it was told.
    pub event: Event,
    /// What it answers here.
    pub actions: Vec<Action>,
}

/// Runs a trace again, and returns how many events the engine was told.
///
/// Several engines one after another are several lives of one process. Events before the first
/// beginning are skipped: the log was cut off there.
pub fn replay(trace: impl IntoIterator<Item = TraceLine>) -> Result<usize, Box<Divergence>> {
    let mut engine = None;
    let mut told = 0;
    for (number, line) in trace.into_iter().enumerate() {
        match line {
            TraceLine::Began { at, run, policy } => engine = Some(Engine::new(at, run, *policy)),
            TraceLine::Told { at, event, actions: recorded } => {
                let Some(engine) = &mut engine else { continue };
                let actions = engine.handle(at, (*event).clone());
                told += 1;
                if digest(&actions) != recorded {
                    return Err(Box::new(Divergence { line: number + 1, at, event: *event, actions }));
                }
            }
        }
    }
    Ok(told)
}
