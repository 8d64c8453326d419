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
