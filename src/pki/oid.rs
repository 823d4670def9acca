//! Object identifiers of keys and signatures, as the value of their DER (X.690 section 8.19).

/// `rsaEncryption` (RFC 8017 appendix C).
pub(super) const RSA_ENCRYPTION: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 13, 1, 1, 1];
/// The kinds of RSA keys: the one above, and `id-RSASSA-PSS`.
pub(super) const RSA: [&[u8]; 2] = [RSA_ENCRYPTION, &[0x2a, 0x86, 0x48, 0x86, 0xf7, 13, 1, 1, 10]];
/// `id-ecPublicKey` (RFC 5480 section 2.1.1).
pub(super) const EC: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x3d, 2, 1];
/// `id-dsa` (RFC 3279 section 2.3.2).
pub(super) const DSA: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x38, 4, 1];
/// Signatures over MD2, MD5 and SHA-1: with RSA (RFC 8017 appendix C, RFC 3279 section 2.2.1, and the one
/// of OIW), ECDSA and DSA (RFC 3279 section 2.2).
pub(super) const WEAK_SIGNATURES: [&[u8]; 6] = [
    &[0x2a, 0x86, 0x48, 0x86, 0xf7, 13, 1, 1, 2],
    &[0x2a, 0x86, 0x48, 0x86, 0xf7, 13, 1, 1, 4],
    &[0x2a, 0x86, 0x48, 0x86, 0xf7, 13, 1, 1, 5],
    &[0x2b, 14, 3, 2, 29],
    &[0x2a, 0x86, 0x48, 0xce, 0x3d, 4, 1],
    &[0x2a, 0x86, 0x48, 0xce, 0x38, 4, 3],
];
