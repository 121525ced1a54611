//! The world that the engine lives in: true time, a store, providers, and everybody's promises.

use std::collections::BTreeMap;
use std::time::Duration;

use everfresh_domain::engine::trace::TraceLine;
use everfresh_domain::engine::{Action, Attempt, AttemptOutcome, AttemptReport, Engine, Event};
use everfresh_domain::grant::AttemptMark;
use everfresh_domain::{
    AttemptId, Failure, FailureClass, Fingerprint, Generation, GrantId, GrantRecord, LoginEnd, Policy, Secret,
    Timestamp, TokenResponse, TokenSet,
};

use super::invariant::Invariant;
use super::judge::{Case, Fate, Scope, Troubles, Window};
use super::provider::{Answer, Provider, Rotation};
use super::weather::{Outage, Trouble, Weather};
use super::{Report, YEAR};
use crate::clock::START;
use crate::contract::store::binding;

/// Grants of one world, spread over its providers.
const GRANTS: usize = 12;

/// How often an unsaved record is tried again.
const SAVE_AGAIN: Duration = Duration::from_secs(15);

/// How long after the weather everything must be well: the longest pause, and some retries.
const HEALING: Duration = Duration::from_secs(3 * 3_600);

type Checked = Result<(), String>;

/// What is known of one grant besides its record.
#[derive(Clone, Debug)]
struct Life {
    provider: usize,
    removed_until: Option<Timestamp>,
    last_start: Option<Timestamp>,
    /// Fingerprints that were refused.
    refused: Vec<Fingerprint>,
    /// The newest trouble that may have kept it from being refreshed.
    troubled_until: Timestamp,
    /// When an answer with a new refresh token was lost, if that is not mended yet.
    lost_at: Option<Timestamp>,
}

/// A request under way: what will come of it, and when.
struct Flight {
    attempt: Attempt,
    marked: GrantRecord,
    sent_at: Timestamp,
    result: Result<TokenResponse, Failure>,
}

/// One seed's world.
pub struct World {
    now: Timestamp,
    /// How far the wall clock is from true time, in milliseconds.
    clock_ahead_ms: i64,
    engine: Engine,
    runs: u32,
    weather: Weather,
    grants: Vec<GrantId>,
    lives: BTreeMap<GrantId, Life>,
    providers: Vec<Provider>,
    stored: BTreeMap<GrantId, GrantRecord>,
    unsaved: BTreeMap<GrantId, GrantRecord>,
    flights: BTreeMap<(Timestamp, AttemptId), Flight>,
    network_down_until: Timestamp,
    outages: Vec<(Timestamp, Outage)>,
    disk_full_until: Timestamp,
    save_at: Option<Timestamp>,
    calm: bool,
    report: Report,
    troubles: Troubles,
    /// What the engine was told, where somebody wants to know.
    recorded: Option<Vec<TraceLine>>,
}

impl World {
    /// The world of `seed`: everybody is logged in, and the sun shines.
    pub fn new(seed: u64) -> Self {
        let hours = |hours: u64| Duration::from_secs(hours * 3_600);
        let providers = vec![
            Provider::new(Rotation::Strict, hours(2)),
            Provider::new(Rotation::UntilUsed, hours(8)),
            Provider::new(Rotation::Grace(Duration::from_secs(600)), hours(12)),
            Provider::new(Rotation::Never, hours(24)),
        ];
        let grants: Vec<GrantId> =
            (0..GRANTS).map(|number| format!("s{number}").parse().expect("a valid name")).collect();
        let mut world = Self {
            now: START,
            clock_ahead_ms: 0,
            engine: Engine::new(START, 0, Policy::default()),
            runs: 0,
            weather: Weather::new(seed, START, providers.len(), GRANTS),
            outages: vec![(START, Outage::Errors); providers.len()],
            grants,
            lives: BTreeMap::new(),
            providers,
            stored: BTreeMap::new(),
            unsaved: BTreeMap::new(),
            flights: BTreeMap::new(),
            network_down_until: START,
            disk_full_until: START,
            save_at: None,
            calm: false,
            report: Report::default(),
            troubles: Troubles::default(),
            recorded: None,
        };
        for (number, grant) in world.grants.clone().into_iter().enumerate() {
            let life = Life {
                provider: number % world.providers.len(),
                removed_until: None,
                last_start: None,
                refused: Vec::new(),
                troubled_until: START,
                lost_at: None,
            };
            world.lives.insert(grant.clone(), life);
            world.log_in(&grant);
        }
        world.start_process();
        world
    }

