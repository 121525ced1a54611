//! What is broken on purpose: a sentence, the place, the text, what takes its place, and whose tests
//! must notice.

use super::Mutation;

/// Every mutation there is.
pub(super) const MUTATIONS: &[Mutation] = &[
    Mutation {
        what: "publish before store",
        file: "crates/application/src/attempt.rs",
        text: r"        match self.timed_replace(Some(stored), &renewed).await {",
        instead: r"        self.access.publish_tokens(&renewed);
        match self.timed_replace(Some(stored), &renewed).await {",
        noticed_by: &["everfresh-application"],
    },
    Mutation {
        what: "send without the durable mark",
        file: "crates/application/src/attempt.rs",
        text: r"        self.store_mark(Some(attempt.generation), &marked).await?;
",
        instead: r"",
        noticed_by: &["everfresh-application"],
    },
    Mutation {
        what: "forget refused tokens",
        file: "crates/domain/src/grant.rs",
        text: r"        self.refused.push(sent);",
        instead: r"        let _ = sent;",
        noticed_by: &["everfresh-domain", "everfresh-application", "everfresh-testkit"],
    },
    Mutation {
        what: "send again what an unattended grant was refused with",
        file: "crates/application/src/unattended.rs",
        text: r"record.refused.contains(&sent)",
        instead: r"record.refused.is_empty() && record.refused.contains(&sent)",
        noticed_by: &["everfresh-application"],
    },
    Mutation {
        what: "replace instead of merge",
        file: "crates/domain/src/token.rs",
        text: r"            refresh_token: response.refresh_token.or_else(|| self.refresh_token.clone()),",
        instead: r"            refresh_token: response.refresh_token,",
        noticed_by: &["everfresh-domain", "everfresh-application"],
    },
    Mutation {
        what: "no previous token kept",
        file: "crates/domain/src/grant.rs",
        text: r"            previous_refresh_token: if rotated { used.cloned() } else { None },",
        instead: r"            previous_refresh_token: { let _ = (rotated, used); None },",
        noticed_by: &["everfresh-domain", "everfresh-application", "everfresh-testkit"],
    },
    Mutation {
        what: "lost answers not remembered",
        file: "crates/domain/src/grant.rs",
        text: r"            FailureClass::AnswerLost => next.answer_lost = Some(mark.refresh_token),",
        instead: r"            FailureClass::AnswerLost => {}",
        noticed_by: &["everfresh-domain", "everfresh-application", "everfresh-testkit"],
    },
    Mutation {
        what: "two flights",
        file: "crates/domain/src/engine/grant.rs",
        text: r"        if self.flight.is_some() || self.queued.is_some() { None }",
        instead: r"        if self.queued.is_some() { None }",
        noticed_by: &["everfresh-domain", "everfresh-application"],
    },
    Mutation {
        what: "a token for any origin",
        file: "crates/application/src/access.rs",
        text: r"        !self.origin.is_empty() && self.origin == route.origin",
        instead: r"        !self.origin.is_empty() || self.origin == route.origin",
        noticed_by: &["everfresh-application"],
    },
    Mutation {
        what: "a nonce that is never learned",
        file: "crates/application/src/access.rs",
        text: r"            route.seat.nonce.store(Some(Arc::new(nonce.to_owned())));",
        instead: r"            let _ = nonce;",
        noticed_by: &["everfresh-presentation"],
    },
    Mutation {
        what: "waiters answered in vain",
        file: "crates/application/src/driver.rs",
        text: r"        let waiters = self.waiters.remove(&report.grant).unwrap_or_default();
        // First how it ended, then what follows from that.
        let notes = self.take_in(Event::AttemptEnded(report.clone()));",
        instead: r"        let notes = self.take_in(Event::AttemptEnded(report.clone()));
        let waiters = self.waiters.remove(&report.grant).unwrap_or_default();",
        noticed_by: &["everfresh-application"],
    },
    Mutation {
        what: "state used twice",
        file: "crates/domain/src/login.rs",
        text: r"                login.phase = LoginPhase::Exchanging;",
        instead: r"                let _ = &login.phase;",
        noticed_by: &["everfresh-domain", "everfresh-application"],
    },
    Mutation {
        what: "issuer of the answer not compared",
        file: "crates/application/src/login/answer.rs",
        text: r"        Some(iss) if *iss != flow.binding.client.issuer => {",
        instead: r"        Some(iss) if iss.is_empty() => {",
        noticed_by: &["everfresh-application"],
    },
    Mutation {
        what: "a configured client is used at any issuer",
        file: "crates/application/src/login/client.rs",
        text: r"            if known.client_id == client_id && known.issuer != found {",
        instead: r"            if known.client_id == client_id && known.issuer.is_empty() {",
        noticed_by: &["everfresh-application"],
    },
    Mutation {
        what: "the answer to one login pasted into another",
        file: "crates/application/src/login/mod.rs",
        text: r"            if answer.state.as_ref() != Some(&browser.state) {",
        instead: r"            if answer.state.is_none() {",
        noticed_by: &["everfresh-application"],
    },
    Mutation {
        what: "tokens of a login that was taken back are kept",
        file: "crates/application/src/login/keep.rs",
        text: r"            if !self.lock().flows.contains_key(&id) {",
        instead: r"            if id == FlowId(u64::MAX) {",
        noticed_by: &["everfresh-application"],
    },
    Mutation {
        what: "slow_down not heeded",
        file: "crates/application/src/login/device.rs",
        text: r#"        Some("slow_down") => return Told::Wait(interval + SLOWER),"#,
        instead: r#"        Some("slow_down") => return Told::Wait(interval.max(SLOWER)),"#,
        noticed_by: &["everfresh-application"],
    },
    Mutation {
        what: "compare-and-swap ignored",
        file: "crates/infrastructure/src/store/keeper.rs",
        text: r"            if stored == expected { Ok(()) }",
        instead: r"            if stored == expected || stored.is_some() { Ok(()) }",
        noticed_by: &["everfresh-infrastructure"],
    },
    Mutation {
        what: "folder not synced",
        file: "crates/infrastructure/src/store/keeper.rs",
        text: r"        if let Err(error) = self.disk.sync_folder(&self.folder) {",
        instead: r"        if let Err(error) = Ok::<(), io::Error>(()) {",
        noticed_by: &["everfresh-infrastructure"],
    },
    Mutation {
        what: "older copy wins",
        file: "crates/infrastructure/src/store/opening.rs",
        text: r"            (Some(Ok((version, bytes))), _) if tree <= file =>",
        instead: r"            (Some(Ok((version, bytes))), _) if tree <= file || file.is_some() =>",
        noticed_by: &["everfresh-infrastructure"],
    },
    Mutation {
        what: "HTML ends a login",
        file: "crates/infrastructure/src/oauth/classify.rs",
        text: r"    (FailureClass::Provider, message)
}",
        instead: r"    (FailureClass::Refused, message)
}",
        noticed_by: &["everfresh-infrastructure"],
    },
    Mutation {
        what: "a cookie from any page",
        file: "crates/presentation/src/guard.rs",
        text: r#"    matches!(site, Some("same-origin" | "none"))"#,
        instead: r"    site.is_some()",
        noticed_by: &["everfresh-presentation"],
    },
    Mutation {
        what: "any host",
        file: "crates/presentation/src/guard.rs",
        text: r"        if !self.is_ours(name_in(host)) {",
        instead: r"        if name_in(host).is_empty() {",
        noticed_by: &["everfresh-presentation"],
    },
    Mutation {
        what: "climbing paths",
        file: "crates/presentation/src/proxy/target.rs",
        text: r#"        plain == ".." || plain == ".""#,
        instead: r#"        plain == "...""#,
        noticed_by: &["everfresh-presentation"],
    },
    Mutation {
        what: "SSRF to private addresses",
        file: "crates/infrastructure/src/http/guard.rs",
        text: r"    if *reach == Reach::Public && private {",
        instead: r"    if *reach == Reach::Public && private && false {",
        noticed_by: &["everfresh-infrastructure"],
    },
    Mutation {
        what: "names resolved to any address",
        file: "crates/infrastructure/src/http/mod.rs",
        text: r"            Some(resolver) => builder.no_proxy().dns_resolver(resolver),",
        instead: r"            Some(_) => builder.no_proxy(),",
        noticed_by: &["everfresh-infrastructure"],
    },
    Mutation {
        what: "a private name that turns public",
        file: "crates/infrastructure/src/http/guard.rs",
        text: r"            Some(host) => !name.eq_ignore_ascii_case(host) || !is_public(ip),",
        instead: r"            Some(host) => !name.eq_ignore_ascii_case(host) || !is_public(ip) || true,",
        noticed_by: &["everfresh-infrastructure"],
    },
    Mutation {
        what: "redirects followed",
        file: "crates/infrastructure/src/http/mod.rs",
        text: r"        .redirect(reqwest::redirect::Policy::none())",
        instead: r"        .redirect(reqwest::redirect::Policy::limited(3))",
        noticed_by: &["everfresh-infrastructure"],
    },
    Mutation {
        what: "this machine asked for at a proxy",
        file: "crates/infrastructure/src/http/proxy.rs",
        text: r"        if uri.host().is_some_and(is_loopback_host) {",
        instead: r"        if uri.host().is_some_and(is_loopback_host) && false {",
        noticed_by: &["everfresh-infrastructure"],
    },
    Mutation {
        what: "changed certificate files not noticed",
        file: "crates/infrastructure/src/http/mod.rs",
        text: r"        self.stamps == stamps && self.since",
        instead: r"        (self.stamps == stamps || true) && self.since",
        noticed_by: &["everfresh-infrastructure"],
    },
    Mutation {
        what: "a request that TLS refused counts as sent",
        file: "crates/infrastructure/src/oauth/wire.rs",
        text: r"|| io_error(&error).is_some_and(refuses_this_client) {",
        instead: r"|| io_error(&error).is_some_and(refuses_this_client) && false {",
        noticed_by: &["everfresh-infrastructure"],
    },
    Mutation {
        what: "any authorization URL is opened",
        file: "crates/everfresh/src/browser.rs",
        text: r#"        "http" if here => Ok(parsed),"#,
        instead: r"        _ if here || !here => Ok(parsed),",
        noticed_by: &["everfresh"],
    },
    Mutation {
        what: "secrets shown",
        file: "crates/domain/src/secret.rs",
        text: r#"        write!(f, "Secret({})", self.fingerprint())"#,
        instead: r#"        write!(f, "Secret({})", self.expose())"#,
        noticed_by: &["everfresh-domain"],
    },
    Mutation {
        what: "a 503 ends the login",
        file: "crates/infrastructure/src/oauth/classify.rs",
        text: r#"        Body::Whole(_) if is_transient(status) => format!("the provider answered {number}"),"#,
        instead: r"        Body::Whole(_) if is_transient(status) => return (FailureClass::Refused, String::new()),",
        noticed_by: &["everfresh-infrastructure"],
    },
    Mutation {
        what: "a bare 401 ends the login",
        file: "crates/infrastructure/src/oauth/classify.rs",
        text: r#"        return (FailureClass::Suspect, format!("the provider answered {number} without an OAuth error code"));"#,
        instead: r#"        return (FailureClass::Refused, format!("the provider answered {number} without an OAuth error code"));"#,
        noticed_by: &["everfresh-infrastructure"],
    },
    Mutation {
        what: "spacing is forgotten over a restart",
        file: "crates/domain/src/grant.rs",
        text: r"            last_attempt_at: self.last_attempt_at,
            last_success_at: self.last_success_at,
            client",
        instead: r"            last_attempt_at: None,
            last_success_at: self.last_success_at,
            client",
        noticed_by: &["everfresh-domain", "everfresh-application", "everfresh-testkit"],
    },
    Mutation {
        what: "a sleep is not noticed",
        file: "crates/application/src/clock_watch.rs",
        text: r"        apart > JUMP",
        instead: r"        apart > JUMP * 1_000_000",
        noticed_by: &["everfresh-application"],
    },
    Mutation {
        what: "a late answer counts for another login",
        file: "crates/domain/src/engine/attempts.rs",
        text: r"        if !flight.superseded {",
        instead: r"        if !flight.superseded || flight.superseded {",
        noticed_by: &["everfresh-domain", "everfresh-application", "everfresh-testkit"],
    },
    Mutation {
        what: "a removed server keeps its timers",
        file: "crates/domain/src/engine/mod.rs",
        text: r"    fn removed(&mut self, id: &GrantId, out: &mut Vec<Action>) {
        self.forget_timers(id);
        self.release_from_endpoint(id);
        if self.grants.remove(id).is_some() {",
        instead: r"    fn removed(&mut self, id: &GrantId, out: &mut Vec<Action>) {
        if self.grants.contains_key(id) {",
        noticed_by: &["everfresh-domain", "everfresh-application", "everfresh-testkit"],
    },
    Mutation {
        what: "the backoff has no cap",
        file: "crates/domain/src/retry.rs",
        text: r".saturating_mul(1 << doublings).min(policy.backoff_cap)",
        instead: r".saturating_mul(1 << doublings)",
        noticed_by: &["everfresh-domain"],
    },
    Mutation {
        what: "Retry-After is ignored",
        file: "crates/domain/src/retry.rs",
        text: r"        Some(demanded) => wait.max(demanded.min(policy.retry_after_cap)),",
        instead: r"        Some(_) => wait,",
        noticed_by: &["everfresh-domain"],
    },
    Mutation {
        what: "Retry-After may shorten",
        file: "crates/domain/src/retry.rs",
        text: r"        Some(demanded) => wait.max(demanded.min(policy.retry_after_cap)),",
        instead: r"        Some(demanded) => demanded.min(policy.retry_after_cap),",
        noticed_by: &["everfresh-domain"],
    },
    Mutation {
        what: "an attempt that a crash broke off is no lost answer",
        file: "crates/domain/src/grant.rs",
        text: r"        self.answer_lost.or(marked).filter(",
        instead: r"        self.answer_lost.filter(|_| marked.is_none()).filter(",
        noticed_by: &["everfresh-domain", "everfresh-application", "everfresh-testkit"],
    },
    Mutation {
        what: "a lost rotation is told as a refusal",
        file: "crates/domain/src/grant.rs",
        text: r"            Some(_) => LoginEnd::RotationLost { code },",
        instead: r"            Some(_) => LoginEnd::Refused { code },",
        noticed_by: &["everfresh-domain", "everfresh-application"],
    },
    Mutation {
        what: "tokens that are not stored are refreshed again",
        file: "crates/domain/src/engine/grant.rs",
        text: r"self.enabled && self.misconfigured.is_none() && self.unreadable.is_none() && self.unsaved.is_none();",
        instead: r"self.enabled && self.misconfigured.is_none() && self.unreadable.is_none();",
        noticed_by: &["everfresh-domain", "everfresh-application", "everfresh-testkit"],
    },
    Mutation {
        what: "tokens that cannot be stored are dropped",
        file: "crates/application/src/attempt.rs",
        text: r"                self.vault.save_later(Some(stored), renewed);
",
        instead: r"",
        noticed_by: &["everfresh-application", "everfresh-testkit"],
    },
    Mutation {
        what: "a write that failed is not tried again",
        file: "crates/application/src/vault.rs",
        text: r#"                Err(error) => {
                    self.metrics.store_failed("replace");
                    tracing::error!(server = %grant, %error, "a new token is still not saved");
                }"#,
        instead: r#"                Err(error) => {
                    tracing::error!(server = %grant, %error, "a new token is still not saved");
                    return;
                }"#,
        noticed_by: &["everfresh-application", "everfresh-testkit"],
    },
    Mutation {
        what: "a logout begins no new generation",
        file: "crates/domain/src/grant.rs",
        text: r"            generation: self.generation.next(),
            tokens: None,",
        instead: r"            generation: self.generation,
            tokens: None,",
        noticed_by: &["everfresh-domain", "everfresh-application", "everfresh-testkit"],
    },
    Mutation {
        what: "the breaker never opens",
        file: "crates/domain/src/engine/endpoint.rs",
        text: r"self.breaker == Breaker::Closed && self.failures >= policy.breaker_threshold",
        instead: r"self.breaker == Breaker::Closed && self.failures == u32::MAX && policy.breaker_threshold > 0",
        noticed_by: &["everfresh-domain"],
    },
    Mutation {
        what: "a half-open breaker lets all through",
        file: "crates/domain/src/engine/endpoint.rs",
        text: r"            Breaker::HalfOpen { .. } => false,",
        instead: r"            Breaker::HalfOpen { .. } => true,",
        noticed_by: &["everfresh-domain"],
    },
    Mutation {
        what: "one endpoint takes all places",
        file: "crates/domain/src/engine/endpoint.rs",
        text: r"self.in_flight < policy.endpoint_concurrency",
        instead: r"self.in_flight < policy.concurrency",
        noticed_by: &["everfresh-domain"],
    },
    Mutation {
        what: "a resume is not spread",
        file: "crates/domain/src/engine/mod.rs",
        text: r"grant.resumed(now, policy.resume_spread);",
        instead: r"grant.resumed(now, std::time::Duration::ZERO);",
        noticed_by: &["everfresh-domain"],
    },
    Mutation {
        what: "a resume does not end a backoff",
        file: "crates/domain/src/engine/mod.rs",
        text: r"        if self.retry_at.is_some() || self.is_issued_in_the_future(now) {",
        instead: r"        if self.is_issued_in_the_future(now) {",
        noticed_by: &["everfresh-domain"],
    },
    Mutation {
        what: "a lifetime counts from the answer",
        file: "crates/application/src/attempt.rs",
        text: r"        let sent_at = self.clock.now();
        let answer = self.send(attempt, server, &marked).await;",
        instead: r"        let answer = self.send(attempt, server, &marked).await;
        let sent_at = self.clock.now();",
        noticed_by: &["everfresh-application"],
    },
    Mutation {
        what: "an empty refresh token is kept",
        file: "crates/infrastructure/src/oauth/parse.rs",
        text: r"    members.get(name)?.as_str().filter(|text| !text.is_empty())",
        instead: r"    members.get(name)?.as_str()",
        noticed_by: &["everfresh-infrastructure"],
    },
    Mutation {
        what: "a redirect is followed",
        file: "crates/infrastructure/src/http/mod.rs",
        text: r".redirect(reqwest::redirect::Policy::none())",
        instead: r".redirect(reqwest::redirect::Policy::limited(3))",
        noticed_by: &["everfresh-infrastructure"],
    },
    Mutation {
        what: "a 401 is passed to the client",
        file: "crates/presentation/src/proxy/mod.rs",
        text: r"        StatusCode::UNAUTHORIZED => true,",
        instead: r"        StatusCode::UNAUTHORIZED => false,",
        noticed_by: &["everfresh-presentation"],
    },
    Mutation {
        what: "a token that was just issued is refreshed for a second 401",
        file: "crates/domain/src/engine/mod.rs",
        text: r"            UpstreamVerdict::OnProbation(_) => self.upstream = UpstreamVerdict::RejectsFresh(generation),",
        instead: r"            UpstreamVerdict::OnProbation(_) => self.want(Trigger::Upstream),",
        noticed_by: &["everfresh-domain", "everfresh-application", "everfresh-presentation"],
    },
    Mutation {
        what: "a caller may cancel the attempt",
        file: "crates/application/src/driver.rs",
        text: r"                    self.under_way.spawn(report_on(Arc::clone(&self.attempts), attempt));",
        instead: r"                    let waited_for = self.waiters.contains_key(&attempt.grant);
                    let task = self.under_way.spawn(report_on(Arc::clone(&self.attempts), attempt));
                    if waited_for {
                        task.abort();
                    }",
        noticed_by: &["everfresh-application", "everfresh-presentation"],
    },
    Mutation {
        what: "the budget is never paid",
        file: "crates/domain/src/engine/attempts.rs",
        text: r"            if trigger.is_budgeted() {",
        instead: r"            if trigger.is_budgeted() && facts.tokens.is_none() {",
        noticed_by: &["everfresh-domain"],
    },
    Mutation {
        what: "what lies in the future is waited for",
        file: "crates/domain/src/engine/grant.rs",
        text: r"        facts.last_attempt_at = facts.last_attempt_at.map(|last| last.min(now));
",
        instead: r"",
        noticed_by: &["everfresh-domain"],
    },
    Mutation {
        what: "PKCE is left out",
        file: "crates/infrastructure/src/oauth/request.rs",
        text: r"        .set_pkce_challenge(PkceCodeChallenge::from_code_verifier_sha256(&verifier));",
        instead: r#"        .add_extra_param("verifier_length", verifier.secret().len().to_string());"#,
        noticed_by: &["everfresh-infrastructure"],
    },
    Mutation {
        what: "what is unreachable and expired is only degraded",
        file: "crates/domain/src/health.rs",
        text: r"    if working { Level::Degraded } else { Level::Unhealthy }",
        instead: r"    if working { Level::Degraded } else { Level::Degraded }",
        noticed_by: &["everfresh-domain"],
    },
    Mutation {
        what: "the clock is looked at once an hour",
        file: "crates/application/src/driver.rs",
        text: r"const LOOK_AT_CLOCK: Duration = Duration::from_secs(10);",
        instead: r"const LOOK_AT_CLOCK: Duration = Duration::from_secs(3_600);",
        noticed_by: &["everfresh-application"],
    },
    Mutation {
        what: "spacing is forgotten",
        file: "crates/domain/src/engine/grant.rs",
        text: r"        Some((spaced.into_iter().chain(affordable).fold(at, Timestamp::max), trigger))",
        instead: r"        Some((spaced.filter(|_| false).into_iter().chain(affordable).fold(at, Timestamp::max), trigger))",
        noticed_by: &["everfresh-domain", "everfresh-application"],
    },
    Mutation {
        what: "expiry by the monotonic clock",
        file: "crates/application/src/driver.rs",
        text: r"        let mut notes = Vec::new();
        let now = self.clock.now();",
        instead: r"        let mut notes = Vec::new();
        let now = Timestamp::from_millis(1_795_000_000_000).after(self.clock.monotonic());",
        noticed_by: &["everfresh-application"],
    },
    Mutation {
        what: "the gate lets each grant pass at any time",
        file: "crates/application/src/gate.rs",
        text: r"spaced.limiter.check_key(grant).map_err(|busy| held(busy.wait_time_from(self.clock.now())))",
        instead: r"{
            let _ = (spaced.limiter.check_key(grant), held(Duration::ZERO));
            Ok(())
        }",
        noticed_by: &["everfresh-application"],
    },
    Mutation {
        what: "the gate keeps the spacing it was made with",
        file: "crates/application/src/gate.rs",
        text: r"        if spaced.spacing != spacing {",
        instead: r"        if spaced.spacing != spacing && spacing.is_zero() {",
        noticed_by: &["everfresh-application"],
    },
    Mutation {
        what: "the gate fails what it should pace",
        file: "crates/application/src/gate.rs",
        text: r"const TURN_MAX: Duration = Duration::from_secs(1);",
        instead: r"const TURN_MAX: Duration = Duration::ZERO;",
        noticed_by: &["everfresh-application"],
    },
    Mutation {
        what: "strikes are forgotten at a restart",
        file: "crates/domain/src/grant.rs",
        text: r"            strikes: self.strikes,",
        instead: r"            strikes: self.strikes.filter(|_| self.attempt.is_some()),",
        noticed_by: &["everfresh-domain", "everfresh-application"],
    },
    Mutation {
        what: "our own limit is told as the provider's",
        file: "crates/domain/src/health.rs",
        text: r"Health::new(level, Reason::HeldBack, HealthAction::ViewLogs, summary)",
        instead: r"Health::new(level, Reason::RateLimited, HealthAction::ViewLogs, summary)",
        noticed_by: &["everfresh-domain"],
    },
    Mutation {
        what: "a login that ends unused is left alone",
        file: "crates/domain/src/schedule.rs",
        text: r"policy.keep_alive.into_iter().chain(kept_alive)",
        instead: r"policy.keep_alive.into_iter().chain(kept_alive.filter(Duration::is_zero))",
        noticed_by: &["everfresh-domain", "everfresh-application"],
    },
    Mutation {
        what: "the judge excuses what a process neglected",
        file: "crates/testkit/src/sim/judge.rs",
        text: r"(None | Some((_, Fate::InHand { .. } | Fate::Neglected)), _) | (Some(_), Window::Always) => false,",
        instead: r"(Some((_, Fate::InHand { .. } | Fate::Neglected)), _) => true,
            (None, _) | (Some(_), Window::Always) => false,",
        noticed_by: &["everfresh-testkit"],
    },
    Mutation {
        what: "the judge excuses a grace that was long enough",
        file: "crates/testkit/src/sim/judge.rs",
        text: r"calm(from, to) < ENOUGH;",
        instead: r"calm(from, to) < ENOUGH * 1_000;",
        noticed_by: &["everfresh-testkit"],
    },
];
