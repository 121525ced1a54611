//! What outlives every process of a storm: true time, the disk, the providers, and the books.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use everfresh_application::ports::{Clock, Entropy};
use everfresh_domain::{Fingerprint, GrantId, GrantRecord, LoginEnd, Timestamp};
use rand::rngs::SmallRng;
use rand::{Rng, RngExt, SeedableRng};
use tokio::sync::Notify;
use tokio::time::Instant;

use super::weather::{self, Happening};
use crate::clock::START;
use crate::memory::MemoryStore;
use crate::provider::{Behaviour, Model, Rotation};
use crate::sim::{Report, YEAR};

/// Grants of one world, spread over its providers.
const GRANTS: usize = 60;

/// Grants of a short life: one for each provider, and one more that shares.
const FEW: usize = 5;

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
    /// The start of the newest attempt as its mark has it, unless the clock was set since.
    pub(super) last_start: Option<Timestamp>,
    /// Refresh tokens that this process knows to be refused.
    pub(super) refused: BTreeSet<Fingerprint>,
    /// Requests under way, by what they send.
    pub(super) under_way: BTreeSet<Fingerprint>,
    /// A refresh token that the provider has issued and the disk does not have, and since when.
    pub(super) undelivered: Option<(Fingerprint, Timestamp)>,
    /// Until when trouble may have kept it from being refreshed.
    pub(super) troubled_until: Timestamp,
}

/// Everything. The process sees it through ports only.
pub(super) struct World {
    pub(super) random: SmallRng,
    began: Option<Instant>,
    elapsed: Duration,
    /// How far the wall clock is from true time, in milliseconds.
    clock_ahead_ms: i64,
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
    pub(super) fn breaks(&self, what: String) {
        self.with(|world| world.breaks(what));
        self.died.notify_one();
    }
}

