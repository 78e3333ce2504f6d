//! What SDP says, and what two sides agree on.

use super::SDP;
use crate::sdp::{Audio, Codec, Direction, Error, Payload, negotiate, negotiate_beside, offer};

fn edited(from: &str, to: &str) -> Result<Audio, Error> {
    assert!(SDP.contains(from), "{from}");
    Audio::parse(SDP.replace(from, to).as_bytes())
}

#[test]
fn static_payload_types_need_no_rtpmap_and_dynamic_ones_do() {
    let audio = edited(
        "18 8 0 96\r\na=rtpmap:8 PCMA/8000/1\r\n",
        "0 8 97 98 96\r\na=rtpmap:97 pcmu/8000\r\n",
    );
    let found: Vec<_> = audio.unwrap().payloads.iter().map(|p| (p.number, p.codec)).collect();
    assert_eq!(found, [(0, Codec::Pcmu), (8, Codec::Pcma), (97, Codec::Pcmu)]);
}

#[test]
fn offered_payload_type_is_kept() {
    let offer =
        edited("18 8 0 96\r\na=rtpmap:8 PCMA/8000/1", "97 96\r\na=rtpmap:97 PCMA/8000").unwrap();
    let agreed = negotiate(&offer, &[Codec::Pcmu, Codec::Pcma]).unwrap();
    assert_eq!((agreed.codec, agreed.payload), (Codec::Pcma, 97));
    let answer = agreed.answer([127, 0, 0, 9].into(), 4_100, 3);
    assert_eq!(answer.payloads, [Payload::new(97, Codec::Pcma)]);
    assert_eq!(answer.direction, Direction::RecvOnly);
    assert_eq!(negotiate(&offer, &[Codec::Pcmu]), Err(Error::NoCommonCodec));
}

#[test]
fn codec_of_the_other_leg_goes_before_what_the_offer_has_first() {
    // G.722 with its clock of 8 kHz (RFC 3551 §4.5.2), once by its static number alone.
    for formats in ["9 8 96\r\na=rtpmap:9 G722/8000\r\n", "9 8 96\r\n"] {
        let offer = edited("18 8 0 96\r\na=rtpmap:8 PCMA/8000/1\r\n", formats).unwrap();
        let ours = [Codec::Pcmu, Codec::Pcma, Codec::G722];
        let of = |beside| negotiate_beside(&offer, &ours, beside).map(|a| (a.codec, a.payload));
        assert_eq!(of(None), Ok((Codec::G722, 9)));
        assert_eq!(of(Some(Codec::Pcma)), Ok((Codec::Pcma, 8)));
        assert_eq!(of(Some(Codec::Pcmu)), Ok((Codec::G722, 9)), "which it does not offer");
        let narrow = negotiate_beside(&offer, &[Codec::Pcma], Some(Codec::G722));
        assert_eq!(narrow.map(|agreed| agreed.codec), Ok(Codec::Pcma), "which we don't have");
    }
}

const WIDE: &str = "v=0\r\no=- 5 6 IN IP4 127.0.0.1\r\ns=-\r\nc=IN IP4 127.0.0.1\r\nt=0 0\r\n\
    m=audio 4000 RTP/AVP 96 18 8 101 102\r\na=rtpmap:96 opus/48000/2\r\n\
    a=fmtp:96 maxplaybackrate=16000;useinbandfec=1\r\na=fmtp:18 annexb=no\r\na=fmtp:8 x=y\r\n\
    a=rtpmap:101 telephone-event/8000\r\na=rtpmap:102 telephone-event/48000\r\n";

