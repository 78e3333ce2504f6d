//! Certificates with given dates, and connections while they change.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::StreamExt as _;
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, date_time_ymd};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio::sync::Notify;
use tonic::codegen::Service as _;

use crate::facts::{Facts, Moment};
use crate::files::{Files, Material, Texts};
use crate::judge::{End, end, judge};
use crate::live::Alarm;
use crate::{Connector, Error, Live, limits, server};

const DAY_S: i64 = 24 * 3_600;

struct Authority {
    pem: String,
    issuer: Issuer<'static, KeyPair>,
}

impl Authority {
    fn new(name: &str) -> Self {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        let pem = params.self_signed(&key).unwrap().pem();
        Self { pem, issuer: Issuer::new(params, key) }
    }

    /// For 2030, unless it shall be good today.
    fn issue(&self, name: &str, today: bool) -> Texts {
        self.issue_for(name, (!today).then_some(2030))
    }

    /// Good through that year, or always.
    fn issue_for(&self, name: &str, year: Option<i32>) -> Texts {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(vec![name.to_owned(), "127.0.0.1".into()]).unwrap();
        params.distinguished_name.push(DnType::CommonName, name);
        if let Some(year) = year {
            params.not_before = date_time_ymd(year, 1, 1);
            params.not_after = date_time_ymd(year + 1, 1, 1);
        }
        let certificate = params.signed_by(&key, &self.issuer).unwrap().pem();
        Texts { ca: self.pem.clone(), certificate, key: key.serialize_pem() }
    }
}

fn files(dir: &Path) -> Files {
    Files { ca: dir.join("ca.pem"), certificate: dir.join("a.pem"), key: dir.join("a.key") }
}

fn write(dir: &Path, texts: &Texts) {
    let files = files(dir);
    for (path, text) in
        [(files.ca, &texts.ca), (files.certificate, &texts.certificate), (files.key, &texts.key)]
    {
        std::fs::write(path, text).unwrap();
    }
}

fn judged(texts: &Texts, name: &str, now: Moment) -> Result<Facts, Error> {
    judge(&Material::of(files(Path::new("pki")), texts).unwrap(), name, now)
}

/// Within 2030.
fn at(days: i64) -> Moment {
    Moment(1_893_456_000 + days * DAY_S)
}

#[test]
fn certificate_says_whose_it_is_by_whom_and_from_when_till_when() {
    let facts = judged(&Authority::new("tandem test").issue("node-a", false), "node-a", at(10));
    let facts = facts.unwrap();
    assert_eq!((&*facts.subject, &*facts.issuer), ("node-a", "tandem test"));
    assert_eq!(facts.names, ["node-a", "127.0.0.1"]);
    assert_eq!((facts.from, facts.until), (at(0), at(365)));
    assert_eq!(facts.until.to_string(), "2031-01-01 00:00:00 UTC");
    assert_eq!(Moment(951_868_799).rfc3339(), "2000-02-29T23:59:59.000Z");
    assert_eq!(Moment(-1).rfc3339(), "1969-12-31T23:59:59.000Z");
    assert!(!facts.is_authority && facts.fingerprint.len() == 64);
}

#[test]
fn certificate_is_good_from_its_first_to_its_last_second_and_for_its_own_process() {
    let texts = Authority::new("tandem test").issue("node-a", false);
    let of = |seconds: i64| judged(&texts, "node-a", Moment(at(0).0 + seconds));
    assert!(of(0).is_ok() && of(365 * DAY_S).is_ok());
    let early = of(-1).unwrap_err();
    assert!(matches!(early, Error::NotYet { .. }));
    assert_eq!(
        early.to_string(),
        "TD0465 the certificate of node-a in pki/a.pem is good from 2030-01-01 00:00:00 UTC on (until 2031-01-01 \
         00:00:00 UTC), and this machine's clock says 2029-12-31 23:59:59 UTC: set the clock right"
    );
    let late = of(365 * DAY_S + 1).unwrap_err();
    assert_eq!(
        late.to_string(),
        "TD0464 the certificate of node-a in pki/a.pem was good until 2031-01-01 00:00:00 UTC only: make a new one \
         with `tandem ca issue`"
    );
    let other = judged(&texts, "node-b", at(1)).unwrap_err().to_string();
    assert!(
        other.starts_with("TD0469 the certificate in pki/a.pem is of node-a and not of node-b")
    );
}

