//! Runs in which something happens at a moment that is said, and what was sent when.

use super::*;

/// What happens, to whom.
pub enum Step {
    /// An agent is killed, and stays away.
    Kill(usize),
    /// An agent is told to go, and stays away.
    Leave(usize),
    /// The user drains an agent.
    Drained(usize),
    /// An agent's round trips take so many times as long from now on.
    Slow(usize, u32),
    CrashCoordinator,
    Ask(Change),
}

/// What was sent when, and by whom.
#[derive(Default)]
pub struct Timeline {
    pub sends: Vec<(Duration, usize, Target)>,
    /// When agents started.
    pub started: Vec<(Duration, usize)>,
    /// When the coordinator was started again.
    pub coordinator_started: Vec<Duration>,
    pub finished: Option<Duration>,
}

impl Timeline {
    /// When somebody sent first from a moment on.
    pub fn first_from(&self, from: Duration, of: impl Fn(usize, Target) -> bool) -> Option<Duration> {
        self.sends.iter().find(|(at, agent, target)| *at >= from && of(*agent, *target)).map(|(at, ..)| *at)
    }

    /// How much was sent in a time.
    pub fn sent_in(&self, from: Duration, to: Duration, of: impl Fn(usize, Target) -> bool) -> usize {
        self.sends.iter().filter(|(at, agent, target)| (from..to).contains(at) && of(*agent, *target)).count()
    }
}

/// Runs a scene until its scan ends.
pub fn run_script(scene: Scene, seed: u64, faults: Faults, steps: Vec<(Duration, Step)>) -> Result<Timeline, String> {
    let mut world = World::new(scene, Random::new(seed), seed, faults, None)?;
    world.timeline = Some(Timeline::default());
    for (at, step) in steps {
        world.after(at, Happening::Scripted(step));
    }
    while let Some(((at, _), happening)) = world.queue.pop_first() {
        world.now = at;
        if at > Time::ZERO + END {
            return Err("O6: the scan did not finish".into());
        }
        world.happen(happening);
        if let Some(broken) = world.broken.take() {
            return Err(broken);
        }
        if world.finished.is_some() {
            let finished = Some(world.since_start());
            return Ok(Timeline { finished, ..world.timeline.take().unwrap_or_default() });
        }
    }
    Err("O6: nothing more happens, and the scan is not finished".into())
}

impl World {
    pub(super) fn since_start(&self) -> Duration {
        self.now.since(Time::ZERO)
    }

    pub(super) fn scripted(&mut self, step: Step) {
        match step {
            Step::Kill(agent) => {
                self.agents[agent].stays_away = true;
                self.crash_agent(agent);
            }
            Step::Leave(agent) => {
                self.agents[agent].stays_away = true;
                self.drain_out(agent);
            }
            Step::Drained(agent) => self.set_drained(agent, true),
            Step::Slow(agent, factor) => self.agents[agent].slowness = factor,
            Step::CrashCoordinator => self.crash_coordinator(),
            Step::Ask(change) => self.ask(change),
        }
    }

    pub(super) fn record_send(&mut self, agent: usize, target: Target) {
        let at = self.since_start();
        if let Some(timeline) = &mut self.timeline {
            timeline.sends.push((at, agent, target));
        }
    }
}
