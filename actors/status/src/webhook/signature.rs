//! The signature of a webhook: HMAC-SHA256 over the time and the body, so that neither can be changed, and an old message cannot be
//! played again.

use greenroom_config::values::Secret;
use hmac::{Hmac, Mac};
use sha2::Sha256;

/// The value of `Greenroom-Signature`: `t=SECONDS,v1=HEX`, where HEX is over `SECONDS.BODY`.
pub(super) fn signature(secret: &Secret, seconds: u64, body: &[u8]) -> Option<String> {
    // HMAC takes keys of any length; the type says otherwise.
    let mut mac = Hmac::<Sha256>::new_from_slice(secret.expose().as_bytes()).ok()?;
    mac.update(seconds.to_string().as_bytes());
    mac.update(b".");
    mac.update(body);
    let hex: String = mac.finalize().into_bytes().iter().map(|it| format!("{it:02x}")).collect();
    Some(format!("t={seconds},v1={hex}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_what_other_programs_compute() {
        // printf '1700000000.{"a":1}' | openssl dgst -sha256 -hmac key
        let signed = signature(&Secret::new("key"), 1_700_000_000, br#"{"a":1}"#).unwrap();
        assert_eq!(
            signed,
            "t=1700000000,v1=a438e398bfafc57e4396bb7fc2304422f0f768e965d073ca313cb52e22e6ad03"
        );
    }

    #[test]
    fn time_body_and_secret_all_count() {
        let signed = |secret: &str, seconds: u64, body: &str| {
            signature(&Secret::new(secret), seconds, body.as_bytes())
        };
        let one = signed("key", 17, "0.x");
        assert_ne!(one, signed("kez", 17, "0.x"));
        assert_ne!(one, signed("key", 18, "0.x"));
        assert_ne!(one, signed("key", 17, "0.y"));
        // The point between time and body keeps them apart.
        assert_ne!(one.unwrap().split_once("v1="), signed("key", 170, "x").unwrap().split_once("v1="));
    }
}
