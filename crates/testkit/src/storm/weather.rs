//! What happens in a storm, and how often: drawn from the seed, and nothing else.

use std::time::Duration;

use everfresh_domain::Timestamp;
use rand::RngExt;
use rand::rngs::SmallRng;

use crate::provider::{Fault, RefreshTokenShape, http_date};

/// How long between two happenings, on average.
const CALM: Duration = Duration::from_secs(6 * 3_600);

/// Something that happens. Grants and providers are numbers.
#[derive(Clone, Debug)]
pub(super) enum Happening {
    /// Something around the process.
    Around(Around),
    /// The process dies at once, and starts again later.
    Crash(Duration),
    /// The process dies at one of its next awaits or writes, and starts again later.
    CrashSoon { boundaries: u64, pause: Duration },
    /// The process ends as it should, and another one takes over.
    Handover(Duration),
    /// Somebody logs out, perhaps in the middle of a refresh, and in again.
    Relogin { grant: usize, while_refreshing: bool },
    /// A server is removed, perhaps in the middle of a refresh, and added again later.
    Remove { grant: usize, while_refreshing: bool, time: Duration },
    /// A server is switched off, and on again later.
    Disable { grant: usize, time: Duration },
    /// Somebody edits the rules' numbers.
    Policy { threshold: f64, spacing: Duration },
    /// Somebody edits the file's entry of a server.
    Edit { grant: usize, edit: Edit },
    /// Clients ask at once, and some go away before they are answered.
    Requests { grant: usize },
    /// The upstream refuses tokens that are not over.
    TokensKilled { grant: usize },
    /// A person asks for a refresh.
    Refresh { grant: usize },
}

/// What happens to the process from outside.
#[derive(Clone, Debug)]
pub(super) enum Around {
    /// The network is away.
    Network(Duration),
    /// One provider's token endpoint does something else.
    Outage { provider: usize, time: Duration, fault: Fault },
    /// The machine sleeps.
    Sleep(Duration),
    /// The wall clock is set, by so many milliseconds.
    Clock(i64),
    /// The disk is full.
    DiskFull(Duration),
    /// The disk is slow.
    DiskSlow(Duration),
    /// A record cannot be read.
    Unreadable { grant: usize, time: Duration },
    /// Every other read fails.
    ReadErrors(Duration),
    /// A provider forgets all its clients.
    Purge { provider: usize },
    /// A provider answers without a new refresh token.
    Omits { provider: usize, time: Duration, shape: RefreshTokenShape },
    /// A provider's metadata name another token endpoint than before; the old one works on.
    Metadata { provider: usize },
}

/// An edit of a server in the configuration file.
#[derive(Clone, Copy, Debug)]
pub(super) enum Edit {
    /// It moves to another origin, and back later.
    Elsewhere(Duration),
    /// Another path of the same origin.
    Path,
    /// Another header.
    Header,
    /// Other scopes.
    Scopes,
}

pub(super) fn wait(random: &mut SmallRng) -> Duration {
    CALM.mul_f64(random.random_range(0.01..2.0))
}

/// Short times are as likely as long ones.
pub(super) fn between(random: &mut SmallRng, from_s: u64, to_s: u64) -> Duration {
    let (from, to) = ((from_s as f64).ln(), (to_s as f64).ln());
    Duration::from_secs_f64(random.random_range(from..to).exp())
}

pub(super) fn strike(random: &mut SmallRng, now: Timestamp, providers: usize, grants: usize) -> Happening {
    let (provider, grant) = (random.random_range(0..providers), random.random_range(0..grants));
    let while_refreshing = random.random_range(0..2) == 0;
    match random.random_range(0..118) {
        0..12 => Happening::Around(Around::Network(between(random, 5, 12 * 3_600))),
        12..30 => Happening::Around(Around::Outage {
            provider,
            time: between(random, 30, 24 * 3_600),
            fault: fault(random, now),
        }),
        30..34 => Happening::Crash(between(random, 1, 2 * 24 * 3_600)),
        34..48 => {
            let boundaries = random.random_range(1..200);
            Happening::CrashSoon { boundaries, pause: between(random, 1, 3_600) }
        }
        48..51 => Happening::Handover(between(random, 1, 24 * 3_600)),
        51..62 => Happening::Around(Around::Sleep(between(random, 60, 3 * 24 * 3_600))),
        62..66 => {
            let ms = i64::try_from(between(random, 1, 2 * 3_600).as_millis()).unwrap_or(i64::MAX);
            Happening::Around(Around::Clock(if while_refreshing { ms } else { -ms }))
        }
        66..71 => Happening::Around(Around::DiskFull(between(random, 5, 3_600))),
        71..74 => Happening::Around(Around::DiskSlow(between(random, 60, 3_600))),
        74..79 => Happening::Relogin { grant, while_refreshing },
        79..82 => Happening::Remove { grant, while_refreshing, time: between(random, 60, 24 * 3_600) },
        82..86 => Happening::Disable { grant, time: between(random, 60, 24 * 3_600) },
        86..88 => {
            let spacing = Duration::from_secs([10, 10, 5, 30][random.random_range(0..4)]);
            Happening::Policy { threshold: random.random_range(0.6..0.9), spacing }
        }
        88..93 => Happening::Requests { grant },
        93..97 => Happening::TokensKilled { grant },
        97..100 => Happening::Refresh { grant },
        100..107 => Happening::Edit { grant, edit: edit(random) },
        107..109 => Happening::Around(Around::Unreadable { grant, time: between(random, 60, 24 * 3_600) }),
        109..111 => Happening::Around(Around::ReadErrors(between(random, 5, 3_600))),
        111 => Happening::Around(Around::Purge { provider }),
        112..116 => {
            let shapes = [RefreshTokenShape::Omitted, RefreshTokenShape::Null, RefreshTokenShape::Empty];
            let shape = shapes[random.random_range(0..shapes.len())];
            Happening::Around(Around::Omits { provider, time: between(random, 3_600, 3 * 24 * 3_600), shape })
        }
        _ => Happening::Around(Around::Metadata { provider }),
    }
}

fn edit(random: &mut SmallRng) -> Edit {
    match random.random_range(0..5) {
        0 | 1 => Edit::Elsewhere(between(random, 60, 24 * 3_600)),
        2 => Edit::Path,
        3 => Edit::Header,
        _ => Edit::Scopes,
    }
}

/// One of the ways in which a token endpoint fails without saying anything about a token.
fn fault(random: &mut SmallRng, now: Timestamp) -> Fault {
    let pause = random.random_range(1..1_800_u64);
    let status = |status, body: &str, retry_after| Fault::Status { status, body: body.to_owned(), retry_after };
    match random.random_range(0..13) {
        0 => status(500, "", None),
        1 => status(503, "<html>down</html>", Some(pause.to_string())),
        2 => status(429, "", Some(pause.to_string())),
        // One far ahead is cut to an hour.
        3 => status(429, "", Some("Fri, 01 Jan 2100 00:00:00 GMT".to_owned())),
        4 => status(403, "<html>blocked</html>", None),
        5 => Fault::Error { status: 503, error: "temporarily_unavailable".to_owned() },
        6 => Fault::Html,
        7 => Fault::Portal,
        8 => Fault::Hang,
        9 => Fault::CloseBefore,
        10 => status(503, "", Some(http_date(now.after(Duration::from_secs(pause))))),
        // It was over when it was said: no pause at all.
        11 => status(429, "", Some(http_date(now.before(Duration::from_secs(pause))))),
        _ => Fault::WrongTypes,
    }
}
