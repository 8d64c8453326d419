//! `/ws`: the feed. The socket is a thin pump ([`pump`]): it freezes, timers included, while its peer does not read.
//! Subscriptions, deadlines and the outbox live in a task beside it ([`session`]).

mod body;
mod command;
mod limit;
mod outbox;
mod pump;
mod session;

use std::cell::Cell;
use std::rc::Rc;

use actix_http::ws::Codec;
use actix_web::http::StatusCode;
use actix_web::http::header;
use actix_web::{HttpRequest, HttpResponse, web};
use actix_web_actors::ws::{self, WebsocketContext};
use futures_util::StreamExt;

use crate::feed::Place;
use crate::reply::{Reply, retry_after_header};
use crate::www::Www;
use body::Body;
use pump::Pump;
use session::Session;

/// The largest frame, and the largest message of several frames.
const MAX_FRAME: usize = 1 << 20;

/// Answers `/ws`.
pub(crate) async fn upgrade(
    request: HttpRequest,
    payload: web::Payload,
    www: web::Data<Www>,
) -> HttpResponse {
    if !www.configured().origins.may_act(request.headers()) {
        let reply = Reply::text(StatusCode::FORBIDDEN, "pages of other sites may not listen");
        return reply.respond(&request).await;
    }
    let mut response = match ws::handshake(&request) {
        Ok(response) => response,
        Err(error) => {
            let reply = Reply::text(StatusCode::UPGRADE_REQUIRED, format!("this is a WebSocket: {error}"));
            return reply.with(header::UPGRADE, "websocket").respond(&request).await;
        }
    };
    let Some(place) = Place::take(&www) else {
        let reply = Reply::text(StatusCode::SERVICE_UNAVAILABLE, "too many open event sockets");
        return retry_after_header(reply, std::time::Duration::from_secs(30)).respond(&request).await;
    };
    let (session, ends) = Session::new(www.ro.clone(), www.stopping.subscribe());
    let too_large = Rc::new(Cell::new(false));
    let payload = limit::Limited::new(payload, too_large.clone());
    let pump = Pump::new(ends.incoming, too_large);
    let actor = WebsocketContext::with_codec(pump, payload, Codec::new().max_size(MAX_FRAME));
    actix_web::rt::spawn(async move {
        let _place = place;
        session.run().await;
    });
    response.streaming(Body::new(actor.boxed_local(), ends.outgoing, ends.close))
}
