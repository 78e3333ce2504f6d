//! The encodings of `wire`, against the golden files and against what can't be read.

use std::path::PathBuf;

use prost::Message as _;

use super::{INVITE, SDP, answer, request};
use crate::dialog::Dialog;
use crate::protobuf::Encode as _;
use crate::sdp::{Audio, Codec};
use crate::wire::Error;
use crate::{NameAddr, Request, Response, Uri, Via, proto};

/// Today's build reads each golden file and writes the same bytes. `TANDEM_BLESS=1` writes those
/// that are not there yet; one that is there is never changed.
fn golden(name: &str, bytes: &[u8]) -> Vec<u8> {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("golden").join(name);
    if !path.exists() && std::env::var_os("TANDEM_BLESS").is_some() {
        std::fs::write(&path, bytes).unwrap();
    }
    std::fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// `$value`'s encoding is that of the file, both ways.
macro_rules! check {
    ($file:literal, $value:expr, $plain:ty, $encoded:ty) => {{
        let value: $plain = $value;
        let bytes = golden($file, &value.encoded());
        let read = <$encoded>::decode(bytes.as_slice()).unwrap();
        assert_eq!(<$plain>::try_from(read), Ok(value.clone()), $file);
        assert_eq!(value.encoded(), bytes, $file);
        // Prost writes the same.
        assert_eq!(<$encoded>::decode(bytes.as_slice()).unwrap().encode_to_vec(), bytes, $file);
    }};
}

#[test]
fn encodings_are_those_of_the_golden_files() {
    let invite = request(INVITE);
    let response = answer(&invite);
    let dialog = Dialog::as_uac(&invite, &response).unwrap();
    check!("request.bin", invite.clone(), Request, proto::Request);
    check!("response.bin", response, Response, proto::Response);
    check!("dialog.bin", dialog, Dialog, proto::Dialog);
    let audio = Audio::parse(SDP.as_bytes()).unwrap();
    // Builds that did not know it read the offer without its G.729.
    let mut before = audio.clone();
    before.payloads.retain(|payload| payload.codec != Codec::G729);
    check!("audio.bin", before, Audio, proto::Audio);
    check!("audio.2.bin", audio, Audio, proto::Audio);
    check!("uri.bin", "sips:a;b@[::1]:5071;lr;p=q?X=y".parse().unwrap(), Uri, proto::Uri);
    check!("name_addr.bin", invite.headers.from.clone(), NameAddr, proto::NameAddr);
    check!("via.bin", invite.headers.via[0].clone(), Via, proto::Via);
}

#[test]
fn encoding_that_makes_no_sense_is_refused() {
    let whole = proto::Request::decode(&*request(INVITE).encoded()).unwrap();
    let without_uri = proto::Request { uri: None, ..whole.clone() };
    assert_eq!(Request::try_from(without_uri), Err(Error::Missing("request.uri")));
    let mut port = whole;
    port.headers.as_mut().unwrap().via[0].port = Some(65_536);
    assert_eq!(Request::try_from(port), Err(Error::Range("via.port")));

    let mut response = proto::Response::decode(&*answer(&request(INVITE)).encoded()).unwrap();
    for status in [0, 99, 700, 65_736] {
        response.status = status;
        assert_eq!(Response::try_from(response.clone()), Err(Error::Range("response.status")));
    }

    let whole = proto::Audio::decode(&*Audio::parse(SDP.as_bytes()).unwrap().encoded()).unwrap();
    let mut payload = whole.clone();
    payload.payloads[0].number = 128;
    assert_eq!(Audio::try_from(payload), Err(Error::Range("payload.number")));
    let address = proto::Audio { address: "host".into(), ..whole.clone() };
    assert_eq!(Audio::try_from(address), Err(Error::Unknown("address", "host".into())));
    let direction = proto::Audio { direction: String::new(), ..whole };
    assert!(Audio::try_from(direction).is_err());
}
