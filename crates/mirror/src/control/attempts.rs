//! Changes of destination topics that were not made: why, and when each is tried again. Pure.
//!
//! Always true: a topic that fails is tried less and less often, but at least every
//! [`RETRY_MAX`]; what is remembered is bounded by the changes that the plan calls for.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use kmirror_client::backoff::Backoff;
use tokio::time::Instant;

/// The longest time, give or take a fifth, in which a change that failed is not tried again.
const RETRY_MAX: Duration = Duration::from_secs(60);

/// Why a destination topic was not changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Failure {
    /// In words, with what to do about it where somebody has to.
    pub(crate) why: String,
    /// The same again until somebody changes something.
    pub(crate) is_final: bool,
}

impl Failure {
    /// One that may pass.
    pub(crate) fn passing(why: String) -> Failure {
        Failure { why, is_final: false }
    }
}

/// What failed, by destination topic.
#[derive(Debug, Default)]
pub(crate) struct Attempts {
    failed: BTreeMap<Arc<str>, Failed>,
}

#[derive(Debug)]
struct Failed {
    failure: Failure,
    backoff: Backoff,
    again_at: Instant,
}

impl Attempts {
    /// What came of the last attempt at this topic, if it failed.
    pub(crate) fn failure(&self, destination: &str) -> Option<&Failure> {
        self.failed.get(destination).map(|failed| &failed.failure)
    }

    /// Whether this topic may be tried now.
    pub(crate) fn is_due(&self, destination: &str, now: Instant) -> bool {
        self.failed.get(destination).is_none_or(|failed| failed.again_at <= now)
    }

    /// An attempt failed. `first` is the time to wait after the first failure.
    pub(crate) fn fail(
        &mut self,
        destination: &Arc<str>,
        failure: Failure,
        (now, first): (Instant, Duration),
    ) {
        let failed = self.failed.entry(Arc::clone(destination)).or_insert_with(|| Failed {
            failure: failure.clone(),
            backoff: Backoff::new(first, RETRY_MAX.max(first)),
            again_at: now,
        });
        failed.failure = failure;
        failed.again_at = now + failed.backoff.next_delay();
    }

    /// Forgets the topics that `is_wanted` denies: what had to be done to them shows, or nothing
    /// calls for it any more.
    pub(crate) fn retain(&mut self, is_wanted: impl Fn(&str) -> bool) {
        self.failed.retain(|destination, _| is_wanted(destination));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_fails_is_tried_less_and_less_often_and_never_given_up() {
        let mut attempts = Attempts::default();
        let name: Arc<str> = "a".into();
        let start = kmirror_client::clock::now();
        let mut now = start;
        assert!(attempts.is_due(&name, now));
        let mut tries = 0;
        while now < start + Duration::from_hours(1) {
            if attempts.is_due(&name, now) {
                let failure = Failure::passing(format!("try {tries}"));
                attempts.fail(&name, failure, (now, Duration::from_secs(5)));
                tries += 1;
                assert!(!attempts.is_due(&name, now));
            }
            now += Duration::from_secs(1);
        }
        assert!((50..=80).contains(&tries), "{tries} tries in an hour");
        assert_eq!(attempts.failure(&name).unwrap().why, format!("try {}", tries - 1));
    }

    #[test]
    fn topics_that_nothing_is_to_be_done_to_are_forgotten() {
        let mut attempts = Attempts::default();
        let now = kmirror_client::clock::now();
        for name in ["a", "b"] {
            let failure = Failure::passing("no".to_owned());
            attempts.fail(&name.into(), failure, (now, Duration::from_secs(5)));
        }
        attempts.retain(|name| name == "b");
        assert!(attempts.failure("a").is_none() && attempts.failure("b").is_some());
    }
}
