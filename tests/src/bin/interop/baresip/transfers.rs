//! Customers whom baresip sends on to a colleague.

use anyhow::{Context as _, Result, ensure};
use serde_json::json;
use tandem_tests::phone::Ended;

use super::{Desk, TONE_HZ};
use crate::listen::{COLLEAGUE_HZ, CUSTOMER_HZ, WITHIN, hears, hears_music_instead_of};
use crate::tenant::queue_of;

impl Desk<'_> {
    /// A customer of the queue, at once.
    pub(super) async fn transfers(&mut self) -> Result<()> {
        let (call, _) = self.serves(&queue_of(self.agent)).await?;
        self.baresip.tell("transfer", &self.colleague.user).await?;
        let asked = self.colleague.called(WITHIN).await?;
        self.baresip.until("CALL_CLOSED").await?;
        self.has_gone_over(&call, &asked, "blind").await
    }

    /// A customer who has dialled the agent, after asking.
    ///
    /// Debian 12's baresip (1.0.0) holds and dials, but has no command for the rest; its `transfer` sends
    /// whatever URI it is given in a REFER of its own, so it is given the one that names its second
    /// dialog (RFC 3891 §5).
    pub(super) async fn asks_and_transfers(&mut self) -> Result<()> {
        let (call, first) = self.serves(self.agent).await?;
        self.baresip.tell("hold", "").await?;
        self.house.agent_is(self.agent, "held").await?;
        hears_music_instead_of(&self.customer, &call, TONE_HZ).await?;
        self.baresip.tell("dial", &self.colleague.user).await?;
        let asked = self.colleague.called(WITHIN).await?;
        let second = self.baresip.until("CALL_ESTABLISHED").await?;
        hears(&self.colleague, &asked, TONE_HZ).await?;
        let escaped = self.baresip.dialog(&second)?;
        let escaped = escaped.replace('@', "%40").replace(';', "%3B").replace('=', "%3D");
        let server = self.house.vips[0];
        let to = format!("<sip:{}@{server}?Replaces={escaped}>", self.colleague.user);
        self.baresip.tell("callfind", &first).await?;
        self.baresip.tell("transfer", &to).await?;
        for _ in ["the customer's", "the colleague's"] {
            self.baresip.until("CALL_CLOSED").await?;
        }
        self.has_gone_over(&call, &asked, "attended").await
    }

    /// Customer and colleague hear each other, the agent is free, and the record says how it came.
    async fn has_gone_over(&mut self, call: &str, asked: &str, kind: &str) -> Result<()> {
        hears(&self.customer, call, COLLEAGUE_HZ).await?;
        hears(&self.colleague, asked, CUSTOMER_HZ).await?;
        self.house.agent_is(self.agent, "ready").await?;
        self.house.agent_is(&self.colleague.user, "talking").await?;
        ensure!(self.customer.hang_up(call).await? == 200, "our BYE is not answered 200");
        ensure!(self.colleague.ended(asked, WITHIN).await? == Ended::ByPeer);
        self.house.agent_is(&self.colleague.user, "ready").await?;
        let cdr = self.house.cdr(call).await?;
        let moves = cdr["transfers"].as_array().context("the record has no transfers")?;
        let moves: Vec<_> =
            moves.iter().map(|it| [&it["agent"], &it["to"], &it["kind"], &it["outcome"]]).collect();
        let wanted = json!([[self.agent, self.colleague.user, kind, "went_over"]]);
        ensure!(json!(moves) == wanted, "the record says {moves:?}");
        for phone in [&self.customer, &self.colleague] {
            let violations = phone.violations();
            ensure!(violations.is_empty(), "{}: {violations:?}", phone.user);
        }
        Ok(())
    }
}
