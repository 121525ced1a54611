//! Steps of the engine in any order, at any times: none of them may break it.
#![no_main]

use everfresh_domain::Engine;
use everfresh_domain::engine::trace::TraceLine;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    let mut engine = None;
    for line in text.lines() {
        match serde_json::from_str::<TraceLine>(line) {
            Ok(TraceLine::Began { at, run, policy }) if policy.validate().is_ok() => {
                engine = Some(Engine::new(at, run, *policy));
            }
            Ok(TraceLine::Told { at, event, actions: _ }) => {
                let Some(engine) = &mut engine else { continue };
                drop(engine.handle(at, *event));
                drop(engine.next_wake());
                let grants: Vec<_> = engine.grants().cloned().collect();
                for grant in grants {
                    let status = engine.status(&grant, at).expect("it is known");
                    drop(status.health(at, engine.policy()));
                }
            }
            Ok(TraceLine::Began { .. }) | Err(_) => {}
        }
    }
});
