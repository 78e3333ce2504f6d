//! WebPKI's verifiers, which say whose certificate it was that they refused, and why.

use std::sync::Arc;

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{CertificateError, DigitallySignedStruct, DistinguishedName, Error, SignatureScheme};

use crate::facts::Facts;
use crate::live::Complaints;

#[derive(Debug)]
pub struct Clients {
    pub inner: Arc<dyn ClientCertVerifier>,
    pub complaints: Arc<Complaints>,
}

#[derive(Debug)]
pub struct Servers {
    pub inner: Arc<WebPkiServerVerifier>,
    /// Who is called.
    pub address: String,
    pub complaints: Arc<Complaints>,
}

/// In a sentence, of a certificate that somebody has shown to us.
pub fn why(certificate: &CertificateDer<'_>, error: &Error) -> String {
    let Some(Facts { subject, issuer, from, until, names, .. }) = Facts::of(certificate) else {
        return format!("what it shows is no certificate: {error}");
    };
    let Error::InvalidCertificate(error) = error else {
        return format!("the certificate of {subject} is refused: {error}");
    };
    match error {
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
            format!("the certificate of {subject} was good until {until} only")
        }
        CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
            format!(
                "the certificate of {subject} is good from {from} on, and the clock here is before that"
            )
        }
        CertificateError::UnknownIssuer | CertificateError::BadSignature => {
            format!("the certificate of {subject} is signed by {issuer}, which is not trusted here")
        }
        CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
            let names = names.join(", ");
            format!("the certificate is of {names}, which is not who was called")
        }
        other => format!("the certificate of {subject} is refused: {other}"),
    }
}

impl ClientCertVerifier for Clients {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        self.inner.root_hint_subjects()
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        let verified = self.inner.verify_client_cert(end_entity, intermediates, now);
        verified.inspect_err(|error| self.complaints.refused(&why(end_entity, error)))
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.inner.verify_tls12_signature(message, cert, dss)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.inner.verify_tls13_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.inner.supported_verify_schemes()
    }
}

impl ServerCertVerifier for Servers {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let (inner, ocsp) = (&self.inner, ocsp_response);
        let verified = inner.verify_server_cert(end_entity, intermediates, server_name, ocsp, now);
        verified.inspect_err(|error| self.complaints.apart(&self.address, &why(end_entity, error)))
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.inner.verify_tls12_signature(message, cert, dss)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.inner.verify_tls13_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.inner.supported_verify_schemes()
    }
}
