use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use tandem_pki::{Files, Live};

use super::folder::Folder;
use super::rotation::{Error, Found, Needs, Phase, Step, successor_of};

const OLD: &[u8] = b"old";
const NEW: &[u8] = b"new";

fn phase(trusted: &[&[u8]], signer: &[u8], successor: Option<&[u8]>) -> Result<Phase, Error> {
    Phase::of(Found { trusted, signer, successor })
}

#[test]
fn rotation_stands_where_the_files_say_and_goes_on_in_order() {
    assert_eq!(phase(&[OLD], OLD, None), Ok(Phase::Steady));
    // Interrupted after the key and before the bundle.
    assert_eq!(phase(&[OLD], OLD, Some(NEW)), Ok(Phase::Steady));
    assert_eq!(phase(&[OLD, NEW], OLD, Some(NEW)), Ok(Phase::Trusted));
    assert_eq!(phase(&[OLD, NEW], NEW, None), Ok(Phase::Signed));
    assert_eq!(phase(&[NEW], NEW, None), Ok(Phase::Steady));
    assert_eq!(phase(&[OLD], NEW, None), Err(Error::Stranger));
    assert_eq!(phase(&[OLD, NEW, b"other"], NEW, None), Err(Error::TooMany(3)));
    assert_eq!(phase(&[OLD, NEW], OLD, Some(b"other")), Err(Error::TooMany(2)));
    let steps = [Phase::Steady, Phase::Trusted, Phase::Signed].map(Phase::next);
    assert_eq!(steps, [Step::Trust, Step::Sign, Step::Drop]);
}

#[test]
fn process_has_taken_a_step_when_its_metrics_say_so() {
    let metrics = "tandem_certificate_authority_trusted{process=\"node-a\",authority=\"aa\"} 1\n\
                   tandem_certificate_authority_trusted{process=\"node-a\",authority=\"bb\"} 0\n\
                   tandem_certificate_in_use{process=\"node-a\",certificate=\"cc\"} 1\n";
    for (needs, met) in [
        (Needs::Nothing, true),
        (Needs::Trusts("aa".into()), true),
        (Needs::Trusts("bb".into()), false),
        (Needs::Trusts("cc".into()), false),
        (Needs::Shows(vec!["aa".into(), "cc".into()]), true),
        (Needs::Shows(vec!["dd".into()]), false),
        (Needs::Shows(vec![]), false),
    ] {
        assert_eq!(needs.are_met(metrics), met, "{needs:?}");
    }
}

#[test]
fn authorities_are_numbered() {
    assert_eq!(successor_of("tandem ab"), "tandem ab #2");
    assert_eq!(successor_of("tandem ab #2"), "tandem ab #3");
    assert_eq!(successor_of("tandem #x"), "tandem #x #2");
}

fn opens(dir: &Path, name: &str) -> Result<(), tandem_pki::Error> {
    let at = |file: String| dir.join(file);
    let (certificate, key) = (at(format!("{name}.pem")), at(format!("{name}.key")));
    Live::open(Files { ca: at("ca.pem".into()), certificate, key }, name).map(|_| ())
}

#[test]
fn folder_goes_through_a_whole_rotation_and_every_certificate_is_good_at_each_step() {
    let dir = tempfile::tempdir().unwrap();
    let (root, away) = (dir.path().join("pki"), dir.path().join("away"));
    Folder::init(&root, "ab", 10).unwrap();
    assert!(Folder::init(&root, "ab", 10).is_err(), "an authority is not overwritten");
    let folder = Folder::open(&root).unwrap();
    let address = "192.0.2.1".parse().unwrap();
    folder.issue("node-a", &[address], 90, None).unwrap();
    folder.issue("gateway-a", &[], 90, Some(&away)).unwrap();
    for bad in ["", "../x", "ca", "a b"] {
        assert!(folder.issue(bad, &[], 90, None).is_err(), "{bad:?}");
    }
    let mode = std::fs::metadata(away.join("gateway-a.key")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let good = || opens(&root, "node-a").unwrap();
    good();
    opens(&away, "gateway-a").unwrap();

    assert_eq!(folder.step(10).unwrap(), Step::Trust);
    good();
    assert_eq!(folder.stand().unwrap().phase, Phase::Trusted);
    std::fs::copy(folder.bundle(), away.join("ca.pem")).unwrap();
    assert_eq!(folder.step(10).unwrap(), Step::Sign);
    good();
    opens(&away, "gateway-a").unwrap();
    let stand = folder.stand().unwrap();
    assert_eq!((stand.phase, &*stand.signer.subject), (Phase::Signed, "tandem ab #2"));
    let behind: Vec<_> = stand.behind().map(|it| it.facts.subject.clone()).collect();
    assert_eq!(behind, ["gateway-a"]);
    assert!(stand.members.iter().any(|it| it.facts.answers_to("192.0.2.1")));
    assert!(folder.step(10).unwrap_err().is::<crate::exit::Unsafe>());

    folder.issue("gateway-a", &[], 90, Some(&away)).unwrap();
    assert_eq!(folder.step(10).unwrap(), Step::Drop);
    good();
    std::fs::copy(folder.bundle(), away.join("ca.pem")).unwrap();
    opens(&away, "gateway-a").unwrap();
    assert_eq!(folder.stand().unwrap().phase, Phase::Steady);
    assert_eq!(folder.step(10).unwrap(), Step::Trust);
    assert_eq!(folder.stand().unwrap().successor.unwrap().subject, "tandem ab #3");
}
