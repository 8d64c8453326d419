//! `/avatar`: a small picture for a name, drawn here; nothing is fetched from elsewhere.

use std::hash::{DefaultHasher, Hash, Hasher};

use actix_web::http::StatusCode;
use actix_web::http::header;
use actix_web::{HttpRequest, HttpResponse};

use crate::query;
use crate::reply::Reply;

/// The largest picture, in pixels.
const MAX_SIZE: u32 = 512;

/// Answers `/avatar?email=…` and `/avatar?username=…`.
pub(crate) async fn avatar(request: HttpRequest) -> HttpResponse {
    let params = query::params(request.uri().query().unwrap_or(""));
    let get = |wanted: &[&str]| {
        params
            .iter()
            .find(|(name, value)| wanted.contains(&name.as_str()) && !value.is_empty())
            .map(|(_, it)| it.as_str())
    };
    // Stock pages escape the ampersand twice, so that the second parameter is called `amp;email`.
    let name = get(&["username"]).or_else(|| get(&["email", "amp;email"])).unwrap_or("");
    let size = get(&["size"]).and_then(|it| it.parse().ok()).unwrap_or(32).clamp(1, MAX_SIZE);
    let reply = Reply::new(StatusCode::OK, "image/svg+xml", picture(name, size)).with_etag();
    reply.with(header::CACHE_CONTROL, "public, max-age=86400").respond(&request).await
}

/// The initial on a colour that follows from the name. The initial is a letter or digit, or `?`: nothing to escape.
fn picture(name: &str, size: u32) -> String {
    let initial =
        name.chars().find(|c| c.is_alphanumeric()).map_or('?', |c| c.to_uppercase().next().unwrap_or(c));
    let mut hasher = DefaultHasher::new();
    name.to_lowercase().hash(&mut hasher);
    let hue = hasher.finish() % 360;
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{size}\" height=\"{size}\" viewBox=\"0 0 32 32\">\
         <rect width=\"32\" height=\"32\" rx=\"6\" fill=\"hsl({hue} 45% 40%)\"/>\
         <text x=\"16\" y=\"22\" font-family=\"sans-serif\" font-size=\"17\" text-anchor=\"middle\" \
         fill=\"#fff\">{initial}</text></svg>"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_picture_shows_the_initial_and_nothing_of_markup() {
        assert!(picture("<script>\u{e9}va", 32).contains(">S</text>"));
        assert!(picture("<&\">", 32).contains(">?</text>"));
        assert_ne!(picture("al@b.org", 32), picture("bo@b.org", 32));
        assert_eq!(picture("Al@b.org", 32), picture("al@b.org", 32));
    }
}
