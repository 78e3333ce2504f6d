//! Encodings of what is said reliably before an INVITE is answered.

use tandem_sip::dialog::Dialog;
use tandem_sip::protobuf::{Encode, Writer};

use super::{Error, need};
use crate::call::early::Early;
use crate::call::early_media::EarlyMedia;
use crate::call::reliable::{Prack, Reliable};
use crate::proto;

impl Encode for Early {
    fn encode(&self, to: &mut Writer) {
        to.message(1, &self.dialog);
        to.uint(2, self.rseq);
        to.some_text(3, self.prack_branch.as_deref());
        to.some_message(4, self.media.as_ref());
    }
}

pub fn early_from(early: proto::EarlyDialog) -> Result<Early, Error> {
    Ok(Early {
        dialog: Dialog::try_from(need(early.dialog, "early.dialog")?)?,
        rseq: early.rseq,
        prack_branch: early.prack_branch,
        media: early.media.map(TryInto::try_into).transpose()?,
    })
}

impl Encode for EarlyMedia {
    fn encode(&self, to: &mut Writer) {
        to.text(1, &self.tag);
        to.message(2, &self.media);
    }
}

pub fn early_media_from(early: proto::EarlyMedia) -> Result<EarlyMedia, Error> {
    let media = need(early.media, "early_media.media")?.try_into()?;
    Ok(EarlyMedia { tag: early.tag, media })
}

impl Encode for Reliable {
    fn encode(&self, to: &mut Writer) {
        let state = match self.state {
            Prack::Awaited => "awaited",
            Prack::Holds => "holds",
            Prack::Came => "came",
        };
        to.uint(1, self.rseq);
        to.text(2, state);
    }
}

pub fn reliable_from(reliable: proto::Reliable) -> Result<Reliable, Error> {
    let state = match reliable.state.as_str() {
        "awaited" => Prack::Awaited,
        "holds" => Prack::Holds,
        "came" => Prack::Came,
        other => return Err(Error::Unknown("PRACK", other.to_owned())),
    };
    Ok(Reliable { rseq: reliable.rseq, state })
}
