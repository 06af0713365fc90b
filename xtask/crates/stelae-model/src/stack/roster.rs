//! Who of a stack is started, who is ready, and who needs whom: what a start does next, as a value.

use std::collections::BTreeSet;

use super::Planned;

/// How one process of the stack stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stands {
    /// It waits for what it needs.
    Waiting,
    /// It was started, for the first time or again.
    Starting,
    /// It is ready.
    Ready,
}

/// One that needs, directly or not, somebody who failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dependant {
    /// Its name.
    pub name: String,
    /// Whom it needs: the failed one, or another dependant.
    pub needs: String,
    /// How it stood at that moment.
    pub stood: Stands,
}

/// The processes of a stack, in the order of their start.
#[derive(Clone, Debug)]
pub struct Roster {
    all: Vec<(Planned, Stands)>,
}

impl Roster {
    /// Nobody is started yet.
    pub fn new(plan: Vec<Planned>) -> Self {
        Self { all: plan.into_iter().map(|planned| (planned, Stands::Waiting)).collect() }
    }

    /// Everyone who is ready, each after everything that it needs.
    pub fn ready(&self) -> impl Iterator<Item = &str> {
        self.all.iter().filter(|(_, stands)| *stands == Stands::Ready).map(|(it, _)| it.name.as_str())
    }

    /// Everyone who waits for nothing any more; from now on they are being started.
    pub fn start_next(&mut self) -> Vec<String> {
        let ready: BTreeSet<String> = self.ready().map(str::to_owned).collect();
        let may_start = |it: &Planned| it.needs.iter().all(|need| ready.contains(need));
        let next = self.all.iter_mut().filter(|(it, stands)| *stands == Stands::Waiting && may_start(it));
        next.map(|(it, stands)| {
            *stands = Stands::Starting;
            it.name.clone()
        })
        .collect()
    }

    /// It is ready, or it is being started again.
    pub fn note(&mut self, name: &str, now: Stands) {
        if let Some((_, stands)) = self.all.iter_mut().find(|(it, _)| it.name == name) {
            *stands = now;
        }
    }

    /// Whether the stack is ready, as far as its processes are.
    pub fn all_ready(&self) -> bool {
        self.all.iter().all(|(_, stands)| *stands == Stands::Ready)
    }

    /// Everyone who cannot do without `failed`, nearest first.
    pub fn needing(&self, failed: &str) -> Vec<Dependant> {
        let mut lost = vec![failed.to_owned()];
        let mut dependants = Vec::new();
        // The order of the plan has everybody after what it needs, so one pass finds them all.
        for (it, stood) in &self.all {
            let Some(needs) = lost.iter().find(|name| it.needs.contains(*name)).cloned() else { continue };
            lost.push(it.name.clone());
            dependants.push(Dependant { name: it.name.clone(), needs, stood: *stood });
        }
        dependants
    }
}

impl Dependant {
    /// What became of it, as a sentence. `what` says what happened to the one who failed: `ended with exit status 1`.
    pub fn told(&self, failed: &str, what: &str) -> String {
        let Self { name, needs, stood } = self;
        let which = if needs == failed { what.to_owned() } else { format!("cannot do without {failed}") };
        match stood {
            Stands::Waiting => format!("{name} was not started: it needs {needs}, which {which}"),
            Stands::Starting => {
                format!("{name} was given up while it started: it needs {needs}, which {which}")
            }
            Stands::Ready => format!("{name} needs {needs}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn roster(plan: &[(&str, &[&str])]) -> Roster {
        let planned = plan.iter().map(|(name, needs)| Planned {
            name: (*name).to_owned(),
            needs: needs.iter().map(|&need| need.to_owned()).collect(),
        });
        Roster::new(planned.collect())
    }

    #[test]
    fn what_needs_nothing_starts_at_once_and_the_rest_as_soon_as_it_can() {
        let mut roster = roster(&[("a", &[]), ("b", &[]), ("c", &["a"]), ("gateway", &["b", "c"])]);
        assert_eq!(roster.start_next(), ["a", "b"]);
        assert!(roster.start_next().is_empty());
        roster.note("a", Stands::Ready);
        assert_eq!(roster.start_next(), ["c"]);
        roster.note("c", Stands::Ready);
        assert_eq!(roster.ready().collect::<Vec<_>>(), ["a", "c"]);
        assert!(roster.start_next().is_empty());
        roster.note("b", Stands::Ready);
        assert_eq!(roster.start_next(), ["gateway"]);
        assert!(!roster.all_ready());
        roster.note("gateway", Stands::Ready);
        assert!(roster.all_ready());
        roster.note("a", Stands::Starting);
        assert!(!roster.all_ready() && roster.start_next().is_empty());
    }

    #[test]
    fn everyone_who_needs_a_failed_one_is_told_why() {
        let mut roster =
            roster(&[("a", &[]), ("o", &[]), ("b", &["a"]), ("c", &["b"]), ("gateway", &["o", "c"])]);
        roster.start_next();
        let told = |roster: &Roster| {
            let needing = roster.needing("a");
            needing.iter().map(|one| one.told("a", "ended with exit status 1")).collect::<Vec<_>>()
        };
        assert_eq!(
            told(&roster),
            [
                "b was not started: it needs a, which ended with exit status 1",
                "c was not started: it needs b, which cannot do without a",
                "gateway was not started: it needs c, which cannot do without a",
            ]
        );
        roster.note("a", Stands::Ready);
        roster.start_next();
        assert_eq!(
            told(&roster)[0],
            "b was given up while it started: it needs a, which ended with exit status 1"
        );
        roster.note("b", Stands::Ready);
        assert_eq!(told(&roster)[0], "b needs a");
        assert!(roster.needing("gateway").is_empty());
    }
}
