//! What must hold whatever happens, by name.

use std::fmt;

/// A promise. The name of the one that was broken begins what is said of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Invariant {
    /// One request of a grant at a time.
    OneFlight,
    /// A refresh token is sent only after a mark that says so is durable.
    MarkedBeforeSent,
    /// Tokens are in use only once they are stored, or are known to be unsaved.
    StoredBeforePublished,
    /// A token that is not stored is never used to refresh again.
    StoredBeforeUsed,
    /// The generation of a record only grows.
    GenerationNeverFalls,
    /// Attempts of a grant are so far apart, start to start, in true time.
    SpacingKept,
    /// A refresh token that was refused is never sent again.
    RefusedNeverSent,
    /// After removal there is not one more request.
    NoAttemptAfterRemoval,
    /// A token goes to no other place than the one that was logged in to.
    NoTokenElsewhere,
    /// With the provider reachable, no access token ends before its successor is there.
    NoLapseInCalm,
    /// A refresh token leaves a record only with its login.
    RefreshTokenKept,
    /// What cannot be read is not taken for nothing, and not overwritten.
    UnreadableIsNotEmpty,
    /// What is shown is so.
    TruthShown,
    /// A login ends for the reason that is told, and for no other.
    EndedForCause,
    /// A login is lost only where no client could have kept it.
    KeptWherePossible,
    /// After the storm all is well again by itself.
    HealsByItself,
}

impl Invariant {
    /// What broke it, after its name.
    pub(crate) fn broken(self, what: impl fmt::Display) -> String {
        format!("{self}: {what}")
    }
}

impl fmt::Display for Invariant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::OneFlight => "one_flight",
            Self::MarkedBeforeSent => "marked_before_sent",
            Self::StoredBeforePublished => "stored_before_published",
            Self::StoredBeforeUsed => "stored_before_used",
            Self::GenerationNeverFalls => "generation_never_falls",
            Self::SpacingKept => "spacing_kept",
            Self::RefusedNeverSent => "refused_never_sent",
            Self::NoAttemptAfterRemoval => "no_attempt_after_removal",
            Self::NoTokenElsewhere => "no_token_elsewhere",
            Self::NoLapseInCalm => "no_lapse_in_calm",
            Self::RefreshTokenKept => "refresh_token_kept",
            Self::UnreadableIsNotEmpty => "unreadable_is_not_empty",
            Self::TruthShown => "truth_shown",
            Self::EndedForCause => "ended_for_cause",
            Self::KeptWherePossible => "kept_where_possible",
            Self::HealsByItself => "heals_by_itself",
        })
    }
}