#[test]
fn certificate_of_another_authority_or_with_another_key_is_told_apart() {
    let (ours, theirs) = (Authority::new("tandem ours"), Authority::new("tandem theirs"));
    let good = ours.issue("node-a", false);
    let foreign = Texts { ca: theirs.pem.clone(), ..good.clone() };
    let why = judged(&foreign, "node-a", at(1)).unwrap_err().to_string();
    assert!(
        why.starts_with("TD0466") && why.contains("signed by tandem ours, which is none of"),
        "{why}"
    );
    assert!(why.contains("(tandem theirs)"), "{why}");
    // A bundle: both are trusted.
    let both = Texts { ca: format!("{}{}", theirs.pem, ours.pem), ..good.clone() };
    assert!(judged(&both, "node-a", at(1)).is_ok());
    let mixed = Texts { key: ours.issue("node-a", false).key, ..good.clone() };
    assert!(matches!(judged(&mixed, "node-a", at(1)), Err(Error::OtherKey { .. })));
    let half = Texts { certificate: good.certificate[..200].to_owned(), ..good };
    let read = Material::of(files(Path::new("pki")), &half);
    assert!(matches!(read, Err(Error::NoCertificate { .. })));
}

#[test]
fn end_is_warned_of_when_it_comes_nearer_and_once_a_day() {
    let until = at(100);
    for (day, is) in [(0, End::Far), (70, End::Far), (71, End::Near), (94, End::Urgent)] {
        assert_eq!(end(until, at(day)), is, "day {day}");
    }
    assert_eq!(end(until, until), End::Urgent);
    assert_eq!(end(until, Moment(until.0 + 1)), End::Over);

    let (mut alarm, now) = (Alarm::default(), Instant::now());
    let again = Duration::from_secs(limits::ALARM_AGAIN_S);
    assert_eq!(alarm.on_look(End::Near, now), Some(End::Near));
    assert_eq!(alarm.on_look(End::Near, now + again / 2), None);
    assert_eq!(alarm.on_look(End::Urgent, now + again / 2), Some(End::Urgent));
    assert_eq!(alarm.on_look(End::Urgent, now + again), None);
    assert_eq!(alarm.on_look(End::Urgent, now + 2 * again), Some(End::Urgent));
}

/// Echoes; each connection is served by itself.
async fn serve(live: Arc<Live>) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let mut incoming = Box::pin(server::incoming(listener, live));
    tokio::spawn(async move {
        while let Some(Ok(stream)) = incoming.next().await {
            let (mut read, mut write) = tokio::io::split(stream);
            tokio::spawn(async move { tokio::io::copy(&mut read, &mut write).await });
        }
    });
    port
}

type Stream = hyper_util::rt::TokioIo<crate::client::Link>;

async fn connect(live: &Arc<Live>, port: u16) -> std::io::Result<Stream> {
    let uri = format!("http://127.0.0.1:{port}").parse().unwrap();
    Connector::new(Arc::clone(live), "node-a").call(uri).await
}

async fn echoes(stream: &mut Stream) -> std::io::Result<()> {
    let stream = stream.inner_mut();
    stream.write_all(b"still there").await?;
    stream.flush().await?;
    let mut heard = [0; 11];
    stream.read_exact(&mut heard).await?;
    assert_eq!(&heard, b"still there");
    Ok(())
}

#[tokio::test]
async fn a_connection_outlives_a_whole_rotation_and_new_ones_are_made_at_each_step() {
    let (old, new) = (Authority::new("tandem 1"), Authority::new("tandem 2"));
    let dir = tempfile::tempdir().unwrap();
    let before = old.issue("node-a", true);
    write(dir.path(), &before);
    let live = Live::open(files(dir.path()), "node-a").unwrap();
    let peer = Live::open(files(dir.path()), "node-a").unwrap();
    let port = serve(Arc::clone(&live)).await;
    let mut first = connect(&peer, port).await.unwrap();
    echoes(&mut first).await.unwrap();

    let both = format!("{}{}", old.pem, new.pem);
    let trusting = Texts { ca: both.clone(), ..before.clone() };
    let signed = Texts { ca: both, ..new.issue("node-a", true) };
    let dropped = Texts { ca: new.pem.clone(), ..signed.clone() };
    for texts in [trusting, signed, dropped] {
        write(dir.path(), &texts);
        // One after the other: between them both must trust each other.
        for one in [&live, &peer] {
            one.reload().unwrap();
            echoes(&mut connect(&peer, port).await.unwrap()).await.unwrap();
        }
    }
    echoes(&mut first).await.unwrap();
    // Who stayed behind is refused.
    let late = Live::of(&before).unwrap();
    let refused = connect(&late, port).await;
    assert!(refused.is_err(), "the server's certificate is of an authority unknown to it");
    let late = Live::of(&Texts { ca: new.pem, ..before }).unwrap();
    let mut unheard = connect(&late, port).await.unwrap();
    assert!(echoes(&mut unheard).await.is_err());
}

