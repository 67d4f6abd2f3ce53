//! What behaviour over a window says.

use serde::{Deserialize, Serialize};

/// Worst last: the verdict over several things is their maximum.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// Fresh.
    Ok,
    /// Behind, and the lag shrinks.
    CatchingUp,
    /// Behind, and the lag does not shrink.
    FallingBehind,
    /// There is something to do and nothing moves.
    Stalled,
    /// Stopped or paused.
    Stopped,
    /// Its position went backwards.
    Rewound,
    /// Something that has to be known is not.
    #[default]
    Unknown,
    /// Verify found a difference: what is shown is wrong, however fresh it is. Only of the whole.
    Different,
}

impl Verdict {
    /// All of them, best first.
    pub const ALL: [Verdict; 8] = [
        Verdict::Ok,
        Verdict::CatchingUp,
        Verdict::FallingBehind,
        Verdict::Stalled,
        Verdict::Stopped,
        Verdict::Rewound,
        Verdict::Unknown,
        Verdict::Different,
    ];

    /// As in JSON.
    pub fn name(self) -> &'static str {
        match self {
            Verdict::Ok => "ok",
            Verdict::CatchingUp => "catching_up",
            Verdict::FallingBehind => "falling_behind",
            Verdict::Stalled => "stalled",
            Verdict::Stopped => "stopped",
            Verdict::Rewound => "rewound",
            Verdict::Unknown => "unknown",
            Verdict::Different => "different",
        }
    }

    /// For a sentence.
    pub fn words(self) -> &'static str {
        match self {
            Verdict::Ok => "fresh",
            Verdict::CatchingUp => "catching up",
            Verdict::FallingBehind => "falling behind",
            Verdict::Stalled => "stalled",
            Verdict::Stopped => "stopped",
            Verdict::Rewound => "rewound",
            Verdict::Unknown => "unknown",
            Verdict::Different => "different",
        }
    }
}
