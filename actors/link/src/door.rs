//! The handshake: who knocks with a WebSocket upgrade and name and password.
//!
//! The 101 goes out at once (a stock worker gives up after 5 s); what needs longer comes after it.

use std::net::{IpAddr, Ipv4Addr};

use actix_web::guard::{Guard, GuardContext};
use actix_web::http::header::{AUTHORIZATION, RETRY_AFTER, UPGRADE};
use actix_web::web::{self, Data, Payload, ServiceConfig};
use actix_web::{HttpRequest, HttpResponse};
use actix_web_actors::ws;
use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use greenroom_runtime::Front;

use crate::directory::WorkerDirectory;
use crate::messages::{Arrive, Turned};
use crate::socket;

/// Longest name and longest password, in bytes.
const MAX_CREDENTIAL: usize = 1024;

/// Puts the door onto the shared port. To be called before other services are added: it takes only upgrades that
/// belong to workers.
pub(crate) fn configure(directory: &Front<WorkerDirectory>, config: &mut ServiceConfig) {
    let door = web::resource("/{path:.*}")
        .name("worker-link")
        .guard(WorkerUpgrade)
        .app_data(Data::new(directory.clone()))
        .to(knock);
    config.service(door);
}

/// A WebSocket upgrade outside `/ws` and `/api`, where the upgrades of pages and programs are.
struct WorkerUpgrade;

impl Guard for WorkerUpgrade {
    fn check(&self, ctx: &GuardContext<'_>) -> bool {
        let head = ctx.head();
        let path = head.uri.path();
        let is_under =
            |root: &str| path.strip_prefix(root).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
        let upgrade = head.headers().get(UPGRADE).and_then(|value| value.to_str().ok());
        upgrade.is_some_and(|value| value.eq_ignore_ascii_case("websocket"))
            && !is_under("/ws")
            && !is_under("/api")
    }
}

/// What an `Authorization` header says.
#[derive(Debug, PartialEq, Eq)]
enum Claim {
    Missing,
    Malformed,
    Pair { name: String, password: String },
}

fn claim(header: Option<&[u8]>) -> Claim {
    let Some(header) = header else { return Claim::Missing };
    pair(header).map_or(Claim::Malformed, |(name, password)| Claim::Pair { name, password })
}

/// Name and password, parted at the first colon: a password may hold one, a name cannot.
fn pair(header: &[u8]) -> Option<(String, String)> {
    let header = std::str::from_utf8(header).ok()?;
    let (scheme, encoded) = header.split_once(' ')?;
    if !scheme.eq_ignore_ascii_case("basic") {
        return None;
    }
    let decoded = String::from_utf8(BASE64.decode(encoded.trim()).ok()?).ok()?;
    let (name, password) = decoded.split_once(':')?;
    let fits = name.len() <= MAX_CREDENTIAL && password.len() <= MAX_CREDENTIAL;
    fits.then(|| (name.to_owned(), password.to_owned()))
}

async fn knock(
    request: HttpRequest,
    payload: Payload,
    directory: Data<Front<WorkerDirectory>>,
) -> HttpResponse {
    let header = request.headers().get(AUTHORIZATION).map(|value| value.as_bytes());
    let (name, password) = match claim(header) {
        Claim::Missing => return HttpResponse::Unauthorized().finish(),
        Claim::Malformed => return HttpResponse::BadRequest().finish(),
        Claim::Pair { name, password } => (name, password),
    };
    let mut response = match ws::handshake(&request) {
        Ok(response) => response,
        Err(_) => return HttpResponse::BadRequest().finish(),
    };
    let peer = request.peer_addr();
    let address = peer.map_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED), |peer| peer.ip());
    let (socket, pumps) = socket::pair(peer.map(|peer| peer.to_string()).unwrap_or_default());
    match directory.ask(Arrive { name, password, address, socket }).await {
        Ok(Ok(())) => response.streaming(pumps.start(payload)),
        Ok(Err(Turned::Unauthorized)) => HttpResponse::Unauthorized().finish(),
        Ok(Err(Turned::TooManyFailures)) => {
            HttpResponse::TooManyRequests().insert_header((RETRY_AFTER, "6")).finish()
        }
        Ok(Err(Turned::NotReady)) | Err(_) => {
            HttpResponse::ServiceUnavailable().insert_header((RETRY_AFTER, "1")).finish()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn basic(text: &str) -> Claim {
        claim(Some(format!("Basic {}", BASE64.encode(text)).as_bytes()))
    }

    #[test]
    fn credentials_are_parted_at_the_first_colon() {
        let pair = |name: &str, password: &str| Claim::Pair { name: name.into(), password: password.into() };
        assert_eq!(basic("w1:pw1"), pair("w1", "pw1"));
        assert_eq!(basic("w1:p:w:"), pair("w1", "p:w:"));
        assert_eq!(basic("ü:ß"), pair("ü", "ß"));
        assert_eq!(claim(Some(b"basic dzE6cHcx")), pair("w1", "pw1"));
    }

    #[test]
    fn other_headers_are_malformed() {
        assert_eq!(claim(None), Claim::Missing);
        assert_eq!(basic("no colon"), Claim::Malformed);
        for header in [&b"Bearer dzE6cHcx"[..], b"Basic", b"Basic !!!", b"Basic \xff", b"", b"Basic /////w=="]
        {
            assert_eq!(claim(Some(header)), Claim::Malformed, "{header:?}");
        }
        assert_eq!(basic(&format!("w:{}", "x".repeat(MAX_CREDENTIAL + 1))), Claim::Malformed);
    }
}