#[test]
fn opus_and_g_729_are_read_with_what_is_said_of_them() {
    let offer = Audio::parse(WIDE.as_bytes()).unwrap();
    let said = |text: &str| Some(text.to_owned());
    assert_eq!(
        offer.payloads,
        [
            Payload {
                number: 96,
                codec: Codec::Opus,
                fmtp: said("maxplaybackrate=16000;useinbandfec=1")
            },
            Payload { number: 18, codec: Codec::G729, fmtp: said("annexb=no") },
            Payload::new(8, Codec::Pcma),
        ]
    );
    assert_eq!(Audio::parse(&offer.compose()).unwrap().payloads, offer.payloads);
    // One channel is no Opus of RTP (RFC 7587 §7).
    let mono = Audio::parse(WIDE.replace("48000/2", "48000").as_bytes()).unwrap();
    assert_eq!(mono.payloads.len(), 2);
    let long = WIDE.replace("annexb=no", &"a".repeat(161));
    assert_eq!(Audio::parse(long.as_bytes()).unwrap().payloads[1].fmtp, None);
}

#[test]
fn events_go_by_the_clock_of_their_audio_where_the_peer_has_such() {
    let offer = Audio::parse(WIDE.as_bytes()).unwrap();
    let of = |offer: &Audio, codec| {
        let agreed = negotiate(offer, &[codec]).unwrap();
        let text = agreed.answer([127, 0, 0, 9].into(), 4_100, 3).compose();
        let answer = Audio::parse(&text).unwrap();
        let said =
            if agreed.events_wide { answer.telephone_event_wide } else { answer.telephone_event };
        assert_eq!(said, agreed.telephone_event);
        (agreed.telephone_event, agreed.events_wide)
    };
    assert_eq!(of(&offer, Codec::Opus), (Some(102), true));
    assert_eq!(of(&offer, Codec::Pcma), (Some(101), false));
    // Many phones have them at 8 kHz alone, beside Opus, too.
    let narrow = Audio { telephone_event_wide: None, ..offer.clone() };
    assert_eq!(of(&narrow, Codec::Opus), (Some(101), false));
    let wide = Audio { telephone_event: None, ..offer };
    assert_eq!(of(&wide, Codec::Pcma), (None, false), "which runs at another clock");
}

#[test]
fn host_name_is_refused_with_its_name() {
    let error = edited("c=IN IP4 127.0.0.1", "c=IN IP4 media.example.com").unwrap_err();
    assert_eq!(error, Error::Address("media.example.com".into()));
}

#[test]
fn address_and_direction_of_the_section_go_before_those_of_the_session() {
    let section = "m=audio 4000 RTP/AVP 0\r\nc=IN IP6 ::1\r\na=recvonly\r\n";
    let text = format!(
        "v=0\r\no=- 5 6 IN IP4 127.0.0.1\r\ns=-\r\nc=IN IP4 127.0.0.1\r\nt=0 0\r\na=inactive\r\n\
         m=video 5000 RTP/AVP 31\r\nm=audio 6000 RTP/SAVP 0\r\n{section}"
    );
    let audio = Audio::parse(text.as_bytes()).unwrap();
    assert_eq!((audio.address.to_string(), audio.port), ("::1".to_owned(), 4_000));
    assert_eq!(audio.direction, Direction::RecvOnly);
    let audio = Audio::parse(text.replace("a=recvonly\r\n", "").as_bytes()).unwrap();
    assert_eq!(audio.direction, Direction::Inactive);
}

#[test]
fn held_and_refused_streams_want_no_rtp() {
    let held = edited("c=IN IP4 127.0.0.1", "c=IN IP4 0.0.0.0").unwrap();
    let refused = edited("m=audio 4000", "m=audio 0").unwrap();
    for audio in [held, refused] {
        assert_eq!(audio.remote(), None);
        assert!(audio.is_hold());
        assert_eq!(negotiate(&audio, &[Codec::Pcma]).unwrap().remote, None);
    }
}

