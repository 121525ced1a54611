//! What was told of each grant: so that it is told once, whatever flaps, and whoever restarts.
//!
//! The ledger is small and durable. An entry is written before the notice goes out, with the sinks
//! that owe it, and each sink is struck out once it has delivered: a crash in between may repeat a
//! notice at that sink, and loses none.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::{Concern, Notice, NoticeId, NoticeKind, NoticePolicy, Situation};
use crate::ids::GrantId;
use crate::time::Timestamp;

/// Entries that are kept of one grant: one for each kind, and some for reasons that take turns.
const ENTRIES_MAX: usize = 12;

/// Whether what was told is still so.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum State {
    /// It is.
    Standing,
    /// It is not any more.
    Over,
    /// It had ended, and is so again; it is told again after [`NoticePolicy::repeat_after`].
    Again,
}

/// One thing that was told.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Told {
    kind: NoticeKind,
    reason: String,
    login: Option<Timestamp>,
    warning: u8,
    at: Timestamp,
    notice: NoticeId,
    state: State,
    /// The sinks that have not delivered it yet.
    owed: BTreeSet<String>,
    /// Whether those sinks have it in hand, in this life of the process.
    #[serde(skip)]
    in_hand: bool,
}

impl Told {
    /// Whether `concern` is the thing that this entry is of.
    fn is_of(&self, concern: &Concern) -> bool {
        let same_thing = match concern.kind {
            // A dead login stays one event while its reason becomes clearer.
            NoticeKind::LoginNeeded => self.state == State::Standing || self.reason == concern.reason.as_str(),
            NoticeKind::LoginEnding
            | NoticeKind::CredentialRefused
            | NoticeKind::Outage
            | NoticeKind::StoreFailed
            | NoticeKind::Restored
            | NoticeKind::Test => true,
        };
        self.kind == concern.kind && self.login == concern.login && same_thing
    }

    /// Whether some sink is to be handed it.
    fn is_waiting(&self) -> bool {
        !self.owed.is_empty() && !self.in_hand
    }

    fn is_bad(&self) -> bool {
        self.state == State::Standing && self.kind.can_be_restored()
    }
}

/// What was told, by grant.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ledger {
    grants: BTreeMap<GrantId, Vec<Told>>,
    /// Since when each grant is in the concern that it is in. Not kept: a new life gives anew the
    /// time to heal.
    #[serde(skip)]
    since: BTreeMap<GrantId, (NoticeKind, Timestamp)>,
    /// Whether something that is kept has changed since the last [`Ledger::take_changed`].
    #[serde(skip)]
    changed: bool,
}

impl Ledger {
    /// Takes in what `grant` is in at `now`, and returns what is to be told of it. The same is
    /// returned until [`Ledger::told`] says that it was told.
    pub fn look(
        &mut self,
        now: Timestamp,
        grant: &GrantId,
        situation: Situation,
        kinds: &BTreeSet<NoticeKind>,
        rules: &NoticePolicy,
    ) -> Option<Concern> {
        match situation {
            Situation::Open => {
                self.since.remove(grant);
                None
            }
            Situation::Dismissed => {
                self.since.remove(grant);
                self.ended(grant, None);
                None
            }
            Situation::Well(health) => {
                self.since.remove(grant);
                let told = self.grants.get(grant).into_iter().flatten().find(|told| told.is_bad());
                match told.filter(|_| kinds.contains(&NoticeKind::Restored)) {
                    Some(told) => Some(Concern::of(NoticeKind::Restored, *health, told.login)),
                    None => {
                        self.ended(grant, None);
                        None
                    }
                }
            }
            Situation::Concern(concern) => {
                self.ended(grant, Some(concern.kind));
                let due = self.is_due(now, grant, &concern, rules);
                (due && kinds.contains(&concern.kind)).then_some(*concern)
            }
        }
    }

    fn is_due(&mut self, now: Timestamp, grant: &GrantId, concern: &Concern, rules: &NoticePolicy) -> bool {
        if !self.has_stood(now, grant, concern.kind, rules) {
            return false;
        }
        let told = self.grants.get_mut(grant).into_iter().flatten().find(|told| told.is_of(concern));
        let Some(told) = told else { return true };
        if told.state == State::Over {
            told.state = State::Again;
            self.changed = true;
        }
        let repeated = told.state == State::Again && now.since(told.at) >= rules.repeat_after;
        repeated || concern.warning > told.warning
    }

    /// Whether `grant` has been in a concern of this kind for as long as what may heal by itself is given.
    fn has_stood(&mut self, now: Timestamp, grant: &GrantId, kind: NoticeKind, rules: &NoticePolicy) -> bool {
        let (known, since) = self.since.entry(grant.clone()).or_insert((kind, now));
        if *known != kind {
            (*known, *since) = (kind, now);
        }
        now.since(*since) >= rules.patience(kind)
    }

