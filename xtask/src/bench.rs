//! Benches: built with all optimisation, measured by a program of the end-to-end package.

use crate::ci;
use crate::run::{Result, cargo, root, run, say};

/// Runs the benches, or only the one called `name`.
pub(crate) fn bench(name: Option<&str>) -> Result {
    let known = ["start", "recovery", "proxy", "sim"];
    if let Some(name) = name.filter(|name| !known.contains(name)) {
        return Err(format!("there is no bench {name:?}; there are {}", known.join(", ")));
    }
    if name != Some("sim") {
        run(cargo().args(["build", "--release", "--package", "everfresh"]))?;
        let binary = root().join("target/release").join(format!("everfresh{}", std::env::consts::EXE_SUFFIX));
        let mut bench = cargo();
        bench.args(["run", "--quiet", "--release", "--package", "everfresh-e2e", "--bin", "bench", "--"]).args(name);
        run(bench.env("EVERFRESH_BIN", binary))?;
    }
    if name.is_none_or(|name| name == "sim") {
        say("simulated years of the engine:");
        ci::sim(&ci::SIM)?;
    }
    Ok(())
}
