//! Whether a request proves who sent it. Secrets, and what clients show for them, are never told to
//! anybody, and are compared in the same time wherever they differ.

use base64::{
    Engine,
    alphabet::STANDARD,
    engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig},
};
use hmac::{Hmac, KeyInit, Mac};
use hyper::{
    HeaderMap, StatusCode,
    header::{self, HeaderValue},
};
use sha2::{Digest, Sha256, digest::Output};
use tidemill_config::{plan::Verify, reference::Text};

use super::{error::Error, refusal::Refusal, route::single};

/// What a path asks of its clients.
pub(super) enum Verifier {
    /// The digest of the token: digests compare in the same time wherever the texts differ.
    Bearer(Output<Sha256>),
    Hmac {
        header: String,
        /// Keyed; cloned for each body.
        mac: Box<Hmac<Sha256>>,
    },
}

/// The signature that a request shows, to be checked when its body is there.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Signature([u8; 32]);

impl Verifier {
    /// Looks up the secret.
    pub(super) fn new(trigger: &str, plan: &Verify) -> Result<Verifier, Error> {
        let resolve = |text: &Text| {
            let trigger = trigger.to_owned();
            match text.resolve() {
                Ok(secret) if secret.expose().is_empty() => Err(Error::EmptySecret { trigger }),
                Ok(secret) => Ok(secret),
                Err(source) => Err(Error::Secret { trigger, source }),
            }
        };
        Ok(match plan {
            Verify::Bearer(token) => Verifier::Bearer(Sha256::digest(resolve(token)?.expose())),
            Verify::HmacSha256 { header, secret } => Verifier::Hmac {
                header: header.clone(),
                mac: Box::new(
                    Hmac::new_from_slice(resolve(secret)?.expose().as_bytes())
                        .expect("HMAC takes keys of any length"),
                ),
            },
        })
    }

    /// Checks what can be checked before the body is read.
    pub(super) fn check_head(&self, headers: &HeaderMap) -> Result<Option<Signature>, Refusal> {
        match self {
            Verifier::Bearer(token) => match bearer(headers) {
                Some(shown) if Sha256::digest(shown) == *token => Ok(None),
                Some(_) => Err(unauthorized("the bearer token is not the one of this path")),
                None => Err(unauthorized(
                    "this path asks for a bearer token; send it as `Authorization: Bearer TOKEN`",
                )),
            },
            Verifier::Hmac { header, .. } => {
                let Some(value) = single(headers, header) else {
                    return Err(Refusal::new(
                        StatusCode::UNAUTHORIZED,
                        format!(
                            "this path asks for a signature; send the HMAC-SHA256 of the body in the header `{header}`, once"
                        ),
                    ));
                };
                match signature(value.as_bytes()) {
                    Some(signature) => Ok(Some(signature)),
                    None => Err(Refusal::new(
                        StatusCode::UNAUTHORIZED,
                        format!(
                            "the header `{header}` is no HMAC-SHA256; write its 32 bytes in hexadecimal or base64, with or without `sha256=` before"
                        ),
                    )),
                }
            }
        }
    }

    /// Checks the signature that [`Verifier::check_head`] found.
    pub(super) fn check_body(
        &self,
        signature: Option<&Signature>,
        body: &[u8],
    ) -> Result<(), Refusal> {
        let (Verifier::Hmac { mac, .. }, Some(signature)) = (self, signature) else {
            return Ok(());
        };
        let mac = mac.as_ref().clone().chain_update(body);
        mac.verify_slice(&signature.0).map_err(|_| {
            Refusal::new(
                StatusCode::UNAUTHORIZED,
                "the signature is not that of this body with the secret of this path",
            )
        })
    }

    /// Whether the request's `Authorization` header holds this path's secret.
    pub(super) fn is_bearer(&self) -> bool {
        matches!(self, Verifier::Bearer(_))
    }
}

/// The token of `Authorization: Bearer`.
fn bearer(headers: &HeaderMap) -> Option<&[u8]> {
    let value = single(headers, header::AUTHORIZATION.as_str())?.as_bytes();
    let (scheme, token) = value.split_at_checked("Bearer ".len())?;
    scheme
        .eq_ignore_ascii_case(b"Bearer ")
        .then(|| token.trim_ascii())
}

/// The bytes of a signature as senders write it.
fn signature(text: &[u8]) -> Option<Signature> {
    const LENIENT: GeneralPurposeConfig =
        GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent);
    const BASE64: GeneralPurpose = GeneralPurpose::new(&STANDARD, LENIENT);
    let text = text.trim_ascii();
    let text = text.strip_prefix(b"sha256=").unwrap_or(text);
    let text = str::from_utf8(text).ok()?;
    let bytes = if text.len() == 64 {
        let digits = text.bytes().all(|b| b.is_ascii_hexdigit());
        let byte = |at: usize| u8::from_str_radix(text.get(at..at + 2)?, 16).ok();
        (0..64)
            .step_by(2)
            .map(byte)
            .collect::<Option<_>>()
            .filter(|_| digits)?
    } else {
        BASE64.decode(text).ok()?
    };
    Some(Signature(Vec::<u8>::try_into(bytes).ok()?))
}

fn unauthorized(error: &'static str) -> Refusal {
    let scheme = HeaderValue::from_static("Bearer");
    Refusal::new(StatusCode::UNAUTHORIZED, error).with(header::WWW_AUTHENTICATE, scheme)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_signatures_as_senders_write_them() {
        let bytes: [u8; 32] = std::array::from_fn(|n| 7 * n as u8);
        let hex: String = bytes.iter().map(|b| format!("{b:02x}")).collect();
        let base64 = base64::engine::general_purpose::STANDARD.encode(bytes);
        for text in [
            hex.clone(),
            hex.to_uppercase(),
            format!("sha256={hex}"),
            format!(" {hex} "),
            base64.clone(),
            base64.trim_end_matches('=').to_owned(),
            format!("sha256={base64}"),
        ] {
            assert_eq!(signature(text.as_bytes()), Some(Signature(bytes)), "{text}");
        }
        for text in [
            "",
            "sha256=",
            "sha1=0000",
            &hex[1..],
            &hex.replace('0', "g"),
            &format!("+{}", &hex[1..]),
            &base64[1..],
            "\u{e9}",
        ] {
            assert_eq!(signature(text.as_bytes()), None, "{text}");
        }
    }
}