    /// From here on, what the engine is told is kept.
    pub fn record(&mut self) {
        self.recorded = Some(Vec::new());
        self.start_process();
    }

    /// What was kept.
    pub fn into_trace(self) -> Vec<TraceLine> {
        self.recorded.unwrap_or_default()
    }

    /// What it has come to so far.
    pub fn report(&self) -> Report {
        let years = self.now.since(START).as_secs_f64() / YEAR.as_secs_f64();
        Report { grant_years: years * GRANTS as f64, ..self.report }
    }

    /// Lives on for `time` in the weather of the seed.
    pub fn live(&mut self, time: Duration) -> Checked {
        let end = self.now.after(time);
        while self.now < end {
            self.step(end)?;
        }
        Ok(())
    }

    /// Ends all trouble, and demands that every login that was not lost is fresh again by itself.
    pub fn heal(&mut self) -> Checked {
        self.calm = true;
        self.network_down_until = self.now;
        self.disk_full_until = self.now;
        self.outages.iter_mut().for_each(|(until, _)| *until = self.now);
        for grant in self.grants.clone() {
            if self.life(&grant).removed_until.is_some() {
                self.add_again(&grant)?;
            }
        }
        self.live(HEALING)?;
        for (grant, record) in &self.stored {
            let fresh =
                record.tokens.as_ref().is_some_and(|tokens| tokens.facts(record.generation).is_valid(self.wall()));
            if record.ended.is_none() && !fresh {
                let what = format!("{grant} is not fresh {HEALING:?} after the storm: {:?}", record.facts());
                return Err(Invariant::HealsByItself.broken(what));
            }
        }
        Ok(())
    }

    /// The wall clock, which is all that the engine sees.
    fn wall(&self) -> Timestamp {
        Timestamp::from_millis(self.now.as_millis() + self.clock_ahead_ms)
    }

    fn life(&mut self, grant: &GrantId) -> &mut Life {
        self.lives.get_mut(grant).expect("every grant has a life")
    }

    /// Goes to the next moment at which anything happens, and no further than `end`.
    fn step(&mut self, end: Timestamp) -> Checked {
        let wake =
            self.engine.next_wake().map(|wake| Timestamp::from_millis(wake.at.as_millis() - self.clock_ahead_ms));
        let flight = self.flights.keys().next().map(|(at, _)| *at);
        let trouble = (!self.calm).then_some(self.weather.next);
        let back = self.lives.values().filter_map(|life| life.removed_until).min();
        let next = [wake, flight, trouble, self.save_at, back].into_iter().flatten().min().unwrap_or(end).min(end);
        self.now = self.now.max(next);
        if back.is_some_and(|at| at <= self.now) {
            let due: Vec<GrantId> = self
                .lives
                .iter()
                .filter(|(_, life)| life.removed_until.is_some_and(|at| at <= self.now))
                .map(|(grant, _)| grant.clone())
                .collect();
            for grant in due {
                self.add_again(&grant)?;
            }
        }
        while let Some(entry) = self.flights.first_entry().filter(|entry| entry.key().0 <= self.now) {
            let flight = entry.remove();
            self.arrive(flight)?;
        }
        if self.save_at.is_some_and(|at| at <= self.now) {
            self.save()?;
        }
        if trouble.is_some_and(|at| at <= self.now) {
            let trouble = self.weather.strike(self.now);
            self.suffer(trouble)?;
        }
        self.tell(Event::Woke)
    }

