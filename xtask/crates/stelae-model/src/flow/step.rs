//! Steps, and their composition: `a.then(b)` compiles only when `b` needs what `a` gives.

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::Failure;

/// One step of a run.
pub trait Step {
    /// What it works in: the run's hands, which are not part of what steps give each other.
    type Context;
    /// What it needs: the `Gives` of the step before it.
    type Needs;
    /// What it gives. It is written into the run's folder after the step, and read back when a run is resumed; so it
    /// holds facts (paths, ports, digests), never handles.
    type Gives: Serialize + DeserializeOwned;

    /// Its name in plans, events and on the command line: `stage:install`.
    fn name(&self) -> String;

    /// Does the work.
    ///
    /// # Errors
    /// Whatever the step is there to find.
    fn perform(&self, context: &mut Self::Context, needs: Self::Needs) -> Result<Self::Gives, Failure>;
}

/// Why a flow ended before its end.
#[derive(Debug)]
pub enum Halt {
    /// The step named with `--until`, or a manual stage, is reached.
    Reached {
        /// The step after which the flow stopped.
        step: String,
        /// Why there.
        stop: super::Stop,
    },
    /// A step failed.
    Failed {
        /// The step.
        step: String,
        /// What it found.
        failure: Failure,
    },
}

/// What drives steps: knows budgets, records, resumes.
pub trait Engine<C> {
    /// Runs one step, or reads what it gave in an earlier session of the same run.
    ///
    /// # Errors
    /// The step's failure, or that the flow is to stop here.
    fn step<S: Step<Context = C>>(&mut self, step: &S, needs: S::Needs) -> Result<S::Gives, Halt>;
}

/// One step, or several in a fixed order.
///
/// ```compile_fail,E0271
/// use stelae_model::{Failure, flow::{Flow, Step}};
/// struct Count;
/// impl Step for Count {
///     type Context = ();
///     type Needs = String;
///     type Gives = u32;
///     fn name(&self) -> String { "count".into() }
///     fn perform(&self, _: &mut (), _: String) -> Result<u32, Failure> { Ok(0) }
/// }
/// Count.then(Count); // needs a `String`, and is given a `u32`
/// ```
pub trait Flow: Sized {
    /// What its steps work in.
    type Context;
    /// What the first step needs.
    type Needs;
    /// What the last step gives.
    type Gives;

    /// The names of the steps, in order.
    fn names(&self) -> Vec<String>;

    /// Runs the steps in order.
    ///
    /// # Errors
    /// The first halt.
    fn drive<E: Engine<Self::Context>>(
        &self,
        engine: &mut E,
        needs: Self::Needs,
    ) -> Result<Self::Gives, Halt>;

    /// Adds a step that needs what this flow gives.
    fn then<N: Flow<Context = Self::Context, Needs = Self::Gives>>(self, next: N) -> Then<Self, N> {
        Then { first: self, next }
    }
}

impl<S: Step> Flow for S {
    type Context = S::Context;
    type Needs = S::Needs;
    type Gives = S::Gives;

    fn names(&self) -> Vec<String> {
        vec![self.name()]
    }

    fn drive<E: Engine<Self::Context>>(
        &self,
        engine: &mut E,
        needs: Self::Needs,
    ) -> Result<Self::Gives, Halt> {
        engine.step(self, needs)
    }
}

/// Two flows, one after the other.
#[derive(Debug)]
pub struct Then<A, B> {
    first: A,
    next: B,
}

impl<A: Flow, B: Flow<Context = A::Context, Needs = A::Gives>> Flow for Then<A, B> {
    type Context = A::Context;
    type Needs = A::Needs;
    type Gives = B::Gives;

    fn names(&self) -> Vec<String> {
        let mut names = self.first.names();
        names.extend(self.next.names());
        names
    }

    fn drive<E: Engine<Self::Context>>(
        &self,
        engine: &mut E,
        needs: Self::Needs,
    ) -> Result<Self::Gives, Halt> {
        let between = self.first.drive(engine, needs)?;
        self.next.drive(engine, between)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ExitCode;

    struct Add(u32);

    impl Step for Add {
        type Context = Vec<String>;
        type Needs = u32;
        type Gives = u32;

        fn name(&self) -> String {
            format!("add:{}", self.0)
        }

        fn perform(&self, log: &mut Vec<String>, needs: u32) -> Result<u32, Failure> {
            log.push(self.name());
            if self.0 == 0 {
                return Err(Failure::new(ExitCode::StepFailed, "zero", "nothing to add"));
            }
            Ok(needs + self.0)
        }
    }

    struct Plain(Vec<String>);

    impl Engine<Vec<String>> for Plain {
        fn step<S: Step<Context = Vec<String>>>(
            &mut self,
            step: &S,
            needs: S::Needs,
        ) -> Result<S::Gives, Halt> {
            step.perform(&mut self.0, needs).map_err(|failure| Halt::Failed { step: step.name(), failure })
        }
    }

    #[test]
    fn steps_run_in_order_and_stop_at_the_first_failure() {
        let mut engine = Plain(Vec::new());
        assert_eq!(Add(1).then(Add(2)).then(Add(3)).drive(&mut engine, 10).unwrap(), 16);
        let flow = Add(1).then(Add(0)).then(Add(3));
        assert_eq!(flow.names(), ["add:1", "add:0", "add:3"]);
        let mut engine = Plain(Vec::new());
        assert!(matches!(flow.drive(&mut engine, 10), Err(Halt::Failed { step, .. }) if step == "add:0"));
        assert_eq!(engine.0, ["add:1", "add:0"]);
    }
}
