//! Who asks. The one place that will know users, sessions and tokens.

use actix_web::HttpRequest;
use greenroom_config::Auth;

use crate::www::Www;

/// The name of whoever reaches a port where nobody logs in.
pub(crate) const ANONYMOUS: &str = "anonymous";

/// The identity that a request acts as.
pub(crate) fn identity(www: &Www, _request: &HttpRequest) -> String {
    match www.configured().settings.www.auth {
        Auth::None => ANONYMOUS.to_owned(),
    }
}

/// The address that a request comes from, for the audit log.
pub(crate) fn address(request: &HttpRequest) -> Option<String> {
    request.peer_addr().map(|peer| peer.ip().to_canonical().to_string())
}

/// Whether a request may read the audit log. Where nobody logs in the port is open to this machine alone, and whoever reaches it may
/// do everything.
pub(crate) fn may_read_audit(www: &Www) -> bool {
    match www.configured().settings.www.auth {
        Auth::None => true,
    }
}
