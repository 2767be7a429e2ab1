//! From judgements to incidents that are kept, shown and counted. Decides nothing.

use std::{path::Path, sync::Arc};

use serde_json::Value;
use tokio::sync::watch;

use super::{baselines, notice::Notice};
use crate::{
    clock,
    incident::{Kind, Marks, Seen, Tracker, marks::Subject},
    model::Input,
    sense::topology::{Moved, RouteChanges},
    serve::{self, Published, json, metrics::Metrics},
    state_dir::{Keeper, ROTATE_AT},
    time::Time,
};

/// What the daemon knows of incidents.
pub(super) struct Incidents {
    tracker: Tracker,
    marks: Marks,
    notice: Notice,
    /// Gone when the daemon ends.
    keeper: Option<Keeper>,
    shown: watch::Sender<serve::Incidents>,
}

impl Incidents {
    /// Goes on with what earlier runs have left in `folder`.
    pub(super) fn open(folder: &Path) -> (Self, watch::Receiver<serve::Incidents>) {
        let (keeper, past) = Keeper::open(folder, ROTATE_AT);
        let tracker = Tracker::resume(past);
        let (shown, receiver) = watch::channel(Arc::new(tracker.incidents()));
        let incidents = Self {
            tracker,
            marks: Marks::default(),
            notice: Notice::default(),
            keeper: Some(keeper),
            shown,
        };
        (incidents, receiver)
    }

    /// Something happened that may be of interest later.
    pub(super) fn notice(&mut self, now: Time, input: &Input) {
        if let Some((subject, what)) = self.notice.of(input) {
            tracing::debug!("{what}");
            self.marks.add(now, wall(), subject, what);
        }
    }

    /// Routes have changed.
    pub(super) fn routes(&mut self, now: Time, changes: RouteChanges) {
        for what in changes.told {
            tracing::debug!("{what}");
            self.marks.add(now, wall(), Subject::Route, what);
        }
        if changes.more > 0 {
            tracing::debug!(routes = changes.more, "more routes changed");
            self.marks
                .add_uncounted(now, wall(), Subject::Route, changes.more);
        }
    }

    /// Neighbours have moved to other hardware addresses.
    pub(super) fn moved(&mut self, now: Time, moved: &[Moved]) {
        for what in moved.iter().filter_map(|it| self.notice.of_move(it)) {
            tracing::debug!("{what}");
            self.marks.add(now, wall(), Subject::Neighbour, what);
        }
    }

    /// A judgement, before it is shown.
    pub(super) fn judged(&mut self, published: &Published, metrics: &Metrics) {
        let Published { snapshot, facts } = published;
        // Before the first walk nothing was judged.
        if snapshot.swept_at.is_none() {
            return;
        }
        self.notice.look(snapshot);
        let wall = json::to_millisecond(facts.wall);
        self.marks.count_untold(snapshot.at, wall);
        let lines = self.tracker.handle(&Seen {
            snapshot,
            wall,
            process: &|stall| facts.owners.get(&stall.sample.id)?.process.clone(),
            marks: &self.marks,
        });
        for line in lines.iter().filter(|it| it.record == Kind::Begin) {
            metrics.incident(&line.incident.upstream, line.incident.cause);
        }
        self.shown.send_replace(Arc::new(self.tracker.incidents()));
        if let Some(keeper) = &self.keeper {
            keeper.write(lines);
        }
    }

    /// Writes down what was learned of upstreams.
    pub(super) fn keep_learned(&self, learned: Value) {
        if let Some(keeper) = &self.keeper {
            keeper.replace(baselines::NAME, learned);
        }
    }

    /// The daemon ends: what is known is written down.
    pub(super) fn close(&mut self, learned: Option<Value>) {
        learned.into_iter().for_each(|it| self.keep_learned(it));
        if let Some(keeper) = self.keeper.take() {
            keeper.write(self.tracker.last_words());
            keeper.close();
        }
    }
}

fn wall() -> jiff::Timestamp {
    json::to_millisecond(clock::wall())
}
