//! CPU and memory of processes, from /proc (proc(5)).

use std::time::Instant;

use anyhow::{Context as _, Result};

/// Clock ticks a second; Linux has shown user space 100 since 2.6.
const TICKS_A_SECOND: f64 = 100.0;

pub struct Usage {
    at: Instant,
    /// Name, pid, ticks so far.
    processes: Vec<(String, i32, u64)>,
}

impl Usage {
    pub fn begin(pids: Vec<(String, i32)>) -> Result<Self> {
        let processes = pids
            .into_iter()
            .map(|(name, pid)| Ok((name, pid, ticks(pid)?)))
            .collect::<Result<Vec<_>>>()?;
        Ok(Self { at: Instant::now(), processes })
    }

    /// What all of them took since `begin`, of one core.
    pub fn percent(&self) -> Result<f64> {
        let seconds = self.at.elapsed().as_secs_f64();
        let mut spent = 0.0;
        for (_, pid, before) in &self.processes {
            spent += ticks(*pid)?.saturating_sub(*before) as f64 / TICKS_A_SECOND;
        }
        Ok(100.0 * spent / seconds)
    }

    /// Prints what each process took since `begin`.
    pub fn print(&self, when: &str) -> Result<()> {
        let seconds = self.at.elapsed().as_secs_f64();
        for (name, pid, before) in &self.processes {
            let spent = (ticks(*pid)?.saturating_sub(*before)) as f64 / TICKS_A_SECOND;
            println!(
                "  {when} {name}: {:.1} % of a core, {} MiB resident",
                100.0 * spent / seconds,
                resident_mib(*pid)?
            );
        }
        Ok(())
    }
}

fn ticks(pid: i32) -> Result<u64> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"))?;
    // Fields are counted behind the command's closing parenthesis: utime is the 12th, stime the 13th.
    let rest = stat.rsplit_once(')').context("/proc/PID/stat")?.1;
    let fields: Vec<&str> = rest.split_whitespace().collect();
    let field = |n: usize| -> Result<u64> { Ok(fields.get(n).context("stat field")?.parse()?) };
    Ok(field(11)? + field(12)?)
}

pub fn resident_mib(pid: i32) -> Result<u64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find(|line| line.starts_with("VmRSS")).context("VmRSS")?;
    let kib: u64 = line.split_whitespace().nth(1).context("VmRSS value")?.parse()?;
    Ok(kib / 1024)
}