/// What has been said once a sentence of a process's log has these words.
async fn complains(live: &Live, words: &str) {
    let said = async {
        while !live.complaints().said().iter().any(|it| it.contains(words)) {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    let within = Duration::from_secs(10);
    let said = tokio::time::timeout(within, said).await;
    said.unwrap_or_else(|_| panic!("not {words:?} but {:?}", live.complaints().said()));
}

#[tokio::test]
async fn both_sides_of_a_refused_handshake_say_why_and_once() {
    let (ours, theirs) = (Authority::new("tandem ours"), Authority::new("tandem theirs"));
    let good = || ours.issue("node-a", true);
    let foreign = |name| Texts { ca: ours.pem.clone(), ..theirs.issue(name, true) };
    for (server, client, by_server, by_client) in [
        (
            good(),
            ours.issue_for("node-x", Some(2020)),
            "the certificate of node-x was good until 2021-01-01 00:00:00 UTC only",
            "it says that our certificate is over or not yet good",
        ),
        (
            good(),
            foreign("node-x"),
            "the certificate of node-x is signed by tandem theirs, which is not trusted here",
            "it does not trust the authority of our certificate",
        ),
        (
            ours.issue_for("node-a", Some(2990)),
            good(),
            "it says that our certificate is over or not yet good",
            "the certificate of node-a is good from 2990-01-01 00:00:00 UTC on",
        ),
        (
            foreign("node-a"),
            good(),
            "it does not trust the authority of our certificate",
            "the certificate of node-a is signed by tandem theirs, which is not trusted here",
        ),
        (
            ours.issue("node-b", true),
            good(),
            "our certificate",
            "the certificate is of node-b, 127.0.0.1, which is not who was called",
        ),
    ] {
        let (server, client) = (Live::of(&server).unwrap(), Live::of(&client).unwrap());
        let port = serve(Arc::clone(&server)).await;
        for _ in 0..3 {
            if let Ok(mut stream) = connect(&client, port).await {
                assert!(echoes(&mut stream).await.is_err(), "{by_server}");
            }
        }
        complains(&server, by_server).await;
        complains(&client, by_client).await;
        for live in [server, client] {
            let said = live.complaints().said();
            assert_eq!(said.len(), 1, "{said:?}");
        }
    }
}

#[tokio::test]
async fn files_that_are_of_no_use_change_nothing_and_good_ones_are_found_without_being_asked() {
    let (ours, theirs) = (Authority::new("tandem ours"), Authority::new("tandem theirs"));
    let dir = tempfile::tempdir().unwrap();
    let before = ours.issue("node-a", true);
    write(dir.path(), &before);
    let live = Live::open(files(dir.path()), "node-a").unwrap();
    let held = Arc::clone(&live.current().server);
    let keeps = || Arc::ptr_eq(&held, &live.current().server);
    let next = ours.issue("node-a", true);
    for bad in [
        Texts { certificate: next.certificate[..99].to_owned(), ..before.clone() },
        Texts { certificate: next.certificate.clone(), ..before.clone() },
        Texts { ca: before.ca.clone(), ..theirs.issue("node-a", true) },
        ours.issue("node-b", true),
    ] {
        write(dir.path(), &bad);
        assert!(live.reload().is_err());
        assert!(keeps());
    }
    let keeping = tokio::spawn(Arc::clone(&live).keep(Arc::new(Notify::new())));
    write(dir.path(), &next);
    let within = Duration::from_secs(30);
    let taken = tokio::time::timeout(within, async {
        while keeps() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    });
    taken.await.expect("the files are looked at");
    keeping.abort();
}

#[test]
fn who_starts_while_its_files_are_replaced_waits_until_they_fit() {
    let ours = Authority::new("tandem ours");
    let dir = tempfile::tempdir().unwrap();
    let (before, next) = (ours.issue("node-a", true), ours.issue("node-a", true));
    write(dir.path(), &Texts { certificate: before.certificate, ..next.clone() });
    let begun = Instant::now();
    let open = || Live::open(files(dir.path()), "node-a");
    let opened = std::thread::scope(|scope| {
        let opening = scope.spawn(open);
        while begun.elapsed() < Duration::from_millis(limits::REPLACED_MS_MAX / 4) {
            std::thread::sleep(Duration::from_millis(limits::REPLACED_LOOK_MS));
        }
        // In one step, as who replaces them does it.
        let whole = dir.path().join("whole");
        std::fs::write(&whole, &next.certificate).unwrap();
        std::fs::rename(whole, files(dir.path()).certificate).unwrap();
        opening.join().unwrap()
    });
    opened.unwrap();
    // Who is never helped gives up, and says what is wrong.
    write(dir.path(), &Texts { key: ours.issue("node-a", true).key, ..next });
    assert!(matches!(open(), Err(Error::OtherKey { .. })));
}