impl World {
    fn new(seed: u64) -> Self {
        let hours = |hours: u64| Duration::from_secs(hours * 3_600);
        let provider = |access_lifetime, rotation| Behaviour { access_lifetime, rotation, ..Behaviour::default() };
        let single_use = |secs| Rotation::SingleUse { grace: Duration::from_secs(secs) };
        let behaviours = [
            provider(hours(2), single_use(0)),
            provider(hours(8), Rotation::PreviousUntilUsed),
            provider(hours(12), single_use(600)),
            provider(hours(24), Rotation::Never),
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
            models: models.collect(),
            grants: Vec::new(),
            books: BTreeMap::new(),
            disk: MemoryStore::default(),
            network_down_until: START,
            outages: vec![START; 4],
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
            last_start: None,
            refused: BTreeSet::new(),
            under_way: BTreeSet::new(),
            undelivered: None,
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

    /// True time.
    pub(super) fn now(&self) -> Timestamp {
        let here = self.began.map_or(Duration::ZERO, |began| began.elapsed());
        START.after(self.elapsed + here)
    }

    /// A process starts.
    pub(super) fn born(&mut self) {
        self.began = Some(Instant::now());
        self.down = false;
        self.acted = false;
        for (grant, book) in &mut self.books {
            book.under_way.clear();
            // A refusal that was heard and not stored is not known to this process.
            let stored = self.disk.on_disk(grant).map(|record| record.refused).unwrap_or_default();
            book.refused.retain(|token| stored.contains(token));
        }
        self.tell("the process starts".to_owned());
    }

    /// It has ended; the next one starts after the pause.
    pub(super) fn buried(&mut self) {
        let here = self.began.take().map_or(Duration::ZERO, |began| began.elapsed());
        self.elapsed += here + std::mem::take(&mut self.pause);
        self.down = true;
        self.trouble_until(self.now());
    }

    /// The machine sleeps, and the process with it.
    pub(super) fn sleep(&mut self, time: Duration) {
        self.elapsed += time;
        self.trouble_until(self.now());
    }

    pub(super) fn set_clock(&mut self, ms: i64) {
        self.clock_ahead_ms += ms;
        // Set right again before it runs away for ever.
        if self.clock_ahead_ms.abs() > 6 * 3_600_000 {
            self.clock_ahead_ms = 0;
        }
        self.books.values_mut().for_each(|book| book.last_start = None);
        self.trouble_until(self.now());
    }

    pub(super) fn clock_is_right(&self) -> bool {
        self.clock_ahead_ms == 0
    }

    /// Whatever happens until then may delay refreshes; backoff, pauses and budgets reach further.
    pub(super) fn trouble_until(&mut self, until: Timestamp) {
        let until = until.after(Duration::from_secs(2 * 3_600));
        self.books.values_mut().for_each(|book| book.troubled_until = book.troubled_until.max(until));
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

    pub(super) fn trace(&self) -> Vec<String> {
        self.story.iter().cloned().collect()
    }

    pub(super) fn breaks(&mut self, what: String) {
        let what = format!("{what}, at {}", self.now());
        self.broken.get_or_insert(what);
        self.down = true;
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
        let happening = weather::strike(&mut self.random, self.models.len(), self.grants.len());
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

    /// A login is over: could any client have kept it?
    pub(super) fn judge(&mut self, grant: &GrantId, end: &LoginEnd) {
        let now = self.now();
        let book = self.book(grant).clone();
        let rotation = self.model(book.provider, |model| model.behaviour.rotation);
        let beyond_saving = match (rotation, book.undelivered) {
            (_, None) | (Rotation::Never | Rotation::PreviousUntilUsed, Some(_)) => false,
            (Rotation::SingleUse { grace }, Some(_)) if grace.is_zero() => true,
            // The old token was good for a while; trouble must have kept us from asking in time.
            (Rotation::SingleUse { grace }, Some((_, since))) => {
                now.since(since) >= grace && book.troubled_until >= since
            }
        };
        if beyond_saving {
            self.report.lost_unavoidable += 1;
            self.tell(format!("the login of {grant} is over, and nobody could have kept it"));
        } else {
            self.report.lost_avoidable += 1;
            self.breaks(format!("the login of {grant} was lost although it could have been kept: {end:?}"));
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
        self.books.values_mut().for_each(|book| (book.removed_until, book.disabled_until) = (None, None));
        self.tell("all trouble ends".to_owned());
    }

    /// Everybody is logged in and fresh.
    pub(super) fn all_is_well(&self) -> Result<(), String> {
        let wall = Timestamp::from_millis(self.now().as_millis() + self.clock_ahead_ms);
        let fresh = |record: &GrantRecord| {
            let valid = |tokens: &everfresh_domain::TokenSet| tokens.facts(record.generation).is_valid(wall);
            record.ended.is_none() && record.tokens.as_ref().is_some_and(valid)
        };
        match self.grants.iter().find(|grant| !self.disk.on_disk(grant).as_ref().is_some_and(fresh)) {
            None => Ok(()),
            Some(grant) => {
                let record = self.disk.on_disk(grant);
                Err(format!("{grant} is not fresh after the storm: {:?}", record.map(|record| record.facts())))
            }
        }
    }

    /// What it has come to.
    pub(super) fn report(&self) -> Report {
        let lived = self.now().since(START).as_secs_f64() / YEAR.as_secs_f64();
        Report { grant_years: lived * self.grants.len() as f64, ..self.report }
    }
}

/// The clocks of the machine.
pub(super) struct StormClock(pub(super) Shared);

impl Clock for StormClock {
    fn now(&self) -> Timestamp {
        self.0.with(|world| Timestamp::from_millis(world.now().as_millis() + world.clock_ahead_ms))
    }

    fn monotonic(&self) -> Duration {
        self.0.with(|world| world.began.map_or(Duration::ZERO, |began| began.elapsed()))
    }
}

/// Time as the providers have it.
pub(super) struct TrueClock(pub(super) Shared);

impl Clock for TrueClock {
    fn now(&self) -> Timestamp {
        self.0.with(|world| world.now())
    }

    fn monotonic(&self) -> Duration {
        StormClock(self.0.clone()).monotonic()
    }
}

/// Chance that is the seed's.
pub(super) struct StormEntropy(pub(super) Shared);

impl Entropy for StormEntropy {
    fn bytes(&self) -> [u8; 32] {
        let mut bytes = [0; 32];
        self.0.with(|world| world.random.fill_bytes(&mut bytes));
        bytes
    }
}
