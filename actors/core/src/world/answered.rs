//! The memory of answered commands: bounded in time and number.

use tandem_sip::Millis;

use super::{Rejection, Reply, World};
use crate::answered::{Answered, Outcome};
use crate::command::Keyed;
use crate::ids::EntityId;
use crate::limits;
use crate::query;
use crate::rows::{self, RowChange};

impl World {
    /// A key that has an answer counts no more.
    pub(super) fn check_key(&self, keyed: &Keyed, now: Millis) -> Result<(), Rejection> {
        if keyed.key.is_empty() || keyed.key.len() > limits::KEY_BYTES_MAX {
            let why = format!("a key has 1 to {} bytes", limits::KEY_BYTES_MAX);
            return Err(Rejection::Refused(why));
        }
        match self.answered.get(&keyed.key).filter(|known| known.until > now) {
            None => Ok(()),
            Some(known) if known.command == keyed.command => Err(Rejection::Repeated),
            Some(_) => Err(Rejection::KeyReused(keyed.key.clone())),
        }
    }

    /// What was refused for its key or for want of room may be asked for again.
    pub(super) fn remember_answer(
        &mut self,
        keyed: &Keyed,
        reply: &Reply,
        about: Option<&EntityId>,
        rows: &mut Vec<RowChange>,
    ) {
        let outcome = match reply {
            Reply::Done => Outcome::Done { json: self.shown(about) },
            Reply::Rejected(Rejection::NotFound(what)) => Outcome::NotFound { what: what.clone() },
            Reply::Rejected(refusal @ (Rejection::Illegal { .. } | Rejection::Refused(_)))
                if keyed.key.len() <= limits::KEY_BYTES_MAX && !keyed.key.is_empty() =>
            {
                Outcome::Refused { sentence: refusal.to_string() }
            }
            Reply::Rejected(
                Rejection::Illegal { .. }
                | Rejection::Refused(_)
                | Rejection::Repeated
                | Rejection::KeyReused(_)
                | Rejection::Full
                | Rejection::Stale
                | Rejection::TooEarly
                | Rejection::Panicked(_),
            ) => return,
        };
        if self.answered.len() >= limits::KEYS_MAX
            && let Some((_, first)) = self.indices.answered.first().cloned()
        {
            self.forget_answer(&first, rows);
        }
        let answered = Answered {
            key: keyed.key.clone(),
            until: self.at.after(keyed.keep_ms.min(limits::KEY_MS_MAX)),
            command: keyed.command.clone(),
            outcome,
        };
        rows.push(rows::answered(&answered.key, Some(&answered)));
        self.indices.answered.insert((answered.until, answered.key.clone()));
        self.answered.insert(answered.key.clone(), answered);
    }

    /// Those whose time is over.
    pub(super) fn forget_old_answers(&mut self, rows: &mut Vec<RowChange>) {
        while let Some((until, key)) = self.indices.answered.first()
            && *until <= self.at
        {
            let key = key.clone();
            self.forget_answer(&key, rows);
        }
    }

    fn forget_answer(&mut self, key: &str, rows: &mut Vec<RowChange>) {
        let Some(answered) = self.answered.remove(key) else { return };
        self.indices.answered.remove(&(answered.until, answered.key));
        rows.push(rows::answered(key, None));
    }

    /// The thing as the API shows it.
    fn shown(&self, about: Option<&EntityId>) -> Vec<u8> {
        let json = match about {
            Some(EntityId::Call(id)) => {
                query::call(self, *id).map(|call| serde_json::to_vec(&call))
            }
            Some(EntityId::Agent(id)) => {
                query::agent(self, id).map(|agent| serde_json::to_vec(&agent))
            }
            Some(EntityId::Channel(_) | EntityId::Queue(_) | EntityId::Gateway(_)) | None => None,
        };
        json.and_then(Result::ok).unwrap_or_default()
    }
}
