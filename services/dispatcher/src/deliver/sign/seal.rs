//! Keeping the signing key from whoever reads the database or its backups: it is encrypted under a key of
//! the configuration (ChaCha20-Poly1305, RFC 8439), bound to its certificate.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use postern_runtime::config::Secret;
use ring::aead::{Aad, CHACHA20_POLY1305, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use ring::rand::{SecureRandom as _, SystemRandom};
use sha2::{Digest as _, Sha256};

/// The bytes of a key.
const KEY_BYTES: usize = 32;

/// The text is no key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("must be 32 random bytes in Base64, as `openssl rand -base64 32` makes them")]
pub struct BadKey;

/// The sealed text can't be made, or opened with this key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the signing key cannot be sealed or opened: it was changed, or its key is another")]
pub struct SealError;

/// A key of the configuration.
#[derive(Clone)]
pub struct SealingKey {
    id: String,
    key: LessSafeKey,
}

impl std::fmt::Debug for SealingKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SealingKey").field("id", &self.id).finish_non_exhaustive()
    }
}

impl SealingKey {
    /// Reads a key.
    ///
    /// # Errors
    /// When it isn't 32 bytes in Base64.
    pub fn new(text: &Secret) -> Result<Self, BadKey> {
        let bytes = STANDARD.decode(text.expose().trim()).map_err(|_| BadKey)?;
        if bytes.len() != KEY_BYTES {
            return Err(BadKey);
        }
        let key = UnboundKey::new(&CHACHA20_POLY1305, &bytes).map_err(|_| BadKey)?;
        // Says which key it is without saying anything of it.
        let digest = Sha256::new_with_prefix("postern sealing key").chain_update(&bytes).finalize();
        let id = hex::encode(digest.get(..8).unwrap_or_default());
        Ok(Self { id, key: LessSafeKey::new(key) })
    }

    /// Which key it is.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Encrypts a text that belongs to a certificate.
    ///
    /// # Errors
    /// When the machine has no randomness to give.
    pub fn seal(&self, text: &str, certificate_sha256: &str) -> Result<Vec<u8>, SealError> {
        let mut nonce = [0; NONCE_LEN];
        SystemRandom::new().fill(&mut nonce).map_err(|_| SealError)?;
        let mut bytes = text.as_bytes().to_vec();
        let bound = Aad::from(certificate_sha256.as_bytes());
        self.key
            .seal_in_place_append_tag(Nonce::assume_unique_for_key(nonce), bound, &mut bytes)
            .map_err(|_| SealError)?;
        Ok([nonce.as_slice(), &bytes].concat())
    }

    /// Decrypts what [`SealingKey::seal`] made.
    ///
    /// # Errors
    /// When it was made with another key, for another certificate, or was changed.
    pub fn open(&self, sealed: &[u8], certificate_sha256: &str) -> Result<String, SealError> {
        let (nonce, text) = sealed.split_first_chunk::<NONCE_LEN>().ok_or(SealError)?;
        let mut text = text.to_vec();
        let bound = Aad::from(certificate_sha256.as_bytes());
        let text = self
            .key
            .open_in_place(Nonce::assume_unique_for_key(*nonce), bound, &mut text)
            .map_err(|_| SealError)?;
        String::from_utf8(text.to_vec()).map_err(|_| SealError)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(byte: u8) -> SealingKey {
        SealingKey::new(&Secret::new(STANDARD.encode([byte; 32]))).unwrap()
    }

    #[test]
    fn what_is_sealed_opens_with_its_key_and_certificate_alone() {
        let sealed = key(1).seal("the key", "abc").unwrap();
        assert!(!sealed.windows(7).any(|window| window == b"the key"));
        assert_eq!(key(1).open(&sealed, "abc").unwrap(), "the key");
        assert_ne!(key(1).seal("the key", "abc").unwrap(), sealed);
        assert!(key(2).open(&sealed, "abc").is_err());
        assert!(key(1).open(&sealed, "abd").is_err());
        let mut changed = sealed.clone();
        *changed.last_mut().unwrap() ^= 1;
        assert!(key(1).open(&changed, "abc").is_err());
        assert!(key(1).open(&[], "abc").is_err());
        assert_ne!(key(1).id(), key(2).id());
    }

    #[test]
    fn a_short_key_is_refused() {
        for text in ["", "abc", "AAAA", "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA===="] {
            assert!(SealingKey::new(&Secret::new(text.to_owned())).is_err(), "{text}");
        }
    }
}
