//! The last gate before a token endpoint. The engine keeps the rules; this makes sure that no
//! mistake in it ever becomes a storm at a provider.

use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use everfresh_domain::{Failure, FailureClass, GrantId, Policy};
use governor::clock::{Clock as GovernorClock, Reference};
use governor::middleware::NoOpMiddleware;
use governor::nanos::Nanos;
use governor::state::keyed::DefaultKeyedStateStore;
use governor::{Quota, RateLimiter};

use crate::ports::Clock;

/// Requests to one endpoint host in one second, over all its grants.
const ENDPOINT_PER_SECOND: NonZeroU32 = NonZeroU32::new(50).expect("50 is not zero");

type Limiter<K> = RateLimiter<K, DefaultKeyedStateStore<K>, Monotonic, NoOpMiddleware<Instant>>;

/// At most one request for each grant per spacing, and a bounded rate for each endpoint.
pub(crate) struct Gate {
    grants: Limiter<GrantId>,
    endpoints: Limiter<String>,
}

impl Gate {
    pub(crate) fn new(clock: Arc<dyn Clock>, policy: &Policy) -> Self {
        // A little less than the spacing: the engine measures it from a moment slightly earlier.
        let spacing = policy.min_spacing.mul_f64(0.9).max(Duration::from_millis(1));
        let per_grant = Quota::with_period(spacing).expect("a spacing is never zero");
        let clock = Monotonic(clock);
        Self {
            grants: RateLimiter::new(per_grant, DefaultKeyedStateStore::default(), clock.clone()),
            endpoints: RateLimiter::new(
                Quota::per_second(ENDPOINT_PER_SECOND),
                DefaultKeyedStateStore::default(),
                clock,
            ),
        }
    }

    /// Lets one request through, or says for how long not.
    pub(crate) fn admit(&self, grant: &GrantId, endpoint: &String) -> Result<(), Failure> {
        let held = |wait: Duration| Failure {
            retry_after: Some(wait),
            ..Failure::without_answer(FailureClass::HeldBack, "held back by everfresh's own rate limit")
        };
        self.endpoints.check_key(endpoint).map_err(|wait| held(wait.wait_time_from(self.endpoints.clock().now())))?;
        self.grants.check_key(grant).map_err(|wait| held(wait.wait_time_from(self.grants.clock().now())))
    }

    /// Forgets what is of no use any more, so that the limits never grow with time.
    pub(crate) fn forget_idle(&self) {
        self.grants.retain_recent();
        self.endpoints.retain_recent();
    }
}

/// The clock port as governor wants it: virtual in tests, like all other time.
#[derive(Clone)]
struct Monotonic(Arc<dyn Clock>);

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Instant(Duration);

impl GovernorClock for Monotonic {
    type Instant = Instant;

    fn now(&self) -> Instant {
        Instant(self.0.monotonic())
    }
}

impl Reference for Instant {
    fn duration_since(&self, earlier: Self) -> Nanos {
        self.0.saturating_sub(earlier.0).into()
    }

    fn saturating_sub(&self, duration: Nanos) -> Self {
        Self(self.0.saturating_sub(duration.into()))
    }
}

impl std::ops::Add<Nanos> for Instant {
    type Output = Self;

    fn add(self, nanos: Nanos) -> Self {
        Self(self.0.saturating_add(nanos.into()))
    }
}