    fn tell(&mut self, event: Event) -> Checked {
        for action in self.advance(event) {
            match action {
                Action::Attempt(attempt) => self.begin(attempt)?,
                Action::Publish(_) | Action::Note(_) => {}
            }
        }
        Ok(())
    }

    fn advance(&mut self, event: Event) -> Vec<Action> {
        let wall = self.wall();
        let Some(recorded) = &mut self.recorded else { return self.engine.handle(wall, event) };
        let actions = self.engine.handle(wall, event.clone());
        recorded.push(TraceLine::told(wall, event, &actions));
        actions
    }

    /// The engine wants a request: its promises are checked, the mark is stored, and it is sent.
    fn begin(&mut self, attempt: Attempt) -> Checked {
        let grant = attempt.grant.clone();
        self.invariant_of_attempts(&attempt)?;
        let failed = |failure| AttemptOutcome::Failed { failure, facts: None };
        let Some(record) = self.newest(&grant) else { return self.answer(&attempt, AttemptOutcome::Discarded) };
        if record.generation != attempt.generation || self.now < self.disk_full_until {
            let failure = Failure::without_answer(FailureClass::Store, "the mark cannot be stored");
            return self.answer(&attempt, failed(failure));
        }
        let mark =
            AttemptMark { attempt: attempt.id, refresh_token: attempt.refresh_token, started_at: attempt.started_at };
        let marked = record.attempting(mark, attempt.budget);
        self.invariant_generation_never_falls(&marked)?;
        self.stored.insert(grant.clone(), marked.clone());
        self.report.attempts += 1;
        let now = self.now;
        self.life(&grant).last_start = Some(now);
        let result = self.request(&marked, &attempt);
        let ends = self.now.after(self.weather.latency());
        let flight = Flight { sent_at: self.wall(), attempt, marked, result };
        self.flights.insert((ends, flight.attempt.id), flight);
        Ok(())
    }

    /// What the network and the provider make of a request, decided when it is sent.
    fn request(&mut self, marked: &GrantRecord, attempt: &Attempt) -> Result<TokenResponse, Failure> {
        let provider = self.life(&attempt.grant).provider;
        let failure = |class| Failure::without_answer(class, "as the weather has it");
        if self.now < self.network_down_until {
            return Err(failure(FailureClass::Network));
        }
        let (until, kind) = self.outages[provider];
        let lost = if self.now < until {
            match kind {
                Outage::Unreachable => return Err(failure(FailureClass::Network)),
                Outage::Errors => return Err(failure(FailureClass::Provider)),
                Outage::Throttles => {
                    let pause = self.weather.pause();
                    let retry_after = Some(pause);
                    self.troubles.note(self.now, self.now.after(pause), Scope::Provider(provider));
                    return Err(Failure { retry_after, ..failure(FailureClass::RateLimited) });
                }
                Outage::Swallows if self.weather.chance(2) => return Err(failure(FailureClass::AnswerLost)),
                Outage::Swallows => true,
            }
        } else {
            !self.calm && self.weather.loses_answer()
        };
        let token = marked.refresh_token(attempt.refresh_token).expect("the record has what the engine asked for");
        let number = token.expose().parse().expect("tokens are numbers");
        let lifetime = self.providers[provider].lifetime;
        match self.providers[provider].refresh(self.now, &attempt.grant, number) {
            Answer::Refused => {
                Err(Failure { oauth_error: Some("invalid_grant".into()), ..failure(FailureClass::Refused) })
            }
            Answer::Tokens { .. } if lost => {
                self.report.answers_lost += 1;
                let now = self.now;
                self.life(&attempt.grant).lost_at.get_or_insert(now);
                Err(failure(FailureClass::AnswerLost))
            }
            Answer::Tokens { refresh_token } => Ok(response(lifetime, refresh_token)),
        }
    }