    /// All that was told of `grant` is over, but for what is of the kind `but`.
    fn ended(&mut self, grant: &GrantId, but: Option<NoticeKind>) {
        for told in self.grants.get_mut(grant).into_iter().flatten().filter(|told| Some(told.kind) != but) {
            let news = told.kind == NoticeKind::Restored && but.is_none();
            if !news && (told.state != State::Over || !told.owed.is_empty()) {
                told.state = State::Over;
                told.owed.clear();
                self.changed = true;
            }
        }
    }

    /// Writes down that `notice` goes out to these sinks.
    pub fn told(&mut self, notice: &Notice, sinks: &BTreeSet<String>) {
        self.changed = true;
        for (grant, concern) in &notice.concerns {
            if notice.kind == NoticeKind::Restored {
                self.ended(grant, None);
            }
            let all = self.grants.entry(grant.clone()).or_default();
            all.retain(|told| told.login == concern.login && !(told.kind == concern.kind && told.is_of(concern)));
            if all.len() >= ENTRIES_MAX {
                all.remove(0);
            }
            all.push(Told {
                kind: concern.kind,
                reason: concern.reason.as_str().to_owned(),
                login: concern.login,
                warning: concern.warning,
                at: notice.at,
                notice: notice.id,
                state: State::Standing,
                owed: sinks.clone(),
                in_hand: true,
            });
        }
    }

    /// Strikes out a sink that has delivered `notice`, or has given up on it.
    pub fn settled(&mut self, notice: NoticeId, sink: &str) {
        for told in self.grants.values_mut().flatten().filter(|told| told.notice == notice) {
            self.changed |= told.owed.remove(sink);
        }
    }

    /// The notices to hand to sinks that still owe them, as `look` sees their grants at `now`. What is
    /// not clear yet waits, and what has ended meanwhile is for [`Ledger::look`] to strike out.
    ///
    /// Those who have delivered a notice get it no second time. Grants that are not clear when others
    /// of their notice go out get a `fresh` id: under the same one their news would be taken for known.
    pub fn owed(
        &mut self,
        now: Timestamp,
        rules: &NoticePolicy,
        mut look: impl FnMut(&GrantId) -> Option<Situation>,
        mut fresh: impl FnMut() -> NoticeId,
    ) -> Vec<(Notice, BTreeSet<String>)> {
        let waiting = self.grants.iter().filter(|(_, all)| all.iter().any(Told::is_waiting));
        let waiting: Vec<GrantId> = waiting.map(|(grant, _)| grant.clone()).collect();
        let mut owed: BTreeMap<NoticeId, (Notice, BTreeSet<String>)> = BTreeMap::new();
        for grant in waiting {
            let Some(situation) = look(&grant) else { continue };
            if let Situation::Concern(concern) = &situation
                && !self.has_stood(now, &grant, concern.kind, rules)
            {
                continue;
            }
            let all = self.grants.get_mut(&grant).into_iter().flatten();
            for told in all.filter(|told| told.is_waiting()) {
                let concern = match &situation {
                    Situation::Concern(concern) if told.is_of(concern) => (**concern).clone(),
                    Situation::Well(health) if told.kind == NoticeKind::Restored => {
                        Concern::of(NoticeKind::Restored, (**health).clone(), told.login)
                    }
                    Situation::Concern(_) | Situation::Well(_) | Situation::Dismissed | Situation::Open => continue,
                };
                told.in_hand = true;
                let notice = || Notice { id: told.notice, kind: told.kind, at: told.at, concerns: Vec::new() };
                let (notice, sinks) = owed.entry(told.notice).or_insert_with(|| (notice(), BTreeSet::new()));
                notice.concerns.push((grant.clone(), concern));
                sinks.extend(told.owed.iter().cloned());
            }
        }
        let others = self.grants.values_mut().flatten().filter(|told| told.is_waiting());
        for told in others.filter(|told| owed.contains_key(&told.notice)) {
            told.notice = fresh();
            self.changed = true;
        }
        owed.into_values().collect()
    }

    /// There are new sinks: what others had in hand and have not delivered waits again.
    pub fn take_back(&mut self) {
        self.grants.values_mut().flatten().for_each(|told| told.in_hand = false);
    }

    /// Forgets sinks that are no more: nobody delivers what they owe.
    pub fn keep_sinks(&mut self, sinks: &BTreeSet<String>) {
        for told in self.grants.values_mut().flatten() {
            let before = told.owed.len();
            told.owed.retain(|sink| sinks.contains(sink));
            self.changed |= told.owed.len() != before;
        }
    }

    /// Forgets grants that are no more.
    pub fn keep_grants(&mut self, there: impl Fn(&GrantId) -> bool) {
        let before = self.grants.len();
        self.grants.retain(|grant, all| !all.is_empty() && there(grant));
        self.changed |= self.grants.len() != before;
        self.since.retain(|grant, _| there(grant));
    }

    /// Whether there is something to be stored; asking takes it as done.
    pub fn take_changed(&mut self) -> bool {
        std::mem::take(&mut self.changed)
    }

    /// What was taken could not be stored.
    pub fn set_changed(&mut self) {
        self.changed = true;
    }

    /// The machine slept, or its clock was set: what was seen before says nothing of how long
    /// something has stood.
    pub fn clock_jumped(&mut self) {
        self.since.clear();
    }
}
