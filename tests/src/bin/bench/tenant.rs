//! The tenant that a benchmark is measured on: one queue, and as many agents as it needs.

use std::fmt::Write as _;

use anyhow::Result;

pub struct Tenant<'a> {
    pub agents: &'a [String],
    pub channels: usize,
    pub record: bool,
    pub acw_ms: u32,
}

impl Tenant<'_> {
    /// Its configuration file; 4001 is the queue.
    pub fn config(&self) -> Result<String> {
        let Self { agents, channels, record, acw_ms } = self;
        let mut text = String::from("[tenant]\nname = \"demo\"\nrealm = \"demo.tandem\"\n");
        writeln!(text, "acw_ms = {acw_ms}\n")?;
        writeln!(text, "[[trunk]]\nname = \"carrier\"\nchannels = {channels}\n")?;
        let names = agents.iter().map(|user| format!("\"{user}\"")).collect::<Vec<_>>().join(", ");
        writeln!(text, "[[queue]]\nname = \"support\"\nrecord = {record}\nagents = [{names}]\n")?;
        text.push_str("[[number]]\ndigits = \"4001\"\nqueue = \"support\"\n\n");
        for user in *agents {
            writeln!(text, "[[agent]]\nid = \"{user}\"\npassword = \"tandem-{user}\"\n")?;
        }
        Ok(text)
    }

    /// The same, and 4003 is the echo.
    pub fn config_with_echo(&self) -> Result<String> {
        Ok(self.config()? + "[[number]]\ndigits = \"4003\"\necho = true\n")
    }
}
