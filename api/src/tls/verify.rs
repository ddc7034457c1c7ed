//! Is this certificate of our authority, valid now, and whose is it?
//!
//! Chain, validity and purpose are always WebPKI's verdict (`rustls-webpki`, through rustls); what
//! is different here is only the name: an [`Identity`] instead of a host name.

use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::verify_server_cert_signed_by_trust_anchor;
use rustls::crypto::{
    CryptoProvider, WebPkiSupportedAlgorithms, verify_tls12_signature, verify_tls13_signature,
};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::server::{ParsedCertificate, VerifierBuilderError, WebPkiClientVerifier};
use rustls::{
    CertificateError, DigitallySignedStruct, DistinguishedName, OtherError, RootCertStore,
    SignatureScheme,
};

use crate::identity::{Identity, IdentityError, Role};

/// Why a certificate of our authority is not taken all the same.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// It cannot be read.
    #[error("it cannot be read")]
    Unreadable,
    /// It names nobody.
    #[error("it names no role: it was not made by `atolld pki issue`")]
    Nobody,
    /// It names several, and nobody could say which rights it has.
    #[error("it names more than one role")]
    Several,
    /// It names a role that is none.
    #[error(transparent)]
    Unknown(#[from] IdentityError),
    /// It names a role that does not come in here.
    #[error("it is {0}'s, and a member's or an operator's is needed")]
    NotLetIn(Identity),
    /// It names a role that does not answer here.
    #[error("it is {0}'s, and a member's is needed")]
    NotMember(Identity),
}

/// Whose certificate it is. Says nothing about whether it is genuine.
pub(super) fn identity_of(certificate: &CertificateDer<'_>) -> Result<Identity, NameError> {
    let parsed = webpki::EndEntityCert::try_from(certificate).map_err(|_| NameError::Unreadable)?;
    let mut found = parsed.valid_uri_names().filter_map(Identity::from_uri);
    let identity = found.next().ok_or(NameError::Nobody)??;
    match found.next() {
        None => Ok(identity),
        Some(_) => Err(NameError::Several),
    }
}

fn refused(error: NameError) -> rustls::Error {
    CertificateError::Other(OtherError(Arc::new(error))).into()
}

/// What a client demands of a server: a certificate of an authority.
#[derive(Debug)]
pub(super) struct OfAuthority {
    roots: Arc<RootCertStore>,
    algorithms: WebPkiSupportedAlgorithms,
    /// And that it is a member's.
    is_member: bool,
}

impl OfAuthority {
    /// A member's, of our authority.
    pub(super) fn members(roots: Arc<RootCertStore>, provider: &CryptoProvider) -> Self {
        let algorithms = provider.signature_verification_algorithms;
        Self { roots, algorithms, is_member: true }
    }

    /// Whoever's, of somebody else's authority.
    pub(super) fn anybody(roots: Arc<RootCertStore>, provider: &CryptoProvider) -> Self {
        Self { is_member: false, ..Self::members(roots, provider) }
    }
}

impl ServerCertVerifier for OfAuthority {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _host: &ServerName<'_>,
        _ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let certificate = ParsedCertificate::try_from(end_entity)?;
        let (roots, algorithms) = (&self.roots, self.algorithms.all);
        verify_server_cert_signed_by_trust_anchor(
            &certificate,
            roots,
            intermediates,
            now,
            algorithms,
        )?;
        if !self.is_member {
            return Ok(ServerCertVerified::assertion());
        }
        let identity = identity_of(end_entity).map_err(refused)?;
        match identity.role() {
            Role::Member => Ok(ServerCertVerified::assertion()),
            _ => Err(refused(NameError::NotMember(identity))),
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, certificate, signature, &self.algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, certificate, signature, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}

/// What a server demands of a client: a certificate of our authority that names somebody.
#[derive(Debug)]
pub(super) struct AnybodyNamed {
    chain: Arc<dyn ClientCertVerifier>,
    /// Who else is turned away, where nobody asks for roles later.
    only: Option<&'static [Role]>,
}

impl AnybodyNamed {
    pub(super) fn new(
        roots: Arc<RootCertStore>,
        provider: Arc<CryptoProvider>,
    ) -> Result<Self, VerifierBuilderError> {
        let chain = WebPkiClientVerifier::builder_with_provider(roots, provider).build()?;
        Ok(Self { chain, only: None })
    }

    /// Lets in nobody but these roles.
    pub(super) fn only(self, roles: &'static [Role]) -> Self {
        Self { only: Some(roles), ..self }
    }
}

impl ClientCertVerifier for AnybodyNamed {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        self.chain.root_hint_subjects()
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        let verified = self.chain.verify_client_cert(end_entity, intermediates, now)?;
        let identity = identity_of(end_entity).map_err(refused)?;
        match self.only.is_none_or(|roles| roles.contains(&identity.role())) {
            true => Ok(verified),
            false => Err(refused(NameError::NotLetIn(identity))),
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.chain.verify_tls12_signature(message, certificate, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.chain.verify_tls13_signature(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.chain.supported_verify_schemes()
    }
}