#[test]
fn offer_of_ours_is_written_as_expected() {
    let offer = offer([127, 0, 0, 9].into(), 4_100, &[Codec::Pcma, Codec::Pcmu], 77);
    expect_test::expect![[r#"
        v=0
        o=tandem 77 1 IN IP4 127.0.0.9
        s=-
        c=IN IP4 127.0.0.9
        t=0 0
        m=audio 4100 RTP/AVP 8 0 101
        a=rtpmap:8 PCMA/8000
        a=rtpmap:0 PCMU/8000
        a=rtpmap:101 telephone-event/8000
        a=fmtp:101 0-16
        a=ptime:20
        a=sendrecv
    "#]]
    .assert_eq(&String::from_utf8(offer.compose()).unwrap().replace("\r\n", "\n"));
}

#[test]
fn answer_refuses_the_sections_beside_the_audio_in_their_places() {
    let text = "v=0\r\no=- 5 6 IN IP4 127.0.0.1\r\ns=-\r\nc=IN IP4 127.0.0.1\r\nt=0 0\r\n\
         m=video 5000 RTP/AVP 31 32\r\na=sendrecv\r\nm=audio 4000 RTP/AVP 8\r\nm=image 6000 udptl t38\r\n";
    let offer = Audio::parse(text.as_bytes()).unwrap();
    let agreed = negotiate(&offer, &[Codec::Pcma]).unwrap();
    let answer = agreed.answer([127, 0, 0, 9].into(), 4_100, 77).compose();
    let answer = String::from_utf8(answer).unwrap();
    let sections: Vec<&str> = answer.lines().filter(|line| line.starts_with("m=")).collect();
    let expected = ["m=video 0 RTP/AVP 31", "m=audio 4100 RTP/AVP 8", "m=image 0 udptl t38"];
    assert_eq!(sections, expected, "{answer}");
}

#[test]
fn more_sections_than_are_answered_are_refused() {
    let text = edited("", "").unwrap().compose();
    let mut text = String::from_utf8(text).unwrap();
    text.push_str(&"m=video 0 RTP/AVP 31\r\n".repeat(8));
    assert_eq!(Audio::parse(text.as_bytes()), Err(Error::Sections));
}

const KEY: &str =
    "a=crypto:4 AES_CM_128_HMAC_SHA1_80 inline:PS1uQCVeeCFCanVmcjkpPywjNWhcYD0mXXtxaVBR\r\n";

#[test]
fn protected_section_is_taken_where_it_has_a_key_of_ours() {
    let head = "v=0\r\no=- 5 6 IN IP4 127.0.0.1\r\ns=-\r\nc=IN IP4 127.0.0.1\r\nt=0 0\r\n";
    let section =
        |port: u16, protocol: &str, keys: &str| format!("m=audio {port} {protocol} 8\r\n{keys}");
    let unknown = "a=crypto:1 F8_128_HMAC_SHA1_80 inline:AAAA\r\n";
    let parse =
        |sections: &[String]| Audio::parse(format!("{head}{}", sections.concat()).as_bytes());
    let both = [section(4_000, "RTP/SAVP", KEY), section(5_000, "RTP/AVP", "")];
    let audio = parse(&both).unwrap();
    assert_eq!((audio.port, audio.secure, audio.crypto[0].tag), (4_000, true, 4));
    assert_eq!((audio.beside.before.len(), audio.beside.after.len()), (0, 1));
    // The order is the peer's; a section that was refused before is none to talk over.
    let other_way = [section(5_000, "RTP/AVP", ""), section(4_000, "RTP/SAVP", KEY)];
    assert_eq!(parse(&other_way).map(|audio| audio.port), Ok(5_000));
    let refused = [section(0, "RTP/AVP", ""), section(4_000, "RTP/SAVP", KEY)];
    assert_eq!(parse(&refused).map(|audio| audio.port), Ok(4_000));
    let keyless = [section(4_000, "RTP/SAVP", unknown), section(5_000, "RTP/AVP", "")];
    assert_eq!(parse(&keyless).map(|audio| (audio.port, audio.secure)), Ok((5_000, false)));
    assert_eq!(parse(&[section(4_000, "RTP/SAVP", unknown)]), Err(Error::NoAudio));
    // RFC 8643: a key that may be used, and need not.
    let welcome = parse(&[section(4_000, "RTP/AVP", &format!("{unknown}{KEY}"))]).unwrap();
    assert_eq!((welcome.secure, welcome.crypto.len()), (false, 1));
}
