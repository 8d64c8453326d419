//! Our agent, as a process of its own.

use super::farm::{Farm, binary};
use super::process::Process;
use super::wait::eventually;

/// A `greenroom worker`.
pub struct Agent {
    process: Process,
}

impl Farm {
    /// Starts our agent and waits until the master has it. Its password is `pw`.
    #[track_caller]
    pub fn agent(&self, name: &str) -> Agent {
        let agent = self.launch_agent(name, "pw");
        self.await_worker(name);
        agent
    }

    /// Starts our agent without waiting.
    #[track_caller]
    pub fn launch_agent(&self, name: &str, password: &str) -> Agent {
        self.launch_agent_at(name, password, self.port(), &[])
    }

    /// Starts our agent with further arguments, without waiting; `port` leads to the master.
    #[track_caller]
    pub fn launch_agent_at(&self, name: &str, password: &str, port: u16, more: &[&str]) -> Agent {
        let secret = self.path(&format!("{name}.password"));
        std::fs::write(&secret, password).expect("a password file");
        let dir = self.path(&format!("worker-{name}"));
        let mut command = binary();
        command.args(["worker", "--master", &format!("ws://127.0.0.1:{port}"), "--name", name]).args(more);
        command.arg("--password-file").arg(&secret).arg("--dir").arg(&dir);
        command.env("STORY_OF_GREENROOM", self.mark());
        let process = Process::start(&mut command, &self.path(&format!("{name}.log")));
        Agent { process }
    }

    /// Whether the master has this worker connected.
    pub fn is_connected(&self, name: &str) -> bool {
        let worker = self.rest().try_get(&format!("/api/v2/workers/{name}"));
        worker.is_ok_and(|it| {
            it.json()["workers"][0]["connected_to"].as_array().is_some_and(|masters| !masters.is_empty())
        })
    }

    /// Waits until the master has this worker.
    #[track_caller]
    pub fn await_worker(&self, name: &str) {
        eventually(&format!("worker {name} to be connected"), || self.is_connected(name).then_some(()));
    }

    /// Waits until the master has lost this worker.
    #[track_caller]
    pub fn await_loss(&self, name: &str) {
        eventually(&format!("worker {name} to be gone"), || (!self.is_connected(name)).then_some(()));
    }
}

impl Agent {
    /// Kills it as by power loss: what it runs is orphaned.
    pub fn kill(&mut self) {
        self.process.kill();
    }

    /// What it has said.
    pub fn log(&self) -> String {
        self.process.output()
    }
}
