//! Incidents of the made-up host: one that lasts and one that has ended.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use jiff::Timestamp;

use super::{destination, facts};
use crate::{
    api::{Change, Incident, Mark, Point, StuckDestination, StuckProcess},
    model::{Cause, Scope, State},
    serve::Incidents,
};

fn ago(seconds: u64) -> Timestamp {
    let now = facts().wall - Duration::from_secs(seconds);
    super::super::json::to_millisecond(now)
}

fn point(at: Timestamp, stalled: u32, of: u32) -> Point {
    Point {
        at,
        stalled_connections: stalled * 7 / 4,
        suspect_connections: stalled / 4,
        stalled_destinations: stalled,
        active_destinations: of,
    }
}

/// It lasts.
fn open() -> Incident {
    Incident {
        id: "i-6d37b4f1".to_owned(),
        upstream: "provider-b".to_owned(),
        state: State::Failing,
        scope: Some(Scope::Upstream),
        cause: Some(Cause::Mtu),
        started_at: ago(12),
        ended_at: None,
        duration_seconds: 11.5,
        relapses: 0,
        peak_stalled_connections: 54,
        peak_stalled_destinations: 31,
        peak_outstanding_bytes: 812_344,
        note: None,
        causes: BTreeMap::from([(Cause::Mtu, 54), (Cause::Blackhole, 40)]),
        timeline: vec![
            point(ago(12), 9, 30),
            point(ago(11), 20, 31),
            point(ago(10), 31, 34),
            point(ago(4), 27, 34),
            point(ago(1), 31, 34),
        ],
        changes: vec![
            Change {
                at: ago(12),
                state: State::Degraded,
                scope: Some(Scope::Upstream),
                cause: Some(Cause::Blackhole),
            },
            Change {
                at: ago(9),
                state: State::Failing,
                scope: Some(Scope::Upstream),
                cause: Some(Cause::Mtu),
            },
        ],
        destinations: vec![
            StuckDestination {
                destination: destination("198.51.4.0/24"),
                stuck_connections: 7,
            },
            StuckDestination {
                destination: destination("2001:db8:7::/48"),
                stuck_connections: 1,
            },
        ],
        processes: vec![StuckProcess {
            process: "smt\x1b[2Jpd".to_owned(),
            stuck_connections: 48,
        }],
        marks: vec![Mark {
            at: ago(13),
            what: "default route via 203.0.113.1 on wan2 removed".to_owned(),
        }],
        marks_omitted: 0,
    }
}

/// It has ended, and came back twice before that.
fn ended() -> Incident {
    Incident {
        id: "i-6d376001".to_owned(),
        state: State::Degraded,
        scope: Some(Scope::Common),
        cause: Some(Cause::Loss),
        started_at: ago(7200),
        ended_at: Some(ago(7000)),
        duration_seconds: 200.0,
        relapses: 2,
        note: Some("the daemon was away when it ended".to_owned()),
        timeline: vec![
            point(ago(7200), 9, 30),
            point(ago(7150), 12, 30),
            point(ago(7130), 0, 28),
            point(ago(7100), 31, 34),
            point(ago(7040), 2, 34),
        ],
        changes: vec![Change {
            at: ago(7200),
            state: State::Degraded,
            scope: Some(Scope::Common),
            cause: Some(Cause::Loss),
        }],
        processes: Vec::new(),
        marks: vec![Mark {
            at: ago(7199),
            what: "link wan1 went down".to_owned(),
        }],
        marks_omitted: 12,
        ..open()
    }
}

/// All that are remembered.
pub(crate) fn incidents() -> Incidents {
    Arc::new(vec![Arc::new(open()), Arc::new(ended())])
}
