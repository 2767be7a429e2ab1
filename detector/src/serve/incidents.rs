//! Which incidents are asked for, and how they are shown.
//!
//! **Invariant:** pure.

use std::sync::Arc;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::api;

/// All that are remembered, the newest first.
pub type Incidents = Arc<Vec<Arc<api::Incident>>>;

/// The query of `GET /v1/incidents`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Which {
    /// Only the one with this id.
    pub id: Option<String>,
    /// At most so many, the newest.
    pub limit: Option<usize>,
}

/// The answer to `GET /v1/incidents` at `now`, when that is known.
pub(crate) fn incidents(
    all: &Incidents,
    which: &Which,
    now: Option<Timestamp>,
) -> Vec<api::Incident> {
    all.iter()
        .filter(|it| which.id.as_ref().is_none_or(|id| *id == it.id))
        .take(which.limit.unwrap_or(usize::MAX))
        .map(|it| {
            let mut incident = api::Incident::clone(it);
            if let (None, Some(now)) = (incident.ended_at, now) {
                let lasted = now.duration_since(incident.started_at).as_secs_f64();
                incident.duration_seconds = (lasted * 1000.0).round().max(0.0) / 1000.0;
            }
            incident
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::{super::example, *};

    fn asked(which: &Which) -> Vec<api::Incident> {
        incidents(&example::incidents(), which, Some(example::facts().wall))
    }

    #[test]
    fn incidents_are_as_promised() {
        let newest = asked(&Which {
            limit: Some(1),
            ..Which::default()
        });
        insta::assert_snapshot!(serde_json::to_string_pretty(&newest).expect("JSON"));
    }

    #[test]
    fn those_that_are_asked_for_are_given() {
        let ids = |which: &Which| {
            let found = asked(which).into_iter();
            found.map(|it| it.id).collect::<Vec<_>>()
        };
        assert_eq!(ids(&Which::default()), ["i-6d37b4f1", "i-6d376001"]);
        for (id, expected) in [("i-6d376001", 1), ("i-00000000", 0)] {
            let which = Which {
                id: Some(id.to_owned()),
                limit: None,
            };
            assert_eq!(ids(&which).len(), expected, "{id}");
        }
    }

    #[test]
    fn only_what_lasts_grows_older() {
        let before: Vec<_> = example::incidents()
            .iter()
            .map(|it| it.duration_seconds)
            .collect();
        let now: Vec<_> = asked(&Which::default())
            .iter()
            .map(|it| it.duration_seconds)
            .collect();
        assert!(now[0] > before[0], "{now:?}");
        assert_eq!(now[1], before[1]);
        let unknown = incidents(&example::incidents(), &Which::default(), None);
        assert_eq!(unknown[0].duration_seconds, before[0]);
    }
}
