//! What the engine has learned of each upstream outlives a restart.

use std::{collections::BTreeMap, path::Path, time::Duration};

use serde_json::Value;

use crate::{
    engine::{Engine, baseline::Baseline},
    state_dir,
    time::Time,
};

/// Name of the document.
pub(super) const NAME: &str = "baselines.json";
/// Between two times that it is written.
const EVERY: Duration = Duration::from_secs(300);
/// Upstreams in it; of more, those that were watched for longest.
const KEPT: usize = 1000;

/// What was written last, and when.
#[derive(Debug, Default)]
pub(super) struct Baselines {
    written: BTreeMap<String, Baseline>,
    looked_at: Time,
}

impl Baselines {
    /// Lets the engine remember what an earlier run has learned.
    pub(super) fn load(folder: &Path, engine: &mut Engine, now: Time) -> Self {
        let (written, sentence) = state_dir::load::<BTreeMap<String, Baseline>>(folder, NAME);
        if let Some(sentence) = sentence {
            tracing::warn!("{sentence}");
        }
        engine.remember(written.clone());
        Self {
            written,
            looked_at: now,
        }
    }

    /// What is to be written by now, if anything.
    pub(super) fn due(&mut self, engine: &Engine, now: Time) -> Option<Value> {
        if now.since(self.looked_at) < EVERY {
            return None;
        }
        self.looked_at = now;
        self.news(engine)
    }

    /// What is to be written at the end.
    pub(super) fn news(&mut self, engine: &Engine) -> Option<Value> {
        let learned = longest(engine.learned());
        if learned == self.written {
            return None;
        }
        let document = serde_json::to_value(&learned).ok()?;
        self.written = learned;
        Some(document)
    }
}

/// Upstreams that come and go do not pile up.
fn longest(learned: BTreeMap<String, Baseline>) -> BTreeMap<String, Baseline> {
    if learned.len() <= KEPT {
        return learned;
    }
    let mut all: Vec<_> = learned.into_iter().collect();
    all.sort_by(|(_, a), (_, b)| b.seconds.total_cmp(&a.seconds));
    all.truncate(KEPT);
    all.into_iter().collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::Settings;

    const START: Time = Time(7_000_000_000);

    fn engine() -> Engine {
        let settings = Settings {
            stall_after: Duration::from_secs(3),
            ignore: Vec::new(),
            rules: Vec::new(),
        };
        Engine::new(settings, START)
    }

    fn learned(seconds: f64) -> Baseline {
        Baseline {
            stalled: 0.04,
            lost: 0.01,
            seconds,
            ..Baseline::default()
        }
    }

    #[test]
    fn what_was_learned_is_remembered_after_a_restart() {
        let folder = tempfile::tempdir().expect("a folder");
        let mut first = engine();
        let mut baselines = Baselines::load(folder.path(), &mut first, START);
        assert_eq!(baselines.news(&first), None, "nothing was learned");
        first.remember(BTreeMap::from([("a".to_owned(), learned(60.0))]));
        let soon = START.after(Duration::from_secs(299));
        assert_eq!(baselines.due(&first, soon), None);
        let later = START.after(EVERY);
        let document = baselines.due(&first, later).expect("it has changed");
        assert_eq!(baselines.due(&first, later.after(EVERY)), None, "no change");
        state_dir::replace(folder.path(), NAME, &document).expect("it can be written");
        let mut second = engine();
        Baselines::load(folder.path(), &mut second, START);
        assert_eq!(second.learned(), first.learned());
    }

    #[test]
    fn of_too_many_those_that_were_watched_for_longest_stay() {
        let mut engine = engine();
        let number = 0..KEPT + 50;
        let all = number.map(|it| (format!("u{it}"), learned(it as f64)));
        engine.remember(all.collect());
        let document = Baselines::default().news(&engine).expect("news");
        let kept = document.as_object().expect("an object");
        assert_eq!(kept.len(), KEPT);
        assert!(!kept.contains_key("u49") && kept.contains_key("u50"));
    }
}