    /// An answer arrives: stored first, then told.
    fn arrive(&mut self, flight: Flight) -> Checked {
        let Flight { attempt, marked, sent_at, result } = flight;
        let grant = attempt.grant.clone();
        let current = self.newest(&grant).map(|record| record.generation);
        if current != Some(attempt.generation) {
            return self.answer(&attempt, AttemptOutcome::Discarded);
        }
        let outcome = match result {
            Ok(response) => {
                self.invariant_no_lapse(&grant, &marked)?;
                let renewed = marked.renewed(response, sent_at);
                self.report.refreshes += 1;
                let facts = Box::new(renewed.facts());
                if self.now < self.disk_full_until {
                    self.unsaved.insert(grant.clone(), renewed);
                    self.save_at = Some(self.now.after(SAVE_AGAIN));
                    AttemptOutcome::Unsaved { facts, cause: "the disk is full".into() }
                } else {
                    self.invariant_generation_never_falls(&renewed)?;
                    self.stored.insert(grant.clone(), renewed);
                    self.life(&grant).lost_at = None;
                    AttemptOutcome::Stored(facts)
                }
            }
            Err(failure) => {
                let failed = marked.failed(&failure);
                if failure.class == FailureClass::Refused {
                    self.life(&grant).refused.push(attempt.refresh_token);
                }
                let facts = Some(Box::new(failed.facts()));
                let was_alive = marked.ended.is_none();
                if let (true, Some(end)) = (was_alive, &failed.ended) {
                    self.judge(&grant, end)?;
                }
                self.stored.insert(grant.clone(), failed);
                AttemptOutcome::Failed { failure, facts }
            }
        };
        self.answer(&attempt, outcome)?;
        self.log_in_where_lost(&grant)
    }

    fn answer(&mut self, attempt: &Attempt, outcome: AttemptOutcome) -> Checked {
        let report = AttemptReport { attempt: attempt.id, grant: attempt.grant.clone(), outcome };
        self.tell(Event::AttemptEnded(report))
    }

    /// A login is over: could any client have kept it?
    fn judge(&mut self, grant: &GrantId, end: &LoginEnd) -> Checked {
        let (now, life) = (self.now, self.life(grant).clone());
        let window = match self.providers[life.provider].rotation {
            Rotation::Never | Rotation::UntilUsed => Window::Always,
            Rotation::Strict => Window::For(Duration::ZERO),
            Rotation::Grace(grace) => Window::For(grace),
        };
        // This world stores by itself whatever arrives: what is missing never arrived, or its process died.
        let missing = life.lost_at.map(|lost_at| (lost_at, Fate::NeverArrived));
        let case = Case { missing, window, ended: None, now };
        let calm = |from, to| self.troubles.longest_calm(from, to, grant, life.provider);
        if case.is_excused(calm, calm) {
            self.report.lost_unavoidable += 1;
            return Ok(());
        }
        self.report.lost_avoidable += 1;
        Err(Invariant::KeptWherePossible.broken(format!("the login of {grant} was lost at {now}: {end:?}")))
    }

    /// A person logs in again where a login was lost, so that life goes on.
    fn log_in_where_lost(&mut self, grant: &GrantId) -> Checked {
        let lost = self.stored.get(grant).is_some_and(|record| record.ended.is_some());
        if !lost {
            return Ok(());
        }
        self.log_in(grant);
        let facts = Box::new(self.stored[grant].facts());
        self.tell(Event::LoggedIn { grant: grant.clone(), facts, unsaved: None })
    }

    fn log_in(&mut self, grant: &GrantId) {
        let wall = self.wall();
        let provider = self.life(grant).provider;
        let token = self.providers[provider].log_in(grant);
        let tokens = TokenSet::issued(response(self.providers[provider].lifetime, Some(token)), wall, &[]);
        let generation = self.stored.get(grant).map_or(Generation(1), |record| record.generation.next());
        self.unsaved.remove(grant);
        let mut binding = binding();
        binding.token_endpoint = format!("https://as{provider}.example/token");
        self.stored.insert(grant.clone(), GrantRecord::logged_in(grant.clone(), generation, binding, tokens));
        let life = self.life(grant);
        life.lost_at = None;
        life.refused.clear();
    }

