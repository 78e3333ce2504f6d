//! Who speaks: the name in a peer's certificate, whatever it says of itself.

use rustls::pki_types::ServerName;
use tonic::{Request, Status};
use webpki::EndEntityCert;

/// The name in the certificate of whoever reaps the cluster's processes.
pub const SUPERVISOR: &str = "supervisor";

/// # Errors
/// `PERMISSION_DENIED` where the certificate of the connection is not one of `name`.
pub fn require<T>(request: &Request<T>, name: &str) -> Result<(), Status> {
    let certificates = request.peer_certs();
    let of_name = || {
        let leaf = certificates.as_ref()?.first()?;
        let certificate = EndEntityCert::try_from(leaf).ok()?;
        let name = ServerName::try_from(name).ok()?;
        certificate.verify_is_valid_for_subject_name(&name).ok()
    };
    of_name().ok_or_else(|| Status::permission_denied(format!("the certificate is not {name}'s")))
}
