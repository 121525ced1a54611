//! What outlives every process of a storm: true time, the disk, the providers, and the books.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use everfresh_application::{ServerSettings, ServerSource};
use everfresh_domain::{Fingerprint, GrantId, GrantRecord, LoginEnd, Policy, ServerName, Timestamp};
use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};
use tokio::sync::Notify;
use tokio::time::Instant;

use super::weather::{self, Happening};
use crate::clock::START;
use crate::memory::MemoryStore;
use crate::provider::{Behaviour, Model, RefreshTokenShape, Rotation};
use crate::sim::judge::{Case, Fate, Scope, Troubles, Window};
use crate::sim::{Broken, Invariant, Report, YEAR};

/// Grants of one world, spread over its providers.
const GRANTS: usize = 60;

/// One in so many servers stands in the configuration file, the others in the store.
const IN_FILE: usize = 3;

/// Grants of a short life: one for each provider, and one more that shares.
const FEW: usize = 6;

/// Providers, each with its own ways.
const PROVIDERS: usize = 5;

/// Lines of the story that are kept for whoever has to understand a broken invariant.
const TRACE: usize = 80;

/// One in so many answers is lost on its way without any other trouble.
const LOST: u32 = 400;

/// What is known of one grant besides its record.
#[derive(Clone, Debug)]
pub(super) struct Book {
    pub(super) provider: usize,
    /// Its server is not there before then.
    pub(super) removed_until: Option<Timestamp>,
    pub(super) disabled_until: Option<Timestamp>,
    /// Its server stands in the configuration with another origin until then.
    pub(super) moved_until: Option<Timestamp>,
    /// How often its entry in the file was edited, and what that made of it.
    pub(super) edits: BTreeMap<&'static str, u32>,
    /// Its record cannot be read until then.
    damaged_until: Option<Timestamp>,
    /// Since when the process has a record that it could not read.
    pub(super) blind_since: Option<Timestamp>,
    /// A person is logging out.
    pub(super) logs_out: bool,
    /// The start of the newest attempt, in true time.
    pub(super) last_start: Option<Start>,
    /// Refresh tokens that this process knows to be refused.
    pub(super) refused: BTreeSet<Fingerprint>,
    /// What the request under way sends.
    pub(super) under_way: Option<Fingerprint>,
    /// What the provider has issued and the disk does not have.
    pub(super) missing: Option<Missing>,
    /// When the refresh token on the disk was issued.
    pub(super) token_since: Timestamp,
    /// Until when trouble may have kept it from being refreshed.
    pub(super) troubled_until: Timestamp,
}

/// A refresh token that is not on the disk.
#[derive(Clone, Copy, Debug)]
pub(super) struct Missing {
    pub(super) token: Fingerprint,
    pub(super) issued_at: Timestamp,
    pub(super) fate: Fate,
}

/// When an attempt began, and in which life of the process.
#[derive(Clone, Copy, Debug)]
pub(super) struct Start {
    at: Timestamp,
    life: u32,
}

/// Everything. The process sees it through ports only.
pub(super) struct World {
    pub(super) random: SmallRng,
    began: Option<Instant>,
    elapsed: Duration,
    /// How far the wall clock is from true time, in milliseconds.
    clock_ahead_ms: i64,
    clock_set_at: Timestamp,
    lives: u32,
    /// The rules' numbers as they are configured, those before them, and since when.
    policy: (Policy, Policy, Timestamp),
    troubles: Troubles,
    pub(super) read_errors_until: Timestamp,
    pub(super) omits_until: Vec<Timestamp>,
    pub(super) models: Vec<Arc<Mutex<Model>>>,
    pub(super) grants: Vec<GrantId>,
    pub(super) books: BTreeMap<GrantId, Book>,
    pub(super) disk: MemoryStore,
    pub(super) network_down_until: Timestamp,
    pub(super) outages: Vec<Timestamp>,
    pub(super) disk_full_until: Timestamp,
    pub(super) disk_slow_until: Timestamp,
    /// When something happens next; nothing does once the world is healed.
    next: Option<Timestamp>,
    boundaries: u64,
    dies_at: Option<u64>,
    pub(super) down: bool,
    pub(super) pause: Duration,
    short: bool,
    acted: bool,
    pub(super) broken: Option<String>,
    story: VecDeque<String>,
    report: Report,
}

/// The world as its ports and people hold it. Cloning shares it.
#[derive(Clone)]
pub(super) struct Shared {
    world: Arc<Mutex<World>>,
    pub(super) died: Arc<Notify>,
}