    /// The newest record: in memory where the store did not take it.
    fn newest(&self, grant: &GrantId) -> Option<GrantRecord> {
        self.unsaved.get(grant).or_else(|| self.stored.get(grant)).cloned()
    }

    /// Tries again to store what could not be stored.
    fn save(&mut self) -> Checked {
        if self.now < self.disk_full_until {
            self.save_at = Some(self.now.after(SAVE_AGAIN));
            return Ok(());
        }
        self.save_at = None;
        for (grant, record) in std::mem::take(&mut self.unsaved) {
            let generation = record.generation;
            self.invariant_generation_never_falls(&record)?;
            self.stored.insert(grant.clone(), record);
            self.tell(Event::Saved { grant, generation })?;
        }
        Ok(())
    }

    fn suffer(&mut self, trouble: Trouble) -> Checked {
        match trouble {
            Trouble::Network(time) => {
                self.network_down_until = self.now.after(time);
                self.troubles.note(self.now, self.now.after(time), Scope::All);
                self.everybody_is_troubled_until(self.now.after(time));
            }
            Trouble::Outage { provider, time, kind } => {
                self.outages[provider] = (self.now.after(time), kind);
                self.troubles.note(self.now, self.now.after(time), Scope::Provider(provider));
                self.everybody_is_troubled_until(self.now.after(time));
            }
            Trouble::DiskFull(time) => {
                self.disk_full_until = self.now.after(time);
                self.troubles.note(self.now, self.now.after(time), Scope::All);
                self.everybody_is_troubled_until(self.now.after(time));
            }
            Trouble::Crash(time) => self.crash(time),
            Trouble::Sleep(time) => {
                self.troubles.note(self.now, self.now.after(time), Scope::All);
                self.now = self.now.after(time);
                self.everybody_is_troubled_until(self.now);
                return self.tell(Event::ClockJumped);
            }
            Trouble::Clock(ms) => {
                self.clock_ahead_ms += ms;
                // Set right again before it runs away for ever.
                if self.clock_ahead_ms.abs() > 6 * 3_600_000 {
                    self.clock_ahead_ms = 0;
                }
                self.everybody_is_troubled_until(self.now);
                self.lives.values_mut().for_each(|life| life.last_start = None);
                return self.tell(Event::ClockJumped);
            }
            Trouble::Relogin(number) => return self.relogin(&self.grants[number].clone()),
            Trouble::Remove(number, time) => return self.remove(&self.grants[number].clone(), time),
        }
        Ok(())
    }

    /// Whatever happens until then may delay refreshes; backoff and pauses reach a while further.
    fn everybody_is_troubled_until(&mut self, until: Timestamp) {
        let until = until.after(Duration::from_secs(3_600));
        for life in self.lives.values_mut() {
            life.troubled_until = life.troubled_until.max(until);
        }
    }

    /// The process dies at this very moment: requests under way have been processed or not, and
    /// nobody hears of it.
    fn crash(&mut self, time: Duration) {
        self.report.crashes += 1;
        self.flights.clear();
        self.unsaved.clear();
        self.save_at = None;
        self.notice_lost_answers();
        self.troubles.note(self.now, self.now.after(time), Scope::All);
        self.now = self.now.after(time);
        self.everybody_is_troubled_until(self.now);
        self.start_process();
    }

    fn start_process(&mut self) {
        self.runs += 1;
        let (at, policy) = (self.wall(), Policy::default());
        if let Some(recorded) = &mut self.recorded {
            recorded.push(TraceLine::Began { at, run: self.runs, policy: Box::new(policy.clone()) });
        }
        self.engine = Engine::new(at, self.runs, policy);
        for grant in self.grants.clone() {
            if self.life(&grant).removed_until.is_some() {
                continue;
            }
            let facts = self.stored.get(&grant).map(|record| Box::new(record.facts()));
            // A process that starts makes no request before it is told of its grants.
            drop(self.tell(Event::Loaded { grant, enabled: true, facts }));
        }
    }

