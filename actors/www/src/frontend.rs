//! `/config`: what pages need to know of the server before anything else.

use actix_web::http::StatusCode;
use actix_web::http::header;
use actix_web::{HttpRequest, HttpResponse, web};
use greenroom_config::Auth;
use serde_json::{Value, json};

use crate::reply::Reply;
use crate::www::Www;

/// Answers `/config`.
pub(crate) async fn config(request: HttpRequest, www: web::Data<Www>) -> HttpResponse {
    let reply = Reply::json(StatusCode::OK, &frontend_config(&www)).with_etag();
    reply.with(header::CACHE_CONTROL, "private, no-cache").respond(&request).await
}

/// The configuration in the form that the stock page reads too.
fn frontend_config(www: &Www) -> Value {
    let configured = www.configured();
    let settings = &configured.settings;
    let url = settings.master.url.as_str();
    let versions: Vec<_> = www.versions.iter().map(|(name, version)| json!([name, version])).collect();
    json!({
        "allowed_origins": [configured.origins.origin],
        "auth": { "name": match settings.www.auth { Auth::None => "NoAuth" } },
        "authz": {},
        "avatar_methods": { "name": "local" },
        "buildbotURL": url,
        "logfileName": "http.log",
        "multiMaster": www.ro.hot().masters.size() > 1,
        "plugins": {},
        "port": www.port,
        "title": settings.master.title,
        "titleURL": url,
        "user": { "anonymous": true },
        "versions": versions,
    })
}
