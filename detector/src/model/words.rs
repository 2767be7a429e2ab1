//! The words that are used in code, JSON, metrics, CLI and docs alike.
//!
//! **Invariant:** a thing has one name.

use std::fmt;

use serde::{Deserialize, Serialize};

macro_rules! words {
    ($(#[$doc:meta])* $name:ident { $($(#[$vdoc:meta])* $variant:ident = $word:literal,)* }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        pub enum $name {
            $($(#[$vdoc])* #[serde(rename = $word)] $variant,)*
        }

        impl $name {
            /// All of them, in the order in which they are shown.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)*];

            /// The word used in JSON, metrics, CLI and docs.
            pub const fn word(self) -> &'static str {
                match self { $(Self::$variant => $word,)* }
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(self.word())
            }
        }

        impl std::str::FromStr for $name {
            type Err = String;

            fn from_str(word: &str) -> Result<Self, String> {
                Self::ALL.iter().copied().find(|it| it.word() == word).ok_or_else(|| {
                    let words: Vec<_> = Self::ALL.iter().map(|it| it.word()).collect();
                    format!("expected one of {}", words.join(", "))
                })
            }
        }
    };
}

words! {
    /// How far a connection in trouble is.
    Phase {
        /// Outstanding data and two or more timeouts without progress.
        Suspect = "suspect",
        /// No progress for `stall_after` while progress was due.
        Stalled = "stalled",
    }
}

words! {
    /// Why a connection makes no progress.
    Cause {
        /// Nothing comes back.
        Blackhole = "blackhole",
        /// Only large segments vanish.
        Mtu = "mtu",
        /// Some progress, most of the time in timeouts.
        Loss = "loss",
        /// Data arrives, acknowledgements do not.
        ReturnPath = "return-path",
        /// Data arrives with a hole that never fills.
        ReceiveHole = "receive-hole",
        /// The peer does not read.
        ZeroWindow = "zero-window",
        /// The next hop does not answer ARP or neighbour discovery.
        Neighbour = "neighbour",
        /// Packets do not leave this host.
        Local = "local",
        /// None of the others fits.
        Unknown = "unknown",
    }
}

words! {
    /// What is said of an upstream.
    State {
        /// Destinations make progress.
        Ok = "ok",
        /// Surely abnormal, the smaller part of its destinations.
        Degraded = "degraded",
        /// Surely abnormal, the larger part of its destinations.
        Failing = "failing",
        /// Too little traffic to judge.
        Idle = "idle",
    }
}

words! {
    /// How far the trouble reaches.
    Scope {
        /// This upstream, while others do well or cannot be judged.
        Upstream = "upstream",
        /// Every judged upstream, of at least two, at once.
        Common = "common",
    }
}

words! {
    /// Whether failover programs should use an upstream.
    Gate {
        /// Use it.
        Open = "open",
        /// Avoid it.
        Closed = "closed",
    }
}

words! {
    /// What a hook is told of.
    Occasion {
        /// The upstream has another state.
        State = "state",
        /// Its gate has opened or closed.
        Gate = "gate",
    }
}

words! {
    /// How a hook has ended.
    HookOutcome {
        /// With exit code 0.
        Succeeded = "succeeded",
        /// With another one, by a signal, or it could not be started.
        Failed = "failed",
        /// It took too long and was ended.
        Timeout = "timeout",
    }
}

words! {
    /// Why a connection was looked at and not held against its upstream.
    Excluded {
        /// Nothing outstanding for a while; the last word was the peer's.
        Idle = "idle",
        /// Nothing outstanding for a while; an answer of the peer is awaited.
        Waiting = "waiting",
        /// Everything sent is acknowledged; the application has no more to send.
        AppLimited = "app-limited",
        /// The peer does not read.
        ZeroWindow = "zero-window",
        /// Its destination has cast its vote already, or is alone in its trouble.
        OneDestination = "one-destination",
        /// Its destination is stalled through upstreams that do well, too.
        Elsewhere = "elsewhere",
        /// It began to wait before the host was suspended.
        Suspended = "suspended",
        /// Nothing gets through to its network namespace, while others get through.
        Namespace = "namespace",
    }
}

words! {
    /// How a stall ended.
    Outcome {
        /// Data was acknowledged again.
        Recovered = "recovered",
        /// The connection ended.
        Closed = "closed",
        /// The connection was reset by `tcpstall kill`.
        Killed = "killed",
    }
}

words! {
    /// What became of a connection that was to be reset.
    Fate {
        /// It was reset.
        Reset = "reset",
        /// It makes progress again, and was left alone.
        Recovered = "recovered",
        /// It had ended already.
        Gone = "gone",
        /// It could not be reset, or must not be.
        Refused = "refused",
    }
}

words! {
    /// Reachability of a next hop on its link (`NUD_*`, `include/uapi/linux/neighbour.h`).
    Reachability {
        /// It answers, or is not known to have stopped.
        Answers = "answers",
        /// It has been asked and does not answer.
        Silent = "silent",
    }
}

words! {
    /// TCP states in which a connection past the handshake can be (`include/net/tcp_states.h`).
    TcpState {
        /// Both directions open.
        Established = "established",
        /// We closed, the peer has not acknowledged it.
        FinWait1 = "fin-wait-1",
        /// We closed, the peer acknowledged it.
        FinWait2 = "fin-wait-2",
        /// The peer closed.
        CloseWait = "close-wait",
        /// Both closed, our end is not acknowledged; the peer closed first.
        LastAck = "last-ack",
        /// Both closed at once.
        Closing = "closing",
        /// Any other state.
        Other = "other",
    }
}