    /// After a crash: what was not durable is lost, tokens that were on their way above all.
    fn notice_lost_answers(&mut self) {
        for (grant, record) in &self.stored {
            let life = self.lives.get_mut(grant).expect("every grant has a life");
            let current = record.tokens.as_ref().and_then(|tokens| tokens.refresh_token.as_ref());
            let number = current.map(|token| token.expose().parse().expect("tokens are numbers"));
            if let Some(at) = number.and_then(|number| self.providers[life.provider].moved_on_from(grant, number)) {
                life.lost_at.get_or_insert(at);
            }
        }
    }

    fn relogin(&mut self, grant: &GrantId) -> Checked {
        if self.life(grant).removed_until.is_some() || self.now < self.disk_full_until {
            return Ok(());
        }
        let out = self.stored[grant].logged_out();
        self.stored.insert(grant.clone(), out.clone());
        self.tell(Event::LoggedOut { grant: grant.clone(), facts: Box::new(out.facts()) })?;
        self.log_in_where_lost(grant)
    }

    fn remove(&mut self, grant: &GrantId, time: Duration) -> Checked {
        let until = self.now.after(time);
        self.life(grant).removed_until = Some(until);
        self.unsaved.remove(grant);
        self.tell(Event::Removed { grant: grant.clone() })
    }

    fn add_again(&mut self, grant: &GrantId) -> Checked {
        self.life(grant).removed_until = None;
        self.log_in(grant);
        let facts = Some(Box::new(self.stored[grant].facts()));
        self.tell(Event::Loaded { grant: grant.clone(), enabled: true, facts })
    }

    /// One flight; spacing; no attempt after removal; a refused token is never sent again.
    fn invariant_of_attempts(&mut self, attempt: &Attempt) -> Checked {
        let (grant, now) = (&attempt.grant, self.now);
        if self
            .flights
            .values()
            .any(|flight| flight.attempt.grant == *grant && flight.attempt.generation == attempt.generation)
        {
            return Err(Invariant::OneFlight.broken(format!("a second request of {grant} at {now}")));
        }
        let spacing = Policy::default().min_spacing;
        let life = self.life(grant);
        if life.removed_until.is_some() {
            return Err(Invariant::NoAttemptAfterRemoval.broken(format!("a request of {grant} at {now}")));
        }
        if life.last_start.is_some_and(|last| now.since(last) < spacing) {
            return Err(Invariant::SpacingKept.broken(format!("two requests of {grant} within {spacing:?} at {now}")));
        }
        if life.refused.contains(&attempt.refresh_token) {
            return Err(Invariant::RefusedNeverSent.broken(format!("a token of {grant} is sent again at {now}")));
        }
        Ok(())
    }

    fn invariant_generation_never_falls(&self, next: &GrantRecord) -> Checked {
        match self.stored.get(&next.id) {
            Some(stored) if stored.generation > next.generation => {
                let what = format!("{} falls from {} to {}", next.id, stored.generation, next.generation);
                Err(Invariant::GenerationNeverFalls.broken(what))
            }
            Some(_) | None => Ok(()),
        }
    }

    /// In calm weather no access token ends before its successor is there.
    fn invariant_no_lapse(&mut self, grant: &GrantId, before: &GrantRecord) -> Checked {
        let (now, wall) = (self.now, self.wall());
        let lapsed = before.tokens.as_ref().and_then(TokenSet::expires_at).is_some_and(|end| end <= wall);
        if lapsed && now > self.life(grant).troubled_until {
            return Err(Invariant::NoLapseInCalm.broken(format!("the access token of {grant} had ended at {now}")));
        }
        Ok(())
    }
}

fn response(lifetime: Duration, refresh_token: Option<u64>) -> TokenResponse {
    TokenResponse {
        access_token: Secret::new("a"),
        token_type: "Bearer".into(),
        expires_in: Some(lifetime),
        refresh_token: refresh_token.map(|number| Secret::new(number.to_string())),
        refresh_token_expires_in: None,
        refresh_in: None,
        scopes: None,
        date: None,
    }
}
