//! A small stage for the engine: one clock, and answers by hand.

use std::time::Duration;

use everfresh_domain::engine::{Action, Attempt, AttemptOutcome, AttemptReport, Engine, Event, Note};
use everfresh_domain::failure::{Failure, FailureClass};
use everfresh_domain::grant::{GrantFacts, GrantType, LoginEnd};
use everfresh_domain::{
    Budget, Fingerprint, Generation, GrantId, GrantStatus, Health, Policy, Strikes, Timestamp, TokenFacts,
};

pub(crate) const START: Timestamp = Timestamp::from_millis(1_795_000_000_000);
pub(crate) const HOUR: Duration = Duration::from_secs(3_600);

pub(crate) const fn secs(secs: u64) -> Duration {
    Duration::from_secs(secs)
}

pub(crate) fn grant(name: &str) -> GrantId {
    name.parse().expect("a valid name")
}

/// The facts of a login whose tokens were issued `age` before `START`, for `lifetime`.
pub(crate) fn facts(age: Duration, lifetime: Duration) -> GrantFacts {
    let token = Fingerprint::from_bytes([1; 16]);
    GrantFacts {
        generation: Generation(1),
        issuer: "https://as.example".into(),
        endpoint: "as.example".into(),
        grant_type: GrantType::AuthorizationCode,
        tokens: Some(TokenFacts {
            generation: Generation(1),
            fingerprint: Fingerprint::from_bytes([9; 16]),
            token_type: "Bearer".into(),
            issued_at: START.before(age),
            lifetime: Some(lifetime),
            refresh_in: None,
            refresh_token: Some(token),
            refresh_token_issued_at: None,
            refresh_token_lifetime: None,
            idle_limit: None,
            login_ends_at: None,
            scopes: vec!["read".into()],
        }),
        sendable: Some(token),
        answer_lost: None,
        last_attempt_at: None,
        last_success_at: None,
        client_secret_expires_at: None,
        strikes: None,
        budget: Budget::default(),
        lost_scopes: Vec::new(),
        requested_scopes: vec!["read".into()],
        step_ups: 0,
        logged_in_at: None,
        ended: None,
    }
}

pub(crate) struct Stage {
    pub(crate) engine: Engine,
    pub(crate) now: Timestamp,
    pub(crate) notes: Vec<Note>,
    attempts: Vec<Attempt>,
    facts: std::collections::BTreeMap<GrantId, GrantFacts>,
}

impl Stage {
    pub(crate) fn new() -> Self {
        Self::with(Policy::default())
    }

    pub(crate) fn with(policy: Policy) -> Self {
        let engine = Engine::new(START, 7, policy);
        Self { engine, now: START, notes: vec![], attempts: vec![], facts: std::collections::BTreeMap::new() }
    }

    /// A stage past the grace after start, with one login called `linear`.
    pub(crate) fn settled(age: Duration, lifetime: Duration) -> Self {
        let mut stage = Self::new();
        stage.load("linear", facts(age, lifetime));
        stage
    }

    pub(crate) fn load(&mut self, name: &str, facts: GrantFacts) {
        self.facts.insert(grant(name), facts.clone());
        self.tell(Event::Loaded { grant: grant(name), enabled: true, facts: Some(Box::new(facts)) });
    }

    pub(crate) fn tell(&mut self, event: Event) {
        for action in self.engine.handle(self.now, event) {
            match action {
                Action::Attempt(attempt) => self.attempts.push(attempt),
                Action::Note(note) => self.notes.push(note),
                Action::Publish(_) => {}
            }
        }
    }

    pub(crate) fn pass(&mut self, time: Duration) {
        self.now = self.now.after(time);
        self.tell(Event::Woke);
    }

    /// Steps to the next wake.
    pub(crate) fn step(&mut self) {
        let wake = self.engine.next_wake().expect("something is to come");
        self.now = self.now.max(wake.at);
        self.tell(Event::Woke);
    }

    /// The next attempt to begin, whenever that is.
    pub(crate) fn next(&mut self) -> Attempt {
        loop {
            match self.begun().pop() {
                Some(attempt) => return attempt,
                None => self.step(),
            }
        }
    }

    /// The attempts that began since the last call.
    pub(crate) fn begun(&mut self) -> Vec<Attempt> {
        std::mem::take(&mut self.attempts)
    }

    /// The one attempt that began since the last call.
    pub(crate) fn one(&mut self) -> Attempt {
        let begun = self.begun();
        assert_eq!(begun.len(), 1, "{begun:?}");
        begun.into_iter().next().expect("one was begun")
    }

    pub(crate) fn report(&mut self, attempt: &Attempt, outcome: AttemptOutcome) {
        let report = AttemptReport { attempt: attempt.id, grant: attempt.grant.clone(), outcome };
        self.tell(Event::AttemptEnded(report));
    }

    pub(crate) fn succeed(&mut self, attempt: &Attempt, lifetime: Duration) -> GrantFacts {
        let mut facts = facts(Duration::ZERO, lifetime);
        facts.generation = attempt.generation.next();
        facts.last_attempt_at = Some(attempt.started_at);
        facts.budget = attempt.budget;
        if let Some(tokens) = &mut facts.tokens {
            tokens.generation = facts.generation;
            tokens.issued_at = self.now;
        }
        self.facts.insert(attempt.grant.clone(), facts.clone());
        self.report(attempt, AttemptOutcome::Stored(Box::new(facts.clone())));
        facts
    }

    pub(crate) fn fail(&mut self, attempt: &Attempt, class: FailureClass) {
        self.fail_with(attempt, Failure::without_answer(class, "as told"));
    }

    pub(crate) fn fail_with(&mut self, attempt: &Attempt, failure: Failure) {
        let mut facts = self.facts[&attempt.grant].clone();
        facts.last_attempt_at = Some(attempt.started_at);
        facts.budget = attempt.budget;
        facts.strikes = Strikes::after(facts.strikes, failure.class, attempt.started_at);
        match failure.class {
            FailureClass::Refused => {
                facts.sendable = None;
                facts.ended = Some(LoginEnd::Refused { code: "invalid_grant".into() });
            }
            FailureClass::AnswerLost => facts.answer_lost = facts.sendable,
            FailureClass::Network
            | FailureClass::Provider
            | FailureClass::RateLimited
            | FailureClass::ClientRejected
            | FailureClass::Suspect
            | FailureClass::Shape
            | FailureClass::HeldBack
            | FailureClass::Store
            | FailureClass::Configuration => {}
        }
        self.facts.insert(attempt.grant.clone(), facts.clone());
        self.report(attempt, AttemptOutcome::Failed { failure, facts: Some(Box::new(facts)) });
    }

    pub(crate) fn facts_of(&self, name: &str) -> GrantFacts {
        self.facts[&grant(name)].clone()
    }

    pub(crate) fn status(&self, name: &str) -> GrantStatus {
        self.engine.status(&grant(name), self.now).expect("the grant is known")
    }

    pub(crate) fn health(&self, name: &str) -> Health {
        self.status(name).health(self.now, self.engine.policy())
    }
}