impl Shared {
    pub(super) fn new(seed: u64) -> Self {
        Self { world: Arc::new(Mutex::new(World::new(seed))), died: Arc::default() }
    }

    pub(super) fn with<T>(&self, look: impl FnOnce(&mut World) -> T) -> T {
        look(&mut self.world.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// A boundary between the process and the world: it may be the last that the process sees.
    pub(super) async fn boundary(&self, what: &str) {
        let dies = self.with(|world| world.dies_here(what));
        if dies {
            self.died.notify_one();
            std::future::pending::<()>().await;
        }
    }

    /// An invariant does not hold. The first one counts, and ends the story.
    pub(super) fn breaks(&self, invariant: Invariant, what: String) {
        self.with(|world| world.breaks(invariant, what));
        self.died.notify_one();
    }
}

impl World {
    fn new(seed: u64) -> Self {
        let hours = |hours: u64| Duration::from_secs(hours * 3_600);
        let provider = |access_lifetime, rotation| Behaviour { access_lifetime, rotation, ..Behaviour::default() };
        let single_use = |secs| Rotation::SingleUse { grace: Duration::from_secs(secs) };
        let behaviours = [
            Behaviour { kills_old_access_tokens: true, ..provider(hours(2), single_use(0)) },
            provider(hours(8), Rotation::PreviousUntilUsed),
            provider(hours(12), single_use(1_800)),
            provider(hours(24), Rotation::Never),
            Behaviour {
                refresh_lifetime: Some(hours(36)),
                tells_refresh_lifetime: true,
                ..provider(hours(3), single_use(10))
            },
        ];
        let models = behaviours.into_iter().enumerate().map(|(number, behaviour)| {
            let mut model = Model::new(behaviour);
            model.issuer = format!("https://as{number}.example");
            Arc::new(Mutex::new(model))
        });
        let mut world = Self {
            random: SmallRng::seed_from_u64(seed),
            began: None,
            elapsed: Duration::ZERO,
            clock_ahead_ms: 0,
            clock_set_at: START,
            lives: 0,
            policy: (Policy::default(), Policy::default(), START),
            troubles: Troubles::default(),
            read_errors_until: START,
            omits_until: vec![START; PROVIDERS],
            models: models.collect(),
            grants: Vec::new(),
            books: BTreeMap::new(),
            disk: MemoryStore::default(),
            network_down_until: START,
            outages: vec![START; PROVIDERS],
            disk_full_until: START,
            disk_slow_until: START,
            next: None,
            boundaries: 0,
            dies_at: None,
            down: false,
            pause: Duration::ZERO,
            short: false,
            acted: false,
            broken: None,
            story: VecDeque::new(),
            report: Report::default(),
        };
        world.populate(GRANTS);
        world.next = Some(START.after(weather::wait(&mut world.random)));
        world
    }

    fn populate(&mut self, grants: usize) {
        self.grants = (0..grants).map(|number| format!("s{number}").parse().expect("a valid name")).collect();
        let providers = self.models.len();
        let book = |number| Book {
            provider: number % providers,
            removed_until: None,
            disabled_until: None,
            moved_until: None,
            edits: BTreeMap::new(),
            damaged_until: None,
            blind_since: None,
            logs_out: false,
            last_start: None,
            refused: BTreeSet::new(),
            under_way: None,
            missing: None,
            token_since: START,
            troubled_until: START,
        };
        self.books = self.grants.iter().cloned().enumerate().map(|(number, grant)| (grant, book(number))).collect();
    }

    /// Fewer grants, no weather, and a death at one boundary.
    pub(super) fn short_life(&mut self, dies_at: u64) {
        self.populate(FEW);
        self.next = None;
        self.short = true;
        self.dies_at = Some(dies_at);
        self.pause = Duration::from_secs(30);
    }

    /// Whether every use case is to be acted out; once in each short life.
    pub(super) fn takes_the_stage(&mut self) -> bool {
        self.short && !std::mem::replace(&mut self.acted, true)
    }

    /// How long this process lives.
    pub(super) fn here(&self) -> Duration {
        self.began.map_or(Duration::ZERO, |began| began.elapsed())
    }

    /// True time.
    pub(super) fn now(&self) -> Timestamp {
        START.after(self.elapsed + self.here())
    }

    /// Time as the machine has it.
    pub(super) fn wall(&self) -> Timestamp {
        Timestamp::from_millis(self.now().as_millis() + self.clock_ahead_ms)
    }

    /// A process starts.
    pub(super) fn born(&mut self) {
        self.began = Some(Instant::now());
        self.down = false;
        self.acted = false;
        self.lives += 1;
        for (grant, book) in &mut self.books {
            book.under_way = None;
            // A refusal that was heard and not stored is not known to this process.
            let stored = self.disk.on_disk(grant).map(|record| record.refused).unwrap_or_default();
            book.refused.retain(|token| stored.contains(token));
        }
        self.tell("the process starts".to_owned());
    }

    /// It has ended; the next one starts after the pause.
    pub(super) fn buried(&mut self) {
        let died_at = self.now();
        self.elapsed += self.here() + std::mem::take(&mut self.pause);
        self.began = None;
        self.down = true;
        self.trouble_since(died_at, self.now(), Scope::All);
        for book in self.books.values_mut() {
            let unwritable_until = self.disk_full_until.max(book.damaged_until.unwrap_or(died_at));
            if let Some(missing) = &mut book.missing {
                missing.fate = missing.fate.after_death(died_at, unwritable_until.min(died_at));
            }
        }
    }

    /// The machine sleeps, and the process with it.
    pub(super) fn sleep(&mut self, time: Duration) {
        let from = self.now();
        self.elapsed += time;
        self.trouble_since(from, self.now(), Scope::All);
    }

    pub(super) fn set_clock(&mut self, ms: i64) {
        self.clock_ahead_ms += ms;
        // Set right again before it runs away for ever.
        if self.clock_ahead_ms.abs() > 6 * 3_600_000 {
            self.clock_ahead_ms = 0;
        }
        self.clock_set_at = self.now();
        self.trouble(self.now(), Scope::All);
    }

    /// There is trouble from here to then.
    pub(super) fn trouble(&mut self, until: Timestamp, scope: Scope) {
        self.trouble_since(self.now(), until, scope);
    }

    /// Whatever happened may delay refreshes; backoff, pauses and budgets reach further than it.
    fn trouble_since(&mut self, from: Timestamp, until: Timestamp, scope: Scope) {
        self.troubles.note(from, until, scope);
        let until = until.after(Duration::from_secs(2 * 3_600));
        self.books.values_mut().for_each(|book| book.troubled_until = book.troubled_until.max(until));
    }

    /// How the provider of this server tells of refresh tokens from here on, and how it did before.
    pub(super) fn shape_of_answers(&mut self, server: &ServerName, shape: RefreshTokenShape) -> RefreshTokenShape {
        let provider = self.book(&GrantId::of(server.clone())).provider;
        self.model(provider, |model| std::mem::replace(&mut model.switches.refresh_token, shape))
    }

    /// A provider renews no refresh token for so long: whose refresh token ends meanwhile is lost,
    /// and no access token is.
    pub(super) fn renews_nothing(&mut self, provider: usize, time: Duration) {
        let now = self.now();
        // Who keeps to the schedule learns with the refresh after that that it renews again.
        let between = self.model(provider, |model| model.behaviour.access_lifetime);
        self.troubles.note(now, now.after(time.saturating_add(between)), Scope::Renewal(provider));
    }

    pub(super) fn policy(&self) -> Policy {
        self.policy.0.clone()
    }

    pub(super) fn edit_policy(&mut self, policy: Policy) {
        let now = self.now();
        self.policy = (policy, self.policy(), now);
    }

    /// The attempt whose mark says that it began at `wall` is far enough from the one before.
    pub(super) fn spacing_is_kept(&mut self, grant: &GrantId, wall: Timestamp) -> Result<(), String> {
        let (now, life, set_at) = (self.now(), self.lives, self.clock_set_at);
        // Numbers that were changed, or a clock that was set, between the decision and the request.
        let recent = Duration::from_secs(120);
        let (policy, before, changed_at) = &self.policy;
        let changed = now.since(*changed_at) < recent;
        let wanted = if changed { policy.min_spacing.min(before.min_spacing) } else { policy.min_spacing };
        let unclear = now.since(set_at) < recent;
        let at = if unclear { now } else { Timestamp::from_millis(wall.as_millis() - self.clock_ahead_ms) };
        let last = self.book(grant).last_start.replace(Start { at, life });
        let Some(last) = last else { return Ok(()) };
        let wanted = match (last.at < set_at || unclear, last.life == life) {
            (false, _) => wanted,
            // The engine has the wall clock only; the gate has the monotonic one.
            (true, true) => {
                wanted.mul_f64(0.9).saturating_sub(if unclear { Duration::from_secs(20) } else { Duration::ZERO })
            }
            // What passed between two lives of a process while the clock was set, nobody can know.
            (true, false) => Duration::ZERO,
        };
        let apart = at.since(last.at);
        if apart >= wanted { Ok(()) } else { Err(format!("two attempts of {grant} within {apart:?}, not {wanted:?}")) }
    }

    pub(super) fn is_in_file(&self, grant: &GrantId) -> bool {
        self.grants.iter().position(|other| other == grant).is_some_and(|number| number % IN_FILE == 0)
    }

    /// The configuration file's servers as they stand there at this moment.
    pub(super) fn file(&self) -> Vec<ServerSettings> {
        let now = self.now();
        let is_over = |until: Option<Timestamp>| until.is_none_or(|until| now >= until);
        let there =
            self.grants.iter().filter(|grant| self.is_in_file(grant) && is_over(self.books[*grant].removed_until));
        there.map(|grant| self.settings(grant)).collect()
    }

    /// A server as it is configured at this moment.
    pub(super) fn settings(&self, grant: &GrantId) -> ServerSettings {
        let (now, book) = (self.now(), &self.books[grant]);
        let is_over = |until: Option<Timestamp>| until.is_none_or(|until| now >= until);
        let edits = |what| book.edits.get(what).copied().unwrap_or_default();
        let host = if is_over(book.moved_until) { "example" } else { "elsewhere" };
        let url = format!("https://mcp{}.{host}/{grant}/{}", book.provider, edits("path"));
        let mut settings = ServerSettings::new(grant.server.clone(), url);
        if self.is_in_file(grant) {
            settings.source = ServerSource::File;
            settings.enabled = is_over(book.disabled_until);
        }
        settings.headers.insert("X-Edit".into(), edits("header").to_string());
        settings.oauth.scopes = (0..edits("scopes") % 3).map(|number| format!("scope-{number}")).collect();
        settings
    }

    /// Its record cannot be read until then, by no process.
    pub(super) fn damage(&mut self, grant: &GrantId, until: Timestamp) {
        self.book(grant).damaged_until = Some(until);
        self.trouble(until, Scope::Grant(grant.clone()));
    }

    pub(super) fn is_damaged(&self, grant: &GrantId) -> bool {
        self.books[grant].damaged_until.is_some_and(|until| self.now() < until)
    }

    pub(super) fn fails_to_read(&mut self, grant: &GrantId) -> bool {
        let errors = self.now() < self.read_errors_until && self.random.random_range(0..2) == 0;
        errors || self.is_damaged(grant)
    }

    /// Whether the process that starts cannot read this record. It does not look again.
    pub(super) fn is_blind_to(&mut self, grant: &GrantId) -> bool {
        let (now, damaged) = (self.now(), self.is_damaged(grant));
        let book = self.book(grant);
        if damaged {
            book.blind_since.get_or_insert(now);
        } else if let Some(since) = book.blind_since.take() {
            self.trouble_since(since, now, Scope::Grant(grant.clone()));
        }
        damaged
    }

    pub(super) fn book(&mut self, grant: &GrantId) -> &mut Book {
        self.books.get_mut(grant).expect("every grant has a book")
    }

    pub(super) fn tell(&mut self, what: String) {
        if self.story.len() == TRACE {
            self.story.pop_front();
        }
        let line = format!("{} {what}", self.now());
        self.story.push_back(line);
    }

    pub(super) fn breaks(&mut self, invariant: Invariant, what: String) {
        let what = invariant.broken(format!("{what}, at {}", self.now()));
        self.broken.get_or_insert(what);
        self.down = true;
    }

    /// How to tell of what was broken.
    pub(super) fn broken_by(&self, what: String, again: String) -> Broken {
        Broken { what, again, trace: self.story.iter().cloned().collect(), report: Box::new(self.report()) }
    }

    fn dies_here(&mut self, what: &str) -> bool {
        if self.down {
            return true;
        }
        self.boundaries += 1;
        if self.dies_at != Some(self.boundaries) {
            return false;
        }
        self.dies(&format!("at boundary {}, {what}", self.boundaries));
        true
    }

    /// The process dies at this very moment.
    pub(super) fn dies(&mut self, how: &str) {
        self.tell(format!("the process dies {how}"));
        self.report.crashes += 1;
        self.dies_at = None;
        self.down = true;
    }

    /// It will die so many boundaries from here.
    pub(super) fn dies_in(&mut self, boundaries: u64, pause: Duration) {
        self.dies_at = Some(self.boundaries + boundaries);
        self.pause = pause;
    }

    pub(super) fn next(&self) -> Option<Timestamp> {
        self.next
    }

    /// What is due by now.
    pub(super) fn strike(&mut self) -> Option<Happening> {
        let now = self.now();
        if self.next.is_none_or(|next| next > now) {
            return None;
        }
        self.next = Some(now.after(weather::wait(&mut self.random)));
        let happening = weather::strike(&mut self.random, now, self.models.len(), self.grants.len());
        self.tell(format!("{happening:?}"));
        Some(happening)
    }

    pub(super) fn model<T>(&self, provider: usize, look: impl FnOnce(&mut Model) -> T) -> T {
        look(&mut self.models[provider].lock().unwrap_or_else(PoisonError::into_inner))
    }

    pub(super) fn milliseconds(&mut self, from: u64, to: u64) -> Duration {
        Duration::from_millis(self.random.random_range(from..to))
    }

    pub(super) fn loses_answer(&mut self) -> bool {
        !self.short && self.next.is_some() && self.random.random_range(0..LOST) == 0
    }

    pub(super) fn counts_attempt(&mut self) {
        self.report.attempts += 1;
    }

    pub(super) fn counts_refresh(&mut self) {
        self.report.refreshes += 1;
    }

    pub(super) fn counts_lost_answer(&mut self) {
        self.report.answers_lost += 1;
    }

    /// A login ended because its provider knows the client no more.
    pub(super) fn counts_purged(&mut self, purged: bool) {
        self.report.lost_unavoidable += u64::from(purged);
    }

    /// A login is over: could any client have kept it?
    pub(super) fn judge(&mut self, grant: &GrantId, end: &LoginEnd) {
        let now = self.now();
        let book = self.book(grant).clone();
        let behaviour = self.model(book.provider, |model| model.behaviour.clone());
        let window = match behaviour.rotation {
            Rotation::Never | Rotation::PreviousUntilUsed => Window::Always,
            Rotation::SingleUse { grace } => Window::For(grace),
        };
        let due = book.token_since.after(behaviour.access_lifetime.mul_f64(0.9));
        let case = Case {
            missing: book.missing.map(|missing| (missing.issued_at, missing.fate)),
            window,
            ended: behaviour.refresh_lifetime.map(|lifetime| (due, book.token_since.after(lifetime))),
            now,
        };
        let calm = |from, to| self.troubles.longest_calm(from, to, grant, book.provider);
        let renewing = |from, to| self.troubles.longest_renewing(from, to, grant, book.provider);
        if case.is_excused(calm, renewing) {
            self.report.lost_unavoidable += 1;
            self.tell(format!("the login of {grant} is over, and nobody could have kept it"));
        } else {
            self.report.lost_avoidable += 1;
            self.breaks(Invariant::KeptWherePossible, format!("the login of {grant} was lost: {end:?}; {case:?}"));
        }
    }

    /// Ends all trouble.
    pub(super) fn heal(&mut self) {
        let now = self.now();
        self.next = None;
        self.dies_at = None;
        self.short = false;
        self.network_down_until = now;
        self.disk_full_until = now;
        self.disk_slow_until = now;
        self.outages = vec![now; self.models.len()];
        self.models.iter().for_each(|model| {
            model.lock().unwrap_or_else(PoisonError::into_inner).switches = crate::provider::Switches::default();
        });
        self.read_errors_until = now;
        self.omits_until = vec![now; self.models.len()];
        for book in self.books.values_mut() {
            (book.removed_until, book.disabled_until) = (None, None);
            (book.moved_until, book.damaged_until) = (None, None);
        }
        self.tell("all trouble ends".to_owned());
    }

    /// Everybody is logged in and fresh.
    pub(super) fn all_is_well(&self) -> Result<(), String> {
        let wall = self.wall();
        let fresh = |record: &GrantRecord| {
            let valid = |tokens: &everfresh_domain::TokenSet| tokens.facts(record.generation).is_valid(wall);
            record.ended.is_none() && record.tokens.as_ref().is_some_and(valid)
        };
        match self.grants.iter().find(|grant| !self.disk.on_disk(grant).as_ref().is_some_and(fresh)) {
            None => Ok(()),
            Some(grant) => {
                let record = self.disk.on_disk(grant);
                let what = format!("{grant} is not fresh after the storm: {:?}", record.map(|record| record.facts()));
                Err(Invariant::HealsByItself.broken(what))
            }
        }
    }

    /// What it has come to.
    pub(super) fn report(&self) -> Report {
        let lived = self.now().since(START).as_secs_f64() / YEAR.as_secs_f64();
        Report { grant_years: lived * self.grants.len() as f64, ..self.report }
    }
}
